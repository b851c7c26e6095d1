"""Settings as a TOML file: read and checked, written by `init`, kept beside what a run made."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from pkecho_edge.cli.console import check_file, write_text
from pkecho_edge.cli.settings import Option, options_of
from pkecho_edge.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["CONFIG", "check_record", "read_settings", "settings_text", "write_record"]

CONFIG = "pkecho-edge.toml"
"""What `init` writes, and what `compile` reads where no CHECKPOINT is given."""

_TABLES = ("compile", "prune", "tune")
_GATES, _LIMITS = "gates", "limits"
_WIDTH = 92
_LARGEST_BYTES = 1 << 20


def read_settings(path: Path, table: str, kind: type) -> dict[str, Any]:
    """What a file sets, by the names of the fields; paths are relative to the file.

    A table [gates] beside it becomes `limits`, complete, where the class has such a field.

    Raises:
        UsageError: no such file, no TOML, no such table, an unknown name, or a value of another
            type or outside its range: file, name and what is allowed are named.
    """
    document = _document(path)
    if unknown := sorted(set(document) - {*_TABLES, _GATES}):
        raise UsageError(
            f"{unknown[0]!r} is no table of settings",
            path=path,
            remedy=f"Use {', '.join(f'[{name}]' for name in (*_TABLES, _GATES))}",
        )
    values = document.get(table)
    if not isinstance(values, dict):
        raise UsageError(
            f"it has no table [{table}]",
            path=path,
            remedy=f"Write the settings below a line [{table}]: pkecho-edge init shows how",
        )
    known = {option.name: option for option in options_of(kind)}
    found = {name: _value(known, name, value, path, table) for name, value in values.items()}
    for name, value in found.items():
        try:
            kind(**{name: value})
        except UsageError as error:
            raise UsageError(f"{name}: {error.what}", path=path, remedy=error.remedy) from error
    if _GATES in document and _LIMITS in {field.name for field in dataclasses.fields(kind)}:
        found[_LIMITS] = _limits(document[_GATES], found, path)
    return found


def _document(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
        if len(data) > _LARGEST_BYTES:
            raise ValueError(f"it is larger than {_LARGEST_BYTES >> 20} MiB")
        return tomllib.loads(data.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"the settings cannot be read ({reason})",
            path=path,
            remedy="Give a TOML file as pkecho-edge init writes it",
        ) from error


def _value(known: Mapping[str, Option], name: str, value: object, path: Path, table: str) -> object:
    """A value of a file as its field holds it; UsageError as `read_settings`."""
    if name not in known:
        close = get_close_matches(name.replace("-", "_"), known, n=1)
        raise UsageError(
            f"{name!r} is no setting of {table}",
            path=path,
            remedy=f"Did you mean {close[0]}?" if close else f"Use one of {', '.join(known)}",
        )
    option = known[name]
    single = value if isinstance(value, list) and option.many else [value]
    if option.many is not isinstance(value, list) or not all(_fits(option, v) for v in single):
        raise UsageError(
            f"{name} is {_short(value)}", path=path, remedy=f"It takes {option.allowed}"
        )
    taken = [_converted(option, each, path) for each in single]
    return taken if option.many else taken[0]


def _fits(option: Option, value: object) -> bool:
    """Whether a value has the option's type and lies in its range."""
    if option.type in (int, float):
        whole = type(value) is int
        if not whole and not (option.type is float and type(value) is float):
            return False
        low, high = option.minimum, option.maximum
        number = cast(float, value)
        return (low is None or number >= low) and (high is None or number <= high)
    if option.type is bool:
        return type(value) is bool
    return isinstance(value, str) and value.strip() != "" and "\0" not in value


def _converted(option: Option, value: object, path: Path) -> object:
    if option.type is float:
        too_large = type(value) is int and abs(value) >= 10**15
        return math.inf if too_large else float(cast(float, value))
    if option.type is Path:
        return path.parent / str(value)
    if option.setting.may_be_file and str(value).endswith(".toml"):
        return str(path.parent / str(value))
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _limits(table: object, found: Mapping[str, object], path: Path) -> dict[str, float]:
    """The limits of a table [gates] over the default ones."""
    from pkecho_edge.verify.gates import DEFAULT_LIMITS, check_limits

    if not isinstance(table, dict):
        raise UsageError("gates is no table", path=path, remedy="Write limits below [gates]")
    if _GATES in found:
        raise UsageError(
            "it names a gates file and has a table [gates]", path=path, remedy="Keep one of them"
        )
    check_limits(table, path)
    return {**DEFAULT_LIMITS, **{name: float(limit) for name, limit in table.items()}}


