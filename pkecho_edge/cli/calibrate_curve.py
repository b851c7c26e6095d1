"""`pkecho-edge calibrate --curve`: how many clips are enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pkecho_edge.cli.console import Bars, console, plain, write_json

if TYPE_CHECKING:
    from pkecho_edge.data.clip import Clip
    from pkecho_edge.tuning.curve import Curve

__all__ = ["report_curve"]

_DRAWS = 5
_MIN_TRIAL, _MAX_TRIAL = 2, 16


def report_curve(
    clips: Sequence[Clip],
    checkpoint: Path,
    scheme: str,
    rule: str,
    seed: int,
    picture: Path,
    *,
    quiet: bool,
) -> int:
    """Measure drift against the size of the set, draw it, and print it.

    Every fourth clip, 16 at most, is kept to measure on; sets are drawn from the others.

    Args:
        clips: of one size, patients together.
        checkpoint: whose network is quantized.
        scheme, rule: by which; the rule is one, not "auto".
        seed: of the draws.
        picture: PNG or SVG; the figures go into a JSON file beside it.
        quiet: print nothing.

    Returns:
        the smallest sufficient number of clips.

    Raises:
        CalibrationError: too few clips.
    """
    import tempfile

    from pkecho_edge.calibration.plan import QuantizationPlan
    from pkecho_edge.calibration.rule import RangeRule
    from pkecho_edge.lowering.onnx_export import export_clip_onnx
    from pkecho_edge.model.identity import load_identified
    from pkecho_edge.targets.base import CompileOptions
    from pkecho_edge.tuning.curve import measure_curve
    from pkecho_edge.tuning.pictures import draw_curve
    from pkecho_edge.tuning.workbench import Workbench, measuring_target

    plan = QuantizationPlan(scheme, RangeRule.parse(rule))
    trial, drawn = _parts(clips)
    target = measuring_target(scheme)
    with Bars(quiet) as bars, tempfile.TemporaryDirectory() as folder:
        bars.start("lower and export", None)
        network, _ = load_identified(checkpoint)
        height, width = clips[0].frames.shape[-2:]
        graph = Path(folder, "clip.onnx")
        export_clip_onnx(network, (height, width), graph, clips[0].frames)
        bars.done(f"{len(drawn)} clips to draw from, {len(trial)} to measure on")
        bench = Workbench(graph, drawn, trial, target, CompileOptions(), Path(folder))
        curve = measure_curve(bench, plan, draws=_DRAWS, seed=seed, observer=bars)
    draw_curve(curve, picture)
    write_json(picture.with_suffix(".json"), curve.as_dict())
    if not quiet:
        _print(curve, picture)
    return curve.sufficient


def _parts(clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    """(to measure on, to draw from), of different patients.

    Raises:
        CalibrationError: fewer than two of either.
    """
    from pkecho_edge.errors import CalibrationError

    patients = list(dict.fromkeys(clip.patient for clip in clips))
    kept = set(patients[::4][:_MAX_TRIAL])
    trial = [clip for clip in clips if clip.patient in kept][:_MAX_TRIAL]
    drawn = [clip for clip in clips if clip.patient not in kept]
    if len(trial) < _MIN_TRIAL or len(drawn) < _MIN_TRIAL:
        raise CalibrationError(
            f"{len(clips)} clips of {len(patients)} patients are too few for a curve",
            remedy="Name a folder with at least 8 patients",
        )
    return trial, drawn


def _print(curve: Curve, picture: Path) -> None:
    from rich.table import Table

    table = Table(title=f"pixels that differ, {curve.plan.scheme}, {curve.plan.rule.name}")
    for name in ("clips", "draws", "mean %", "spread %"):
        table.add_column(name, justify="right")
    for point in curve.points:
        style = "bold" if point.clips == curve.sufficient else ""
        draws = len(point.pixel_disagreement)
        spread = f"{point.spread:.4f}" if draws > 1 else "-"
        table.add_row(str(point.clips), str(draws), f"{point.mean:.4f}", spread, style=style)
    console.print(table)
    console.print(
        f"{curve.sufficient} clips are enough: no other size is better by more than the noise, "
        f"{curve.noise:.4f} %. Picture: {plain(picture)}",
        soft_wrap=True,
    )
