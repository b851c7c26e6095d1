"""Charts of a mode's accuracy: drift clip by clip, and ejection fraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pkecho_edge.verify.drawing import (
    ENGINE,
    INK,
    LIMIT,
    MUTED,
    SIDES,
    chart,
    farthest,
    nice,
    plain_label,
    whole_numbers,
)
from pkecho_edge.verify.subgroups import UNKNOWN
from pkecho_edge.verify.words import Document, gate_limit, interval, number, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["drift_by_quality", "drift_histogram", "ef_against_truth", "ef_agreement", "ef_bias"]
__all__ += ["paired_scores"]

MAX_QUALITIES = 8
"""Qualities drawn in one chart; of more, those with most clips."""

_WORSE = {"dsc": "right", "hd95": "left", "asd": "left"}
"""Drift is baseline minus engine: on which side of zero the engine is worse."""

_NAMES = {"dsc": "DSC", "hd95": "HD95", "asd": "ASD"}


def drift_histogram(
    mode: str, metric: str, clips: Sequence[Document], summary: Document, gates: Document
) -> str:
    """How many clips drift by how much, with the mean, its interval and the gates' limits.

    Args:
        mode: "clip" or "stream", part of the element's names.
        metric: "dsc", "hd95" or "asd".
        clips: the rows of the mode; those without truth do not count, nor those whose distances
            are in another unit than the summary's.
        summary: `drift` of the metric and mode.
        gates: name -> entry, of the mode; HD95's is in pixels, and drawn only where all else is.

    Returns:
        An svg element; "" where no clip has the figure.
    """
    unit, key = summary["unit"], f"{metric}_drift"
    same = [clip for clip in clips if metric == "dsc" or clip["distance_unit"] == unit]
    values = np.array([clip[key] for clip in same if clip[key] is not None])
    if not values.size:
        return ""
    limits = _drawn_limits(metric, unit, gates)
    ends = [0.0, *values, *(where for where, *_ in limits)]
    width = nice((max(ends) - min(ends)) / 50)
    low, high = (int(np.floor(min(ends) / width)) - 1, int(np.ceil(max(ends) / width)) + 1)
    edges = (np.arange(low, high + 1) - 0.5) * width  # one bin is centred on no drift at all

    def draw(axis: Axes) -> None:
        axis.hist(values, bins=edges.tolist(), color=ENGINE, alpha=0.75, label="clips")
        axis.axvline(summary["mean"], color=INK, lw=1.2, label="mean with 95 % interval")
        if summary["low"] is not None and summary["high"] is not None:
            axis.axvspan(summary["low"], summary["high"], color=INK, alpha=0.2, lw=0)
        for where, style, label in limits:
            axis.axvline(where, color=LIMIT, lw=1.4, ls=style, label=label)
        axis.set_xlabel(
            f"{_NAMES[metric]} drift of a clip, {unit} ({_WORSE[metric]}: engine worse)"
        )
        axis.set_ylabel("clips")
        whole_numbers(axis.yaxis)

    alt = (
        f"Histogram of the {_NAMES[metric]} drift of {values.size} clips: from {values.min():+.2f} "
        f"to {values.max():+.2f} {unit}, mean {signed(metric, summary['mean'])}, 95 % interval "
        f"{interval(metric, summary)}."
    )
    return chart(f"{mode}-drift-{metric}", alt, draw)


def _drawn_limits(metric: str, unit: str, gates: Document) -> list[tuple[float, str, str]]:
    """Where a histogram has a gate's line, in what style, and what it is called."""
    drawn = []
    words = {"dsc_drift": "gate on the interval", "dsc_drift_worst_clip": "gate on the worst clip"}
    for name, style in (("dsc_drift", ":"), ("dsc_drift_worst_clip", "--")):
        if metric == "dsc" and name in gates:
            label = f"{words[name]}, {gate_limit(gates[name])}"
            drawn.append((float(gates[name]["limit"]), style, label))
    if metric == "hd95" and unit == "px" and "hd95_drift" in gates:
        limit = float(gates["hd95_drift"]["limit"])
        drawn.append((-limit, ":", f"gate on the interval, >= -{limit:g}"))
    return drawn