def settings_text(table: str, settings: Any, heading: Sequence[str], folder: Path) -> str:
    """A whole file: every option with what it means, what it may be, and its value.

    An option that has no value stands there as a comment. Its `limits` are a table [gates].

    Args:
        table: named as the verb.
        settings: of a settings class.
        heading: lines of comment above all.
        folder: where the file will lie; relative paths are rewritten to start from there.
    """
    lines = [f"# {line}".rstrip() for line in heading] + ["", f"[{table}]"]
    for option in options_of(type(settings)):
        if option.heading:
            lines += ["", f"## {option.heading}"]
        lines += ["", *_entry(option, getattr(settings, option.name), folder)]
    if (limits := getattr(settings, _LIMITS, None)) is not None:
        lines += ["", *_gates_lines(limits)]
    return "\n".join(lines) + "\n"


def _entry(option: Option, value: object, folder: Path) -> Iterator[str]:
    about = option.about.rstrip(".") or option.name
    more = f" {option.setting.more}" if option.setting.more else ""
    about = f"{about[0].upper()}{about[1:]}.{more} Takes {option.allowed}."
    yield from textwrap.wrap(about, _WIDTH, initial_indent="# ", subsequent_indent="# ")
    if value is None:
        example = option.setting.example
        shown = _literal(option.metavar if example is None else example)
        yield f"# {option.name} = {f'[{shown}]' if option.many else shown}"
        return
    if option.setting.may_be_file and str(value).endswith(".toml"):
        value = Path(str(value))
    moved = [_moved(v, folder) for v in value] if isinstance(value, list) else _moved(value, folder)
    try:
        text = _literal(moved)
        text.encode()
    except UnicodeEncodeError:  # a file name in another encoding: no TOML can hold it
        yield f"# {option.name} = {str(value)!a}, which is not Unicode: type it instead"
        return
    yield f"{option.name} = {text}"


def _moved(value: object, folder: Path) -> object:
    """A relative path as seen from a folder; absolute where links would lead it elsewhere."""
    if not isinstance(value, Path) or value.is_absolute():
        return value
    there = value.absolute()
    moved = os.path.relpath(there, folder.absolute())  # folds "link/.." as text
    if os.path.realpath(folder / moved) != os.path.realpath(there):
        return there
    return Path(moved)


def _literal(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _gates_lines(limits: Mapping[str, float]) -> Iterator[str]:
    from pkecho_edge.verify.gates import AT_LEAST, OPTIONAL_LIMITS, UNITS

    yield "# Limits of verification. A failed gate ends with exit code 3 (accuracy) or 4 (speed)."
    yield "[gates]"
    for name, limit in limits.items():
        yield f"{name} = {limit!r}  # {UNITS[name]}, at {'least' if name in AT_LEAST else 'most'}"
    more = [name for name in OPTIONAL_LIMITS if name not in limits]
    if more:
        named = ", ".join(f"{name} ({UNITS[name]})" for name in more)
        yield from textwrap.wrap(
            f"Also possible: {named}.", _WIDTH, initial_indent="# ", subsequent_indent="# "
        )


def check_record(path: Path, table: str) -> None:
    """Refuse, before any work is done, a place that `write_record` could not or must not write.

    Raises:
        UsageError: as `check_file`, or what is there is not a verb's record and nothing else: a
            person's own settings, or a record to which somebody added other tables.
    """
    check_file(path)
    if os.path.lexists(path) and not _is_sole_record(path, table):
        raise UsageError(
            f"exists and is no record of `pkecho-edge {table}`, so it is not overwritten",
            path=path,
            remedy="Choose another --out, or another place for that file",
        )


def _is_sole_record(path: Path, table: str) -> bool:
    from pkecho_edge.records import is_record

    try:
        return is_record(path) and set(_document(path)) <= {table, _GATES}
    except UsageError:
        return False


def write_record(path: Path, table: str, settings: Any, facts: Sequence[str] = ()) -> None:
    """The settings of a run that is over, for `--config`.

    Args:
        path: of the file; an earlier record is replaced.
        table, settings: as `settings_text`, everything resolved.
        facts: lines on what came of it.

    Raises:
        UsageError: as `check_record`, or it cannot be written.
    """
    from pkecho_edge import __version__
    from pkecho_edge.records import HEADING

    check_record(path, table)
    again = f"pkecho-edge {table} --config {_on_one_line(path.name)}"
    heading = [f"{HEADING}{table}`, version {__version__}.", *facts]
    heading += ["Once more, with another --out:", f"    {again}"]
    write_text(path, settings_text(table, settings, heading, path.parent))


def _on_one_line(name: str) -> str:
    """Control characters as escapes: no TOML may hold them, not even in a comment."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )
