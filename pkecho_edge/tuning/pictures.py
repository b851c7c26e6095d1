"""The picture of `quantize --explain`: what each block costs, alone and to all the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pkecho_edge.errors import MissingDependency
from pkecho_edge.tuning.sensitivity import BlockRow

__all__ = ["draw_sensitivity"]


def draw_sensitivity(rows: Sequence[BlockRow], whole: float, path: Path) -> None:
    """Bars of the pixels that differ, a pair per block, as PNG or SVG by the name's ending.

    Args:
        rows: in the graph's order, drawn from above.
        whole: percent of pixels that differ with every block quantized, a line.
        path: of the picture.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            "matplotlib is not installed", remedy="Run: pip install 'pkecho-edge[report]'"
        ) from error
    figure = Figure(figsize=(6.8, 0.42 * len(rows) + 1.4), layout="constrained")
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
