"""`pkecho-edge bench scaling`: cost against resolution, backbone, threads and streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.bench_options import (
    PrecisionOption,
    RoundsOption,
    WeightsArgument,
    narrow_table,
    parse_counts,
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
from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from pkecho_edge.bench.scaling import ScalingRow

__all__ = ["scaling"]


def scaling(
    checkpoint: WeightsArgument = None,
    size: SizeOption = "320",
    sizes: Annotated[
        str, typer.Option(help="Sides of square frames.", metavar="N,N,...")
    ] = "96,128,192,256,320,448,640",
    backbones: Annotated[
        str, typer.Option(help="With random weights, but for the checkpoint's.", metavar="18,34,50")
    ] = "18,34,50",
    thread_counts: Annotated[str, typer.Option(help="Of every engine.", metavar="N,N,...")] = "1,2",
    streams: Annotated[
        str, typer.Option(help="Pushing at once into one engine.", metavar="N,N,...")
    ] = "1,2,4",
    precision: PrecisionOption = "f32",
    rounds: RoundsOption = 3,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Our INT8 clip and stream engines against resolution, backbone, threads and streams."""
    from pkecho_edge.bench.networks import choose_network
    from pkecho_edge.bench.scaling import ScalingPlan, measure_scaling
    from pkecho_edge.verify.machine import machine_facts

    plan = ScalingPlan(
        size=parse_size(size),
        sides=tuple(_side(text) for text in sizes.split(",")),
        backbones=tuple(_backbone(text) for text in backbones.split(",")),
        thread_counts=parse_counts(thread_counts, "--thread-counts", 1, 256),
        stream_counts=parse_counts(streams, "--streams", 1, 64),
        float_precision=precision,
    )
    chosen = choose_network(checkpoint, None)
    with Bars(quiet) as bars:
        rows = measure_scaling(chosen, plan, rounds, bars)
    if json:
        document = {"machine": machine_facts(), "weights": chosen.weights}
        write_json(json, {**document, "rows": [row.to_dict() for row in rows]})
    if quiet:
        return
    height, width = plan.size
    console.print(
        f"{chosen.backbone}, {plain(chosen.weights)}, {height}x{width} and every core, unless the "
        "row says otherwise",
        soft_wrap=True,
    )
    _print(rows)
    warn_if_noisy(rows)


def _side(text: str) -> int:
    """The side of square frames.

    Raises:
        UsageError: not a size, or not a square.
    """
    height, width = parse_size(text)
    if height != width:
        raise UsageError(f"{text} is not a square", remedy="Write its side, for example 128")
    return height


def _backbone(text: str) -> str:
    """ "18" or "resnet18" -> "resnet18".

    Raises:
        UsageError: another one.
    """
    name = f"resnet{text.removeprefix('resnet')}"
    if name not in ("resnet18", "resnet34", "resnet50"):
        raise UsageError(f"unknown backbone {text!r}", remedy="Use 18, 34 or 50")
    return name


def _print(rows: Sequence[ScalingRow]) -> None:
    table = narrow_table("axis", "value", "engine")
    for header in ("frames/s or\nresults/s", "p50\nms", "p99\nms", "cv", "x eager"):
        table.add_column(header, justify="right")
    point = rows[0].axis, rows[0].value
    for row in rows:
        if (row.axis, row.value) != point:
            table.add_section()
            point = row.axis, row.value
        table.add_row(
            row.axis,
            row.value,
            row.engine if row.precision == "f32" else f"{row.mode}, {row.precision}",
            f"{row.fps:.1f}",
            f"{row.latency_ms_p50:.1f}",
            f"{row.latency_ms_p99:.1f}",
            f"{row.cv:.1%}",
            "-" if row.ratio_to_eager is None else f"{row.ratio_to_eager:.2f}",
        )
    console.print(table)
