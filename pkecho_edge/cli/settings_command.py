"""A verb's settings as its options, and `--config FILE` beside them.

defaults  <-  FILE's table [VERB]  <-  what was typed
"""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from pkecho_edge.cli.console import console, plain
from pkecho_edge.cli.settings import options_of
from pkecho_edge.cli.settings_file import read_settings

__all__ = ["settings_command"]

_RIVALS = (("data", "phantoms"), ("phantoms", "data"), ("gates", "limits"))
"""(what was typed, what of the file it takes the place of)."""

S = TypeVar("S")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings to start from, as `pkecho-edge init` writes them; what is typed wins.",
        metavar="FILE",
    ),
]


def settings_command(
    table: str, kind: type[S], verb: Callable[..., None], looks_for: str | None = None
) -> Callable[..., None]:
    """The command of a verb: its settings as options, `--config`, and the verb's own options.

    Args:
        table: of the file, named as the verb.
        kind: class of its settings.
        verb: takes them first, then its own options by name.
        looks_for: the file that is read where neither --config nor a checkpoint is typed.
    """

    def run(**given: Any) -> None:
        ctx, config = given.pop("ctx"), given.pop("config")
        values = {option.name: given.pop(option.name) for option in options_of(kind)}
        typed = {name: value for name, value in values.items() if _is_typed(ctx, name)}
        if config is None and looks_for and "checkpoint" not in typed:
            config = Path(looks_for) if os.path.lexists(looks_for) else None
        found = {} if config is None else read_settings(config, table, kind)
        if config is not None and not given.get("quiet"):
            console.print(f"Settings: {plain(config)}, table {plain(f'[{table}]')}", soft_wrap=True)
        for name, rival in _RIVALS:
            if name in typed:
                found.pop(rival, None)
        verb(kind(**(found | typed)), **given)

    hints = typing.get_type_hints(kind, include_extras=True)
    own = inspect.signature(verb, eval_str=True).parameters.values()
    parameters = [_parameter("ctx", typer.Context)]
    parameters += [_parameter(o.name, hints[o.name], o.default) for o in options_of(kind)]
    parameters += [_parameter("config", ConfigOption, None)]
    parameters += [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.name != "settings"]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__doc__ = verb.__doc__
    return run


def _parameter(
    name: str, annotation: object, default: object = inspect.Parameter.empty
) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _is_typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)  # click's enumeration, or typer's copy of it
    return source is not None and source.name == "COMMANDLINE"