def paired_scores(mode: str, clips: Sequence[Document]) -> str:
    """DSC of the engine against the baseline's, a dot per clip: where the line is left.

    Args:
        mode: "clip" or "stream", part of the element's names.
        clips: the rows of the mode; those without truth do not count.

    Returns:
        An svg element; "" where no clip has truth.
    """
    pairs = _known_pairs(clips, "dsc_baseline", "dsc_engine")
    if not pairs.size:
        return ""
    shown = farthest(pairs[:, 1] - pairs[:, 0])

    def draw(axis: Axes) -> None:
        _scatter_on_identity(axis, pairs[shown], ENGINE, "o", "clips")
        axis.set_xlabel("DSC of the baseline, %")
        axis.set_ylabel("DSC of the engine, %")

    ours, theirs = (f"{side.min():.2f} to {side.max():.2f} %" for side in pairs.T)
    alt = f"DSC on {len(pairs)} clips: baseline {ours}, engine {theirs}."
    return chart(f"{mode}-pairs", alt, draw)


def ef_against_truth(mode: str, clips: Sequence[Document], accuracy: Document) -> str:
    """EF of both sides against the true one, a dot per clip, on the line where they agree.

    Args:
        mode: "clip" or "stream", part of the element's names.
        clips: the rows of the mode; those without a true EF do not count.
        accuracy: of the mode: `baseline` and `engine` with `ef_pearson_r`.

    Returns:
        An svg element; "" where no clip has a true EF.
    """
    sides = {side: _known_pairs(clips, "ef_truth", f"ef_{side}") for side in SIDES}
    if not any(pairs.size for pairs in sides.values()):
        return ""

    def draw(axis: Axes) -> None:
        for side, pairs in sides.items():
            shown = farthest(pairs[:, 1] - pairs[:, 0])
            color, marker = SIDES[side]
            r = number(accuracy[side]["ef_pearson_r"], 3)
            _scatter_on_identity(axis, pairs[shown], color, marker, f"{side}, r {r}")
        axis.set_xlabel("true EF, %")
        axis.set_ylabel("measured EF, %")

    said = (
        f"{side} correlation {number(accuracy[side]['ef_pearson_r'], 3)} on {len(pairs)} clips"
        for side, pairs in sides.items()
    )
    return chart(f"{mode}-ef-truth", f"Ejection fraction against truth: {'; '.join(said)}.", draw)


def ef_bias(mode: str, clips: Sequence[Document], accuracy: Document) -> str:
    """Bland-Altman chart of both sides' EF against the true one, a dot per clip.

    Args:
        mode, clips, accuracy: as `ef_against_truth`; `ef_bias` are bias and limits over patients.

    Returns:
        An svg element; "" where no clip has a true EF.
    """
    sides = {side: _known_pairs(clips, "ef_truth", f"ef_{side}") for side in SIDES}
    if not any(pairs.size for pairs in sides.values()):
        return ""

    def draw(axis: Axes) -> None:
        axis.axhline(0, color=MUTED, lw=0.8)
        for side, pairs in sides.items():
            color, marker = SIDES[side]
            difference = pairs[:, 1] - pairs[:, 0]
            shown = farthest(difference)
            mean = pairs.mean(axis=1)
            fill = "none" if marker == "s" else color
            axis.plot(
                mean[shown],
                difference[shown],
                marker,
                ms=3.2,
                mfc=fill,
                mec=color,
                mew=0.7,
                alpha=0.7,
                label=side,
            )
            bias = accuracy[side]["ef_bias"]
            style = "-" if side == "baseline" else "--"
            for name, width in (("bias", 1.4), ("low", 0.9), ("high", 0.9)):
                if bias[name] is not None:
                    axis.axhline(bias[name], color=color, lw=width, ls=style)
        axis.set_xlabel("mean of measured and true EF, %")
        axis.set_ylabel("measured - true, points")

    said = (
        f"{side} bias {number(accuracy[side]['ef_bias']['bias'])} points, limits of agreement "
        f"{number(accuracy[side]['ef_bias']['low'])} to {number(accuracy[side]['ef_bias']['high'])}"
        for side in sides
    )
    return chart(f"{mode}-ef-bias", f"Bland-Altman chart against truth: {'; '.join(said)}.", draw)


