"""`pkecho-edge bench layers`: where an engine's time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.bench_options import (
    BackboneOption,
    PrecisionOption,
    ThreadsOption,
    WeightsArgument,
    narrow_table,
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
    from pkecho_edge.bench.layers import LayersResult

__all__ = ["layers"]


def layers(
    checkpoint: WeightsArgument = None,
    backbone: BackboneOption = None,
    size: SizeOption = "320",
    mode: Annotated[str, typer.Option(help="clip or stream.", metavar="clip|stream")] = "clip",
    precision: PrecisionOption = "f32",
    top: Annotated[int, typer.Option(help="Print so many layers.", min=0)] = 20,
    threads: ThreadsOption = 0,
    runs: Annotated[
        int, typer.Option(help="Timed, in up to five blocks whose median counts.", min=3)
    ] = 20,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """OpenVINO's profile of our INT8 engine, by layer, part of the network and kind."""
    from pkecho_edge.bench.layers import measure_layers
    from pkecho_edge.bench.networks import choose_network
    from pkecho_edge.verify.machine import machine_facts

    shape = parse_size(size)
    chosen = choose_network(checkpoint, backbone)
    with Bars(quiet) as bars:
        result = measure_layers(chosen, shape, mode, precision, threads, runs, bars)
    if json:
        facts = {
            "machine": machine_facts(),
            "weights": chosen.weights,
            "backbone": chosen.backbone,
            "size": shape,
            "threads": threads,
        }
        write_json(json, {**facts, **result.to_dict()})
    if quiet:
        return
    console.print(
        f"{chosen.backbone}, {plain(chosen.weights)}, {shape[0]}x{shape[1]}, {result.mode}, "
        f"{result.precision}: {result.wall_ms:.2f} ms, all layers {result.layers_ms:.2f} ms",
        soft_wrap=True,
    )
    _print(result, top)


def _print(result: LayersResult, top: int) -> None:
    from pkecho_edge.bench.layers import group_by

    for title, groups in (
        ("part", group_by(result.rows, lambda row: row.part)),
        ("kind", group_by(result.rows, lambda row: row.kind)),
    ):
        table = narrow_table(title)
        for header in ("layers", "ms", "share"):
            table.add_column(header, justify="right")
        for group in groups:
            table.add_row(group.name, str(group.layers), f"{group.ms:.3f}", f"{group.share:.1%}")
        console.print(table)
    if not top:
        return
    table = narrow_table()
    for header in ("ms", "share"):
        table.add_column(header, justify="right")
    for header in ("kind", "primitive", "layer"):
        table.add_column(header, overflow="fold")
    for row in result.rows[:top]:
        table.add_row(f"{row.ms:.3f}", f"{row.share:.1%}", row.kind, row.primitive, plain(row.name))
    console.print(table)
