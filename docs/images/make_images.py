"""Make the pictures of the README and the docs.

    python docs/images/make_images.py BUNDLE TRAINING_LOG

BUNDLE is one of the packaged checkpoint at 128x128; TRAINING_LOG the log of its training,
docs/training/default-checkpoint.csv.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from pkecho_edge.data.clip import Clip
from pkecho_edge.data.sources import standard_set
from pkecho_edge.model.baseline import baseline_runner
from pkecho_edge.model.checkpoint import default_checkpoint_path, load_checkpoint
from pkecho_edge.runtime import open_bundle
from pkecho_edge.training.log import draw_curve

HERE = Path(__file__).parent


def demo_picture(bundle: Path) -> None:
    """One clip of each quality at ED and ES: truth, baseline, INT8 engine, and their difference."""
    baseline = baseline_runner(load_checkpoint(default_checkpoint_path()))
    chosen: dict[str, Clip] = {}
    for clip in standard_set((128, 128), 5):
        chosen.setdefault(str(clip.quality), clip)
    figure, axes = plt.subplots(2, 6, figsize=(12, 4.4), facecolor="#101418")
    with open_bundle(bundle) as engine:
        for column, (quality, clip) in enumerate(chosen.items()):
            expected = baseline(clip.frames)[:, 0] > 0
            found = engine.logits(clip.frames)[:, 0] > 0
            for row, (name, index) in enumerate((("ED", 0), ("ES", -1))):
                left, right = axes[row, 2 * column], axes[row, 2 * column + 1]
                _outlines(left, clip, index, expected, found)
                _difference(right, clip, index, expected, found)
                left.set_title(f"{quality}, {name}", color="w", fontsize=9)
                share = (expected[index] != found[index]).mean()
                right.set_title(f"differ: {share:.2%}", color="w", fontsize=9)
    labels = (("#f2c14e", "ground truth"), ("#4ea8f2", "FP32 baseline"), ("#ef476f", "INT8 engine"))
    handles = [plt.Line2D([], [], color=color, label=text) for color, text in labels]
    handles.append(plt.Line2D([], [], color="w", marker="s", ls="", label="pixels that differ"))
    figure.legend(
        handles=handles, loc="lower center", ncols=4, frameon=False, labelcolor="w", fontsize=9
    )
    figure.subplots_adjust(0.01, 0.08, 0.99, 0.94, 0.03, 0.12)
    figure.savefig(HERE / "demo.png", dpi=100)


def _outlines(axis: plt.Axes, clip: Clip, index: int, a: np.ndarray, b: np.ndarray) -> None:
    axis.imshow(clip.frames[index, 0], cmap="gray", vmin=0, vmax=255)
    assert clip.truth is not None
    for mask, color, style in (
        (clip.truth[index], "#f2c14e", "dotted"),
        (a[index], "#4ea8f2", "solid"),
        (b[index], "#ef476f", "dashed"),
    ):
        axis.contour(mask, [0.5], colors=color, linewidths=1.1, linestyles=style)
    axis.axis("off")


def _difference(axis: plt.Axes, clip: Clip, index: int, a: np.ndarray, b: np.ndarray) -> None:
    axis.imshow(clip.frames[index, 0] // 3, cmap="gray", vmin=0, vmax=255)
    rows, columns = np.nonzero(a[index] != b[index])
    axis.scatter(columns, rows, s=4, c="w", marker="s", linewidths=0)
    axis.axis("off")


if __name__ == "__main__":
    demo_picture(Path(sys.argv[1]))
    draw_curve(Path(sys.argv[2]), HERE / "training-curve.png")
