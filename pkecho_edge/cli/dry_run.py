"""`--dry-run`: what a run would do, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.console import console, plain, write_json

if TYPE_CHECKING:
    from pkecho_edge.planning import Planned

__all__ = ["DryRunOption", "show_plan"]

DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Only show the stages, which are cached, and how long each took before."
    ),
]


def show_plan(plan: Sequence[Planned], json: Path | None, quiet: bool) -> None:
    """Print a plan; with --json that file is all that is written."""
    if json:
        write_json(json, {"dry_run": True, "stages": [each.as_dict() for each in plan]})
    if quiet:
        return
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, title="Dry run: nothing is written", title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("state")
    table.add_column("expected", justify="right", no_wrap=True)
    measured = any(each.seconds for each in plan)
    if measured:  # else it would take room from the rest
        table.add_column("measured before", overflow="fold")
    for each in plan:
        state = {
            "to do": "to do",
            "cached": "cached",
            "always": "every time",
            "depends": f"depends on: {each.depends_on}",
            "refused": f"refused: {each.refusal}",
        }[each.state]
        expected = each.expected_s
        table.add_row(
            plain(each.stage),
            plain(state),
            "not known yet" if expected is None else _duration(expected),
            *([_measured(each.seconds)] if measured else []),
        )
    console.print(table)
    console.print(_total(plan), soft_wrap=True)


def _total(plan: Sequence[Planned]) -> str:
    """The sum of what is known, and how much of it is open."""
    known = sum(each.expected_s or 0.0 for each in plan)
    unknown = sum(each.expected_s is None for each in plan)
    waiting = sum(each.state == "depends" for each in plan)
    nothing = unknown > 0 and not known  # what is cached takes no time
    said = "Expected: not known yet" if nothing else f"Expected: {_duration(known)}"
    if unknown and known:
        said += f", and {_stages(unknown)} whose time is not known yet"
    if waiting:
        said += f"; {_stages(waiting)} may turn out to be cached"
    if any(each.seconds for each in plan):
        said += ". Medians of earlier runs with this cache, on such a processor"
    return f"{said}."


def _stages(count: int) -> str:
    return "1 stage" if count == 1 else f"{count} stages"


def _measured(seconds: Sequence[float]) -> str:
    """ "3 runs, 1.2 s to 1.9 s"."""
    if not seconds:
        return "-"
    low, high = _duration(min(seconds)), _duration(max(seconds))
    if len(seconds) == 1:
        return f"1 run, {low}"
    return f"{len(seconds)} runs, {low} to {high}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
