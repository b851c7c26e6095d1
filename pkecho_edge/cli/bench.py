"""`pkecho-edge bench`: speed against what a user might pick instead."""

from __future__ import annotations

from typing import Annotated

import typer

from pkecho_edge.cli import bench_bundle, bench_layers, bench_peers, bench_roofline, bench_scaling
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

__all__ = ["app", "efficiency"]

app = typer.Typer(help="Measure speed, interleaved in one run.", no_args_is_help=True)
app.command("peers")(bench_peers.peers)
app.command("roofline")(bench_roofline.roofline)
app.command("layers")(bench_layers.layers)
app.command("scaling")(bench_scaling.scaling)
app.command("startup")(bench_bundle.startup)
app.command("overhead")(bench_bundle.overhead)


@app.callback()
def _bench() -> None:
    pass


@app.command("efficiency")
def efficiency(
    size: SizeOption = "320",
    threads: Annotated[int, typer.Option(help="Of PyTorch; 0: its own choice.", min=0)] = 0,
    rounds: Annotated[int, typer.Option(help="Timed clips of each backbone.", min=3)] = 10,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """The paper's Table 2: GMACs, parameters and eager FP32 speed of the three backbones."""
    from rich.table import Table

    from pkecho_edge.bench.efficiency import PAPER_DEVICE, PAPER_SIZE, measure_efficiency
    from pkecho_edge.verify.machine import machine_facts
    from pkecho_edge.verify.speed import CV_LIMIT

    shape = parse_size(size)
    with Bars(quiet) as bars:
        rows = measure_efficiency(shape, threads, rounds, bars)
    if json:
        write_json(json, {"machine": machine_facts(), "rows": [row.to_dict() for row in rows]})
    if quiet:
        return
    table = Table(title=f"PyTorch eager, FP32, {shape[0]}x{shape[1]}; threads: {rows[0].threads}")
    table.add_column("backbone")
    for header in ("GMACs/clip", "paper", "parameters (M)", "paper", "frames/s", "paper"):
        table.add_column(header, justify="right", style="dim" if header == "paper" else None)
    for row in rows:
        table.add_row(
            row.backbone,
            f"{row.gmacs:.1f}",
            f"{row.paper.gmacs:g}",
            f"{row.parameters_m:.2f}",
            f"{row.paper.parameters_m:g}",
            f"{row.fps:.1f}",
            f"{row.paper.fps:g}",
        )
    console.print(table)
    console.print(f"The paper: {PAPER_DEVICE}, {PAPER_SIZE[0]}x{PAPER_SIZE[1]}.", style="dim")
    if shape != PAPER_SIZE:
        console.print("GMACs and frames/s grow with the size: compare at the paper's.", style="dim")
    if not all(row.cv <= CV_LIMIT for row in rows):  # nan counts as noisy
        console.print("[yellow]Noisy:[/] a coefficient of variation is above 2.5 %.")
