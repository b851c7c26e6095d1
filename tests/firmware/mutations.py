"""Manifests that are almost right: what an attacker, or a bit that flipped, would make of one."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

from tests.firmware.small_bundle import seal

_STRINGS = (
    "",
    " ",
    "a",
    "x" * 1000,
    "x" * 1001,
    "\N{GRINNING FACE}" * 1000,
    "tab\there",
    "line\n",
    "nul\0",
    "\x7f",
    "\xa0",
    "\xad",
    "\u200b",
    "\u202e",
    "\u2028",
    "\ud800",
    "\udc00",
    "\ue000",
    "\uffff",
    "\U0010ffff",
    "\u0378",
    "ﬀ",
    "clip",
    "stream",
    "f32",
    "u8",
    "logits",
    "frame",
    "frames",
    "history",
    "history_out",
    "none",
    "largest",
    "0" * 64,
    "0" * 63,
    "0" * 65,
    "F" * 64,
    "0" * 64 + "\n",
    "engine",
    "engine/",
    "engine/clip",
    "ENGINE/clip",
    "engine//clip",
    "engine/../engine/clip",
    "engine/.clip",
    "engine/" + "a" * 127,
    "engine/" + "a" * 128,
    "engine/" + "/".join(["a" * 77] * 3),
    "engine/" + "/".join(["a" * 77] * 3) + "b",
    "engine/Clip/net.xml",
    "reports/x",
    "golden/clip",
    "/engine/x",
    "engine\\x",
    "net.xml",
    "sbom.cdx.json",
    "SBOM.cdx.json",
    "MODEL_CARD.md",
    "manifest.json",
    "pkecho-edge/bundle/2",
    "pkecho-edge/bundle/02",
    "pkecho-edge/bundle/2\n",
    "pkecho-edge/bundle/3",
    "pkecho-edge/bundle/999999999",
    "pkecho-edge/bundle/9999999999",
    "pkecho-edge/bundle/٢",
    "pkecho-edge/bundle/",
)

_NUMBERS = (
    *(0, 1, -1, 2, 3, 8, 9, 32, 95, 96, 97, 128, 256, 257, 640, 672, 4096, 4097, 65536, 65537),
    *((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 40) + 1, 1 << 53),
    *((1 << 53) + 1, -(1 << 53), 1 << 63, 1 << 64, 10**30, 1000, 1001, -1000, -1001),
    *(0.0, -0.0, 0.5, 1.0, 1.0000000000000002, -5e-324, 5e-324, 1e-5, 0.0001, 1e15, 1e16, 1e22),
    *(1e308, 1.7976931348623157e308, float("nan"), float("inf"), 1e-7, 123456789.125, 1000.5),
)

_VALUES: tuple[Any, ...] = (None, True, False, [], {}, [[]], [1], ["a"], {"a": 1}, {"a": "b"})

_TOKENS = (
    *("{", "}", "[", "]", ",", ":", '"', "\\", "\\u", "\\ud83d", "\\ude00", "null", "true", "-"),
    *("NaN", "Infinity", "-Infinity", "0", "00", "1.", ".5", "1e", "1e5", "1E+400", "1e-400"),
    *("9007199254740992", "-9007199254740992", "9007199254740993", "99999999999999999", "-0"),
    *("\x00", "\x0b", "\x0c", "\x1f", "\ufeff", "\u2028", "/*", "//", "'", "\n", "\t", " "),
    *("[" * 40, "{" * 40, '"a":1,', '"schema":"a",', "e", "E", "+", "0x1", "nul", "\\x", "\\/"),
)

_BYTES = (b"\xff", b"\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\xe2\x82")


def mutated(document: dict[str, Any], text: bytes, chance: random.Random) -> bytes:
    """Another manifest than `text`, the canonical form of `document`; once in a while the same."""
    if chance.random() < 0.25:
        return _text_level(text, chance)
    document = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        _json_level(document, chance)
    if chance.random() < 0.75:
        document = seal(document)
    indent = chance.choice((None, 2))
    result = json.dumps(document, indent=indent, ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.05:
        return _text_level(result.encode("utf-8", "surrogatepass"), chance)
    return result.encode("utf-8", "surrogatepass")


def _text_level(text: bytes, chance: random.Random) -> bytes:
    data = bytearray(text)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((0, 1, 2, 20)))
        kind = chance.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at:end] = chance.choice(_TOKENS).encode()
        elif kind == 2:
            data[at:end] = chance.choice(_BYTES)
        elif kind == 3:
            data[at:at] = data[at:end]
        else:
            del data[at:end]
    return bytes(data)


def _json_level(document: dict[str, Any], chance: random.Random) -> None:
    """Change one value, key or item, at any depth; sections are as likely as what is in them."""
    place: Any = document
    while True:
        keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
        inner = [k for k in keys if isinstance(place[k], dict | list) and place[k]]
        if not keys or not inner or chance.random() < 0.3:
            break
        place = place[chance.choice(inner)]
    if not keys:
        return
    key = chance.choice(keys)
    action: Callable[[Any, Any, random.Random], None] = chance.choice(
        (_replace, _replace, _alter, _alter, _alter, _remove, _add, _swap)
    )
    action(place, key, chance)


def _replace(place: Any, key: Any, chance: random.Random) -> None:
    kinds = {str: _STRINGS, int: _NUMBERS, float: _NUMBERS}
    choices = kinds.get(type(place[key]), _VALUES)
    if chance.random() < 0.15:
        choices = (*_VALUES, *_STRINGS, *_NUMBERS)
    place[key] = copy.deepcopy(chance.choice(choices))


def _alter(place: Any, key: Any, chance: random.Random) -> None:
    """A value close to the one it was."""
    value = place[key]
    if isinstance(value, bool) or value is None:
        place[key] = chance.choice(_VALUES)
    elif isinstance(value, int):
        place[key] = chance.choice((value + 1, value - 1, float(value), str(value), value * 2))
    elif isinstance(value, float):
        place[key] = chance.choice((int(value), -value, value * (1 + 2**-52), value / 3))
    elif isinstance(value, str):
        at = chance.randrange(len(value) + 1)
        added = chance.choice(("", "/", ".", "A", "é", "\0", " ", "\N{GRINNING FACE}", "0"))
        place[key] = chance.choice(
            (value[:at] + added + value[at:], value[:at] + value[at + 1 :], value.swapcase())
        )
    elif isinstance(value, list):
        chance.shuffle(value)


def _remove(place: Any, key: Any, chance: random.Random) -> None:
    del place[key]


def _add(place: Any, key: Any, chance: random.Random) -> None:
    value = copy.deepcopy(place[key])
    if isinstance(place, list):
        place.insert(chance.randrange(len(place) + 1), value)
    else:
        place[chance.choice((*_STRINGS, f"{key}2", "limit", "unit"))] = value


def _swap(place: Any, key: Any, chance: random.Random) -> None:
    other = chance.choice(list(place) if isinstance(place, dict) else list(range(len(place))))
    place[key], place[other] = place[other], place[key]
