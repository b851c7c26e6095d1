"""Make docs/cli.md, the reference of the command line.

    python docs/make_cli_reference.py

It is read from what the verbs declare (names, types, defaults, ranges and help), not from what
`--help` prints: that depends on the terminal and on the release of typer and rich.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from pkecho_edge.cli.verbs import VERBS, build_app

PAGE = Path(__file__).with_name("cli.md")
COMMAND = "python docs/make_cli_reference.py"

APP = build_app(*VERBS)

BAR = "\\|"
"""A | that does not end a cell."""

_EVERYWHERE = ("quiet", "debug")
"""Options that every verb has; they are told once."""

_HEAD = f"""\
# The command line

Every command, argument and option. `pkecho-edge COMMAND --help` says the same on the terminal.
Exit codes are in the [README](../README.md#exit-codes), the error lines that are met first in
[troubleshooting](troubleshooting.md), settings as a file in [configuration](configuration.md).

Every command has `--help`, `--debug` (show the traceback of an error) and `--quiet`, `-q` (print
errors only). `pkecho-edge --version` shows the version.

This page is made by `{COMMAND}`; a test fails where it is stale.
"""


@dataclass(frozen=True)
class Parameter:
    """One argument or option.

    Attributes:
        name: of the function's parameter.
        usage: as it is typed: `--size SIZE`, `BUNDLE`.
        default: for people; "" where there is none to tell.
        about: its help, as Markdown, with its range.
    """

    name: str
    usage: str
    required: bool
    argument: bool
    repeats: bool
    default: str
    about: str


@dataclass(frozen=True)
class Verb:
    """A command: "bench peers", what it does, its parameters in order."""

    name: str
    about: str
    parameters: tuple[Parameter, ...]

    @property
    def line(self) -> str:
        """How it is called."""
        words = ["pkecho-edge", self.name]
        for each in self.parameters:
            if each.argument:
                usage = f"{each.usage}..." if each.repeats else each.usage
                words.append(usage if each.required else f"[{usage}]")
        words += [each.usage for each in self.parameters if each.required and not each.argument]
        return " ".join([*words, "[OPTIONS]"])


def verbs(of: typer.Typer = APP, before: str = "") -> Iterator[Verb]:
    """Every verb and sub-verb, by name."""
    found: dict[str, Callable[[], Iterator[Verb]]] = {}
    for info in of.registered_commands:
        assert info.name
        assert info.callback
        name, callback = f"{before}{info.name}", info.callback
        found[name] = lambda name=name, callback=callback: iter([_verb(name, callback)])
    for group in of.registered_groups:
        assert group.name
        assert group.typer_instance
        name, inner = f"{before}{group.name}", group.typer_instance
        found[name] = lambda name=name, inner=inner: verbs(inner, f"{name} ")
    for name in sorted(found):
        yield from found[name]()


def _verb(name: str, callback: Callable[..., Any]) -> Verb:
    parameters = inspect.signature(callback, eval_str=True).parameters.values()
    known = [_parameter(each) for each in parameters if each.annotation is not typer.Context]
    return Verb(name, inspect.cleandoc(callback.__doc__ or ""), tuple(filter(None, known)))


def _parameter(declared: inspect.Parameter) -> Parameter | None:
    """None for one that is hidden."""
    hint, *notes = typing.get_args(declared.annotation)
    (info,) = (note for note in notes if isinstance(note, typer.models.ParameterInfo))
    if info.hidden:
        return None
    kind, repeats = _kind(hint)
    argument = isinstance(info, typer.models.ArgumentInfo)
    required = declared.default is inspect.Parameter.empty
    return Parameter(
        declared.name,
        _usage(declared.name, info, kind, argument),
        required,
        argument,
        repeats,
        "" if required else _default(declared.default, info),
        " ".join(filter(None, (_markdown(info.help or ""), _range(info), "Repeatable." * repeats))),
    )


def _kind(hint: Any) -> tuple[type, bool]:
    """`list[Path] | None` -> (Path, True)."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (arm for arm in typing.get_args(hint) if arm is not type(None))
    repeats = typing.get_origin(hint) is list
    return (typing.get_args(hint)[0] if repeats else hint), repeats


def _usage(name: str, info: typer.models.ParameterInfo, kind: type, argument: bool) -> str:
    metavar = str(info.metavar or "").strip("[]")
    if argument:
        return metavar or name.upper()
    told = (info.default, *(info.param_decls or ()))  # in Annotated the first name is the default
    declared = [each for each in told if isinstance(each, str) and each.startswith("-")]
    names = declared or [f"--{name.replace('_', '-')}"]
    if kind is bool:
        return ", ".join(names if declared else [names[0], f"--no-{names[0][2:]}"])
    words = {int: "INTEGER", float: "NUMBER", Path: "PATH"}
    return f"{', '.join(names)} {metavar or words.get(kind, 'TEXT')}"


def _default(value: object, info: typer.models.ParameterInfo) -> str:
    if value is None or value is False or value == [] or info.show_default is False:
        return ""
    if value is True:
        return "on"
    return f"`{', '.join(map(str, value)) if isinstance(value, list) else value}`"


def _range(info: typer.models.ParameterInfo) -> str:
    if info.min is not None and info.max is not None:
        return f"{info.min:g} to {info.max:g}."
    return "" if info.min is None else f"{info.min:g} or more."


def _markdown(text: str) -> str:
    """Help, on one line, safe in a table and outside of code."""
    line = " ".join(text.replace("\\[", "[").split())
    parts = re.split(r"(`[^`]*`)", line.replace("|", BAR))
    return "".join(p if p.startswith("`") else re.sub(r"([*_<])", r"\\\1", p) for p in parts)


def page() -> str:
    """The whole of docs/cli.md."""
    found = list(verbs())
    rows = [
        f"| [`{verb.name}`](#pkecho-edge-{verb.name.replace(' ', '-')}) | "
        f"{_markdown(verb.about.partition(chr(10) * 2)[0])} |"
        for verb in found
    ]
    overview = "\n".join(["| command | what it does |", "|---|---|", *rows])
    parts = [_HEAD, overview, *map(_section, found)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _section(verb: Verb) -> str:
    about = "\n\n".join(map(_markdown, verb.about.split("\n\n")))
    parts = [f"## pkecho-edge {verb.name}", about, f"```text\n{verb.line}\n```"]
    shown = [each for each in verb.parameters if each.name not in _EVERYWHERE]
    if shown:
        rows = [
            f"| `{each.usage.replace('|', BAR)}` | "
            f"{'required' if each.required else each.default} | {each.about} |"
            for each in shown
        ]
        parts.append(
            "\n".join(["| argument or option | default | meaning |", "|---|---|---|", *rows])
        )
    return "\n\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
