"""The pictures of `quantize --explain` and `calibrate --curve`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pkecho_edge.figures import empty_figure
from pkecho_edge.tuning.curve import Curve
from pkecho_edge.tuning.sensitivity import BlockRow

__all__ = ["draw_curve", "draw_sensitivity"]


def draw_sensitivity(rows: Sequence[BlockRow], whole: float, path: Path) -> None:
    """Bars of the pixels that differ, a pair per block, as PNG or SVG by the name's ending.

    Args:
        rows: in the graph's order, drawn from above.
        whole: percent of pixels that differ with every block quantized, a line.
        path: of the picture.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure = empty_figure(6.8, 0.42 * len(rows) + 1.4)
    axis = figure.subplots()
    places = range(len(rows))
    for offset, label, color, values in (
        (-0.2, "only this block in INT8", "tab:blue", [r.only for r in rows]),
        (0.2, "all but this block in INT8", "tab:orange", [r.all_but for r in rows]),
    ):
        lengths = [0.0 if trial is None else trial.pixel_disagreement for trial in values]
        axis.barh([p + offset for p in places], lengths, height=0.38, label=label, color=color)
    axis.axvline(whole, color="0.4", lw=1, ls="--", label="all in INT8")
    axis.set_yticks(list(places), [row.block for row in rows])
    axis.invert_yaxis()
    axis.set_xlabel("pixels that differ from the float engine's masks, %")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=144)


def draw_curve(curve: Curve, path: Path) -> None:
    """A picture (PNG or SVG, by the name's ending) of the curve, the sufficient size marked.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure = empty_figure(6.4, 3.6)
    axis = figure.subplots()
    sizes = [point.clips for point in curve.points]
    for point in curve.points:
        values = point.pixel_disagreement
        axis.plot([point.clips] * len(values), values, "o", ms=3, color="0.6", zorder=1)
    axis.plot(sizes, [point.mean for point in curve.points], "-o", ms=5, color="tab:blue")
    best = min(point.mean for point in curve.points)
    axis.axhspan(best, best + curve.noise, color="tab:green", alpha=0.15, lw=0)
    axis.axvline(curve.sufficient, color="tab:green", lw=1)
    right = curve.sufficient == sizes[-1]  # else the words leave the picture
    axis.annotate(
        f"{curve.sufficient} clips are enough",
        (curve.sufficient, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if right else 4, -10),
        textcoords="offset points",
        ha="right" if right else "left",
        color="tab:green",
    )
    axis.set_xscale("log", base=2)
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("calibration clips")
    axis.set_ylabel("pixels that differ, %")
    axis.set_title(f"{curve.plan.scheme}, {curve.plan.rule.name}", loc="left", fontsize=9)
    figure.savefig(path, dpi=144)
