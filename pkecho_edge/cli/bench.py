"""`pkecho-edge bench`: speed against what a user might pick instead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    JsonOption,
    QuietOption,
    SizeOption,
    console,
    parse_size,
    write_json,
)

__all__ = ["app", "peers"]

app = typer.Typer(help="Measure speed, interleaved in one run.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    pass


@app.command("peers")
def peers(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="Default: the packaged ResNet-18.", metavar="CHECKPOINT"),
    ] = None,
    size: SizeOption = "320",
    threads: Annotated[int, typer.Option(help="For every engine; 0: every core.", min=0)] = 0,
    rounds: Annotated[int, typer.Option(help="Timed calls of each engine.", min=3)] = 20,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """PyTorch eager, the lowered graph in FP32, and our INT8 clip engine on the same clip."""
    from rich.table import Table

    from pkecho_edge.bench.peers import measure_peers
    from pkecho_edge.model.checkpoint import default_checkpoint_path
    from pkecho_edge.verify.machine import machine_facts

    with Bars(quiet) as bars:
        rows = measure_peers(
            checkpoint or default_checkpoint_path(), parse_size(size), threads, rounds, bars
        )
    facts = machine_facts()
    if json:
        write_json(json, {"machine": facts, "rows": [row.to_dict() for row in rows]})
    if quiet:
        return
    table = Table("engine", "precision", "frames/s", "p50 ms", "p99 ms", "cv", "x eager")
    for row in rows:
        table.add_row(
            row.engine,
            row.precision,
            f"{row.fps:.1f}",
            f"{row.latency_ms_p50:.1f}",
            f"{row.latency_ms_p99:.1f}",
            f"{row.cv:.1%}",
            f"{row.ratio_to_eager:.2f}",
        )
    console.print(table)
    if max(row.cv for row in rows) > 0.025:
        console.print("[yellow]Noisy:[/] a coefficient of variation is above 2.5 %.")
