"""Settings of a run: one frozen dataclass per verb gives its options, its file and its record.

A field is an option: typer's annotation says what it is called, what it means and its range, and
`Setting` what only a file needs. The command line (settings_command.py), the check of a file's
values, the text that `init` writes and the record beside an output (settings_file.py) are all made
from the same fields, so they cannot come to differ.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

__all__ = ["Heading", "Option", "Setting", "check_settings", "options_of"]


@dataclass(frozen=True)
class Setting:
    """What a file needs to know of an option beside typer's annotation.

    Attributes:
        example: a value for people to start from, where the default is none.
        check: raises UsageError on a value that cannot be, whatever the other options are.
        may_be_file: a text that names a file where it ends with ".toml".
        more: a sentence for the file, where there is more room than in `--help`.
    """

    example: object = None
    check: Callable[[Any], object] | None = None
    may_be_file: bool = False
    more: str = ""


@dataclass(frozen=True)
class Heading:
    """Stands in a file above the option that it annotates."""

    text: str


@dataclass(frozen=True)
class Option:
    """One option of a verb, as its field describes it.

    Attributes:
        name: of the field, and in a file.
        type: of one value; `many` for a list of them.
        default: None for none.
        about: one or two sentences.
        metavar: what stands for a value.
        minimum, maximum: of a number; None for no limit.
        setting, heading: see there.
    """

    name: str
    type: type
    many: bool
    default: object
    about: str
    metavar: str
    minimum: float | None
    maximum: float | None
    setting: Setting
    heading: str

    @property
    def allowed(self) -> str:
        """What a file may say, in words: "a whole number, 1 to 200"."""
        words = {bool: "true or false", int: "a whole number", float: "a number"}
        text = "path" if self.type is Path else "text"
        one = words.get(self.type, f"a {text} in quotes")
        if self.many:
            one = f"a list of {text}s in quotes"
        if self.maximum is not None:
            return f"{one}, {self.minimum:g} to {self.maximum:g}"
        return one if self.minimum is None else f"{one}, {self.minimum:g} or more"


def options_of(kind: type) -> tuple[Option, ...]:
    """The options of a settings class, in order; a field without typer's annotation is none."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for field in dataclasses.fields(kind):
        notes = getattr(hints[field.name], "__metadata__", ())
        infos = [note for note in notes if isinstance(note, typer.models.ParameterInfo)]
        if not infos:
            continue
        type_, many = _value_type(typing.get_args(hints[field.name])[0])
        given = [note for note in notes if isinstance(note, Setting)]
        found.append(
            Option(
                field.name,
                type_,
                many,
                _default(field),
                (infos[0].help or "").replace("\\[", "["),
                str(infos[0].metavar or field.name.upper()),
                infos[0].min,
                infos[0].max,
                given[-1] if given else Setting(),
                "".join(note.text for note in notes if isinstance(note, Heading)),
            )
        )
    return tuple(found)


def _value_type(hint: Any) -> tuple[type, bool]:
    """`list[Path] | None` -> (Path, True)."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (arm for arm in typing.get_args(hint) if arm is not type(None))
    many = typing.get_origin(hint) is list
    return (typing.get_args(hint)[0] if many else hint), many


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def check_settings(settings: Any) -> None:
    """Every value that is not its default's by its own check; for `__post_init__`.

    Raises:
        UsageError: of the first that cannot be.
    """
    for option in options_of(type(settings)):
        value = getattr(settings, option.name)
        if option.setting.check is not None and value is not None and value != option.default:
            option.setting.check(value)
