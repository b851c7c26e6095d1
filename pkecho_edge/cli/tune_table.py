"""The live table of `pkecho-edge tune`: every candidate as it comes, and what is going on below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from pkecho_edge.cli.console import console, plain

if TYPE_CHECKING:
    from pkecho_edge.tuning.search import Candidate, Scored

__all__ = ["TuneTable", "candidates_table"]


class TuneTable:
    """Redrawn in place on a terminal; elsewhere one line per stage, and the table at the end."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._rows: Sequence[Scored] = ()
        self._chosen: Candidate | None = None
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._live = Live(console=console, get_renderable=self._drawn, refresh_per_second=4)
        self._task: TaskID | None = None
        self._stage = ""

    def scored(self, rows: Sequence[Scored]) -> None:
        """Every candidate so far; see searching.Table."""
        self._rows = rows

    def mark(self, chosen: Candidate) -> None:
        """The candidate that was taken."""
        self._chosen = chosen

    def start(self, stage: str, total: int | None) -> None:
        """See stages.Observer."""
        self._forget()
        self._stage = stage
        self._task = self._progress.add_task(plain(stage), total=total)

    def advance(self) -> None:
        """See stages.Observer."""
        if self._task is not None:
            self._progress.advance(self._task)

    def describe(self, text: str) -> None:
        """See stages.Observer."""
        if self._task is not None:
            described = f"{plain(self._stage)}  {plain(text)}"
            self._progress.update(self._task, description=described)

    def done(self, note: str) -> None:
        """See stages.Observer."""
        self._forget()
        if not self._quiet and not console.is_terminal:
            console.print(f"[green]✓[/] {plain(self._stage)}: {plain(note)}", soft_wrap=True)

    def _forget(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def _drawn(self) -> Group:
        table = candidates_table(self._rows, self._chosen)
        return Group(*[table] * bool(self._rows), self._progress)

    def __enter__(self) -> TuneTable:
        if not self._quiet and console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget()  # what was cut short leaves no bar behind
        if not self._quiet and console.is_terminal:
            self._live.stop()
        elif not self._quiet and self._rows:
            console.print(candidates_table(self._rows, self._chosen))


def candidates_table(rows: Sequence[Scored], chosen: Candidate | None = None) -> Table:
    """Candidates in the order in which they were tried; below them what speaks against which.

    Args:
        rows: what came of them.
        chosen: the one to mark; None for none.
    """
    table = Table(title="candidates; drifts are upper ends of 95 % intervals", title_justify="left")
    table.add_column("network", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    for name in ("GMACs", "frames/s", "DSC drift", "EF drift", "HD95 drift"):
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    table.add_column("budget", no_wrap=True)
    for row in rows:
        is_chosen = row.candidate == chosen
        network = row.candidate.network
        table.add_row(
            plain(network),
            plain(row.candidate.label.removeprefix(network).strip()),
            _figure(row.gmacs, 2),
            _figure(row.fps, 0),
            _figure(row.dsc_drift_high, 2),
            _figure(row.ef_drift, 2),
            _figure(row.hd95_drift, 2),
            _verdict(row, is_chosen),
            style="bold" if is_chosen else "",
        )
    # Of what failed the remedy is in tune.json.
    notes = [f"{r.candidate.label}: {r.against.partition('. ')[0]}" for r in rows if r.against]
    if notes:
        table.caption = "\n".join(map(plain, notes))
        table.caption_justify = "left"
    return table


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _verdict(row: Scored, is_chosen: bool) -> str:
    if row.against:
        return f"[red]{'failed' if row.failed else 'outside'}[/]"
    return "[green]chosen[/]" if is_chosen else "[green]inside[/]"
