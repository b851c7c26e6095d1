"""`pkecho-edge bench peers`: everything a user might pick instead, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.bench_options import (
    BackboneOption,
    RoundsOption,
    ThreadsOption,
    WeightsArgument,
    narrow_table,
    warn_if_noisy,
)
from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    JsonOption,
    QuietOption,
    SizeOption,
    console,
    parse_size,
    plain,
    write_json,
)

if TYPE_CHECKING:
    from rich.table import Table

    from pkecho_edge.bench.peers import PeerRow

__all__ = ["peers"]


def peers(
    checkpoint: WeightsArgument = None,
    backbone: BackboneOption = None,
    size: SizeOption = "320",
    threads: ThreadsOption = 0,
    rounds: RoundsOption = 10,
    compiler: Annotated[
        bool, typer.Option("--torch-compile/--no-torch-compile", help="It takes a minute.")
    ] = True,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """PyTorch, the unlowered export in each toolchain, and our clip and stream engines."""
    from pkecho_edge.bench.networks import choose_network
    from pkecho_edge.bench.peers import measure_peers, peer_ratios
    from pkecho_edge.verify.machine import machine_facts

    shape = parse_size(size)
    chosen = choose_network(checkpoint, backbone)
    with Bars(quiet) as bars:
        result = measure_peers(chosen, shape, threads, rounds, bars, with_compiler=compiler)
    ratios = peer_ratios(result.rows)
    if json:
        write_json(
            json,
            {
                "machine": machine_facts(),
                "weights": chosen.weights,
                "threads": threads,
                "rows": [row.to_dict() for row in result.rows],
                "ratios": {ratio.label: ratio.value for ratio in ratios},
                "notes": list(result.notes),
            },
        )
    if quiet:
        return
    console.print(f"{chosen.backbone}, {plain(chosen.weights)}, {shape[0]}x{shape[1]}")
    _print_speed(result.rows)
    _print_cost(result.rows)
    for ratio in ratios:
        console.print(f"{ratio.value:6.2f} x  {ratio.label}", soft_wrap=True)
    for note in result.notes:
        console.print(plain(note), style="dim", soft_wrap=True)
    warn_if_noisy(result.rows)


def _print_speed(rows: Sequence[PeerRow]) -> None:
    live = {(row.engine, row.precision): row.fps for row in rows if row.mode == "sliding"}
    table = narrow_table("engine", "precision")
    for header in ("recorded\nframes/s", "live\nresults/s", "p50\nms", "p99\nms", "cv", "x eager"):
        table.add_column(header, justify="right")
    for row in _each_engine(rows, table):
        live_fps = row.fps if row.mode == "stream" else live[row.engine, row.precision]
        table.add_row(
            row.engine,
            row.precision.replace(" ", ""),
            f"{row.fps:.1f}",
            f"{live_fps:.1f}",
            _short(row.latency_ms_p50),
            _short(row.latency_ms_p99),
            f"{row.cv:.1%}",
            f"{row.ratio_to_eager:.2f}",
        )
    console.print(table)


def _print_cost(rows: Sequence[PeerRow]) -> None:
    table = narrow_table("engine", "precision")
    for header in ("files MB", "load ms", "memory MB"):
        table.add_column(header, justify="right")
    for row in _each_engine(rows, table):
        table.add_row(
            row.engine,
            row.precision.replace(" ", ""),
            f"{row.size_mb:.1f}",
            "-" if row.load_ms is None else f"{row.load_ms:.0f}",
            "-" if row.memory_mb is None else f"{row.memory_mb:.0f}",
        )
    console.print(table)


def _each_engine(rows: Sequence[PeerRow], table: Table) -> Iterator[PeerRow]:
    """Every engine once: those that take clips, and below a heading those that take frames."""
    yield from (row for row in rows if row.mode == "clip")
    table.add_section()
    table.add_row("[bold]one push per frame[/]")
    yield from (row for row in rows if row.mode == "stream")


def _short(ms: float) -> str:
    return f"{ms:.1f}" if ms < 1000 else f"{ms:.0f}"
