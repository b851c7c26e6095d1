"""JSON as bundles use it: one canonical way to write it, and a reader that accepts no surprises."""

from __future__ import annotations

import json
import math
from typing import NoReturn, TypeAlias

__all__ = ["MAX_BYTES", "Json", "canonical_json", "parse_json"]

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

MAX_BYTES = 4 << 20
"""No JSON file of a bundle is larger: 4 MiB."""

_MAX_DEPTH = 32
_MAX_INTEGER = 1 << 53  # beyond it, readers that keep numbers as doubles disagree


def canonical_json(value: object) -> str:
    """Sorted keys, two spaces, ASCII only, one newline at the end: equal values, equal bytes.

    Raises:
        ValueError: a number is not finite.
        TypeError: something in it has no JSON form.
    """
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def parse_json(data: str | bytes) -> Json:
    """Parse text that may come from an attacker.

    Raises:
        ValueError: larger than MAX_BYTES, not UTF-8, not JSON, a key twice in one object, NaN or
            an infinity, an integer beyond 2^53, half a surrogate pair, or deeper than 32 levels.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value: Json = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} in line {error.lineno}") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    except RecursionError:
        raise ValueError(f"is nested deeper than {_MAX_DEPTH} levels") from None
    _check(value, depth=0)
    return value


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result: dict[str, Json] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"has the key {key[:60]!a} twice in one object")
        result[key] = value
    return result


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"holds {text}, which is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("holds a number beyond the range of a double")
    return value


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > _MAX_INTEGER:
        raise ValueError("holds an integer beyond 2^53")
    return int(text)


def _check(value: Json, depth: int) -> None:
    """Limits on what json.loads itself accepts: depth, and text that cannot be encoded."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("holds half a surrogate pair")
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth + 1)
            _check(item, depth + 1)
