"""`pkecho-edge bench roofline`: our engines against the machine's convolution peak."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkecho_edge.cli.bench_options import (
    BackboneOption,
    RoundsOption,
    ThreadsOption,
    WeightsArgument,
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
    from pkecho_edge.bench.roofline import RooflineResult

__all__ = ["roofline"]


def roofline(
    checkpoint: WeightsArgument = None,
    backbone: BackboneOption = None,
    size: SizeOption = "320",
    threads: ThreadsOption = 0,
    rounds: RoundsOption = 10,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """The machine's INT8, BF16 and FP32 convolution peak, and our engines' fraction of it."""
    from pkecho_edge.bench.networks import choose_network
    from pkecho_edge.bench.roofline import measure_roofline
    from pkecho_edge.verify.machine import machine_facts

    shape = parse_size(size)
    chosen = choose_network(checkpoint, backbone)
    with Bars(quiet) as bars:
        result = measure_roofline(chosen, shape, threads, rounds, bars)
    if json:
        facts = {"machine": machine_facts(), "weights": chosen.weights, "threads": threads}
        write_json(json, {**facts, **result.to_dict()})
    if quiet:
        return
    console.print(f"{chosen.backbone}, {plain(chosen.weights)}, {shape[0]}x{shape[1]}")
    _print(result)
    warn_if_noisy(result.rows)


def _print(result: RooflineResult) -> None:
    from rich.table import Table

    peaks = Table("peak of 3x3 convolutions", "channels", "side")
    peaks.add_column("GMAC/s", justify="right")
    for peak in result.peaks:
        cells = str(peak.channels), str(peak.side), f"{peak.gmacs_per_s:.0f}"
        peaks.add_row(peak.precision, *cells)
    console.print(peaks)
    table = Table("engine", "precision")
    for header in (
        "results/s",
        "GMAC/s\nnetwork",
        "of INT8\npeak",
        "GMAC/s\ngraph",
        "of INT8\npeak",
    ):
        table.add_column(header, justify="right")
    for row in result.rows:
        table.add_row(
            row.mode,
            row.precision,
            f"{row.fps:.1f}",
            f"{row.network_gmacs_per_s:.0f}",
            f"{row.network_fraction:.3f}",
            f"{row.graph_gmacs_per_s:.0f}",
            f"{row.graph_fraction:.3f}",
        )
    console.print(table)
    console.print(
        "network: the paper's count, every refinement upsampled; graph: what the lowered graph "
        "computes.",
        style="dim",
        soft_wrap=True,
    )
