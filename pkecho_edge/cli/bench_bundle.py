"""`pkecho-edge bench startup` and `bench overhead`: a bundle in use."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from pkecho_edge.cli.bench_options import RoundsOption, narrow_table, warn_if_noisy
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
from pkecho_edge.errors import UsageError

__all__ = ["overhead", "startup"]

BundleArgument = Annotated[
    Path | None,
    typer.Argument(
        help="Default: one is built from the packaged ResNet-18, at --size.", metavar="BUNDLE"
    ),
]

_CLIPS = 4


def startup(
    bundle: BundleArgument = None,
    size: SizeOption = "320",
    starts: Annotated[int, typer.Option(help="Of each kind; their median counts.", min=1)] = 5,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Bundle open to first mask in a new process, without and with OpenVINO's model cache."""
    from pkecho_edge.bench.startup import measure_startup
    from pkecho_edge.verify.machine import machine_facts

    shape = parse_size(size)
    with Bars(quiet) as bars, ExitStack() as stack:
        rows = measure_startup(bundle or _build(shape, bars, stack), starts, bars)
    if json:
        write_json(json, {"machine": machine_facts(), "rows": [row.to_dict() for row in rows]})
    if quiet:
        return
    table = narrow_table("start")
    for header in ("imports", "hashes", "load", "push", "total ms", "rest MB", "peak MB"):
        table.add_column(header, justify="right")
    for row in rows:
        times = (row.imports_ms, row.open_ms, row.load_ms, row.push_ms, row.total_ms)
        memory = (row.rest_mb, row.peak_mb)
        table.add_row(
            row.engine,
            *(f"{ms:.0f}" for ms in times),
            *("-" if mb is None else f"{mb:.0f}" for mb in memory),
        )
    console.print(table)
    console.print(
        "total: hashes, load and first push; imports and the interpreter's start come before. "
        "The model cache is OpenVINO's own, called directly: target cpu has no option for it.",
        style="dim",
        soft_wrap=True,
    )


def overhead(
    bundle: BundleArgument = None,
    size: SizeOption = "320",
    rounds: RoundsOption = 20,
    frames: Annotated[
        int,
        typer.Option(help="Also push so many and watch memory from frame 1,000; 0: skip.", min=0),
    ] = 0,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """The runtime's push against the bare OpenVINO call on the same engine."""
    from pkecho_edge.bench.overhead import SETTLED, measure_growth, measure_overhead
    from pkecho_edge.verify.machine import machine_facts

    shape = parse_size(size)
    if 0 < frames <= SETTLED:
        raise UsageError(f"--frames {frames}", remedy=f"Ask for more than {SETTLED}, or 0 to skip")
    with Bars(quiet) as bars, ExitStack() as stack:
        chosen = bundle or _build(shape, bars, stack)
        rows = measure_overhead(chosen, rounds, bars)
        growth = measure_growth(chosen, frames, bars) if frames else None
    if json:
        document = {"machine": machine_facts(), "rows": [row.to_dict() for row in rows]}
        write_json(json, {**document, "growth": growth.to_dict() if growth else None})
    if quiet:
        return
    table = narrow_table("way")
    for header in ("p50 ms", "p99 ms", "cv", "push / it, p50", "p99"):
        table.add_column(header, justify="right")
    for row in rows:
        table.add_row(
            row.engine,
            f"{row.latency_ms_p50:.3f}",
            f"{row.latency_ms_p99:.3f}",
            f"{row.cv:.1%}",
            f"{row.p50_ratio:.3f}",
            f"{row.p99_ratio:.3f}",
        )
    console.print(table)
    if growth:
        console.print(
            f"Resident memory from frame {SETTLED} to {growth.frames}: "
            f"{growth.end_mb - growth.settled_mb:+.2f} MB, at the end {growth.end_mb:.0f} MB"
        )
    warn_if_noisy(rows)


def _build(size: tuple[int, int], bars: Bars, stack: ExitStack) -> Path:
    """A bundle of the packaged network for target cpu, calibrated on a few phantoms."""
    from pkecho_edge import pipeline
    from pkecho_edge.data.sources import phantoms
    from pkecho_edge.data.standard import CALIBRATION_SEEDS, TUNING_SEEDS
    from pkecho_edge.model.checkpoint import default_checkpoint_path

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()), "bench.pkb")
    order = pipeline.CompileOrder(
        default_checkpoint_path(),
        folder,
        calibration=phantoms(CALIBRATION_SEEDS[:_CLIPS], size),
        verification=phantoms(TUNING_SEEDS[:_CLIPS], size),
        target="cpu",
        modes=("stream",),
        calibration_clips=_CLIPS,
    )
    pipeline.compile(order, observer=bars)
    return folder