def ef_agreement(
    mode: str, clips: Sequence[Document], agreement: Document, limit: Document | None
) -> str:
    """Bland-Altman chart of the engine's EF against the baseline's, a dot per clip.

    Args:
        mode: "clip" or "stream", part of the element's names.
        clips: the rows of the mode; those without an EF on both sides do not count.
        agreement: `ef_agreement` of the mode: bias and limits of agreement over patients.
        limit: the gate on EF drift.

    Returns:
        An svg element; "" where no clip has both.
    """
    array = _known_pairs(clips, "ef_baseline", "ef_engine")
    if not array.size:
        return ""
    mean, difference = array.mean(axis=1), array[:, 1] - array[:, 0]

    def draw(axis: Axes) -> None:
        shown = farthest(difference)
        axis.plot(mean[shown], difference[shown], "o", ms=3.2, mew=0, color=ENGINE, alpha=0.7)
        axis.axhline(0, color=MUTED, lw=0.8)
        axis.axhline(agreement["bias"], color=INK, lw=1.2, label="bias")
        if agreement["low"] is not None:
            dashes = (0, (4, 3))
            axis.axhline(agreement["low"], color=INK, lw=1, ls=dashes, label="limits of agreement")
            axis.axhline(agreement["high"], color=INK, lw=1, ls=dashes)
        if limit is not None:
            # The gate is on the interval of the mean absolute difference: a clip may lie outside.
            label = f"gate on the mean |difference|, {gate_limit(limit)}"
            axis.axhline(limit["limit"], color=LIMIT, lw=1.2, ls=":", label=label)
            axis.axhline(-limit["limit"], color=LIMIT, lw=1.2, ls=":")
        axis.set_xlabel("mean of both EFs, %")
        axis.set_ylabel("engine - baseline, points")

    alt = (
        f"Bland-Altman chart of ejection fraction on {len(array)} clips: bias "
        f"{number(agreement['bias'])} points, limits of agreement {number(agreement['low'])} to "
        f"{number(agreement['high'])}, largest difference {np.abs(difference).max():.2f} points."
    )
    return chart(f"{mode}-ef", alt, draw)


def drift_by_quality(mode: str, clips: Sequence[Document], qualities: Document) -> str:
    """DSC drift of each clip, one line per image quality, with mean and interval.

    Args:
        mode: "clip" or "stream", part of the element's names.
        clips: the rows of the mode.
        qualities: name -> `subgroups.quality` of the mode.

    Returns:
        An svg element; "" where no clip has truth.
    """
    drifts = {name: group["dsc_drift"] for name, group in qualities.items()}
    names = [name for name in drifts if drifts[name]["n_clips"]]
    names.sort(key=lambda name: -drifts[name]["n_clips"])
    names = sorted(names[:MAX_QUALITIES])
    if not names:
        return ""

    def draw(axis: Axes) -> None:
        for row, name in enumerate(names):
            rows = [clip for clip in clips if (clip["quality"] or UNKNOWN) == name]
            values = np.array([c["dsc_drift"] for c in rows if c["dsc_drift"] is not None])
            values = values[farthest(values)]
            spread = row + 0.15 + 0.25 * (np.arange(values.size) * 0.618 % 1)
            axis.plot(values, spread, "o", ms=3, mew=0, color=ENGINE, alpha=0.6)
            drift = drifts[name]
            axis.plot(drift["mean"], row - 0.15, "D", ms=4.5, mew=0, color=INK)
            if drift["low"] is not None:
                axis.plot([drift["low"], drift["high"]], [row - 0.15] * 2, color=INK, lw=1.6)
        axis.axvline(0, color=MUTED, lw=0.8)
        labels = [f"{plain_label(name)} ({drifts[name]['n_clips']})" for name in names]
        axis.set_yticks(range(len(names)), labels)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_xlabel("DSC drift of a clip, points (right: engine worse)")

    said = (
        f"{plain_label(name)} {signed('dsc', drift['mean'])} ({interval('dsc', drift)})"
        for name, drift in ((name, drifts[name]) for name in names)
    )
    alt = f"DSC drift by image quality, mean and 95 % interval in points: {'; '.join(said)}."
    return chart(f"{mode}-quality", alt, draw)


def _known_pairs(
    clips: Sequence[Document], first: str, second: str
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """float64 [n, 2] of the clips that have both figures."""
    pairs = [(clip[first], clip[second]) for clip in clips]
    return np.array([p for p in pairs if None not in p], dtype=np.float64).reshape(-1, 2)


def _scatter_on_identity(
    axis: Axes,
    pairs: np.ndarray[Any, np.dtype[np.float64]],
    color: str,
    marker: str,
    label: str,
) -> None:
    """Dots, and the line on which both figures are the same; squares are hollow."""
    fill = "none" if marker == "s" else color
    axis.plot(
        pairs[:, 0],
        pairs[:, 1],
        marker,
        ms=3.2,
        mfc=fill,
        mec=color,
        mew=0.7,
        alpha=0.7,
        label=label,
    )
    if pairs.size:
        axis.axline((float(pairs.min()),) * 2, slope=1, color=MUTED, lw=0.8)
