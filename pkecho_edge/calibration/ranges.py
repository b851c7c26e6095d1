"""From what a tensor held to the range that its integers cover.

Rules for activations: "minmax"; "percentile" (99.99 % of the values, half of the rest on each
side); "mse" (the clipping with the least expected squared error); "entropy" (the clipping whose
quantized distribution has the least Kullback-Leibler divergence from the values'). For weights, per
output channel: "minmax" or "mse".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.calibration.activations import TensorActivations
from pkecho_edge.calibration.histogram import BINS, Histogram

__all__ = ["ACTIVATION_RULES", "WEIGHT_RULES", "activation_range", "weight_scales"]

PERCENTILE = 99.99
_SHRINK = np.linspace(1.0, 0.3, 71)
"""Shares of the whole range that clipping rules try, the largest first: it wins ties."""

_WEIGHT_SHRINK = np.linspace(1.0, 0.6, 17, dtype=np.float32)
"""Of a channel's largest weight: one cut further costs more than finer steps give."""

Range = tuple[float, float]


def activation_range(
    tensor: TensorActivations, rule: str, levels: int, *, symmetric: bool = False
) -> Range:
    """(low, high) with low <= 0 <= high, inside what the tensor held.

    Args:
        tensor: of all calibration clips.
        rule: one of ACTIVATION_RULES.
        levels: how many integers there are.
        symmetric: whether they lie evenly around zero, so that a tensor of one sign uses half.

    A tensor that never leaves zero gives (0, 0).
    """
    low, high = min(0.0, float(tensor.minimum.min())), max(0.0, float(tensor.maximum.max()))
    if low == high or not tensor.histogram.counts.any():
        return low, high
    if symmetric:
        levels = 1 + round((levels - 1) / 2 * (high - low) / max(-low, high))
    found = ACTIVATION_RULES[rule](tensor.histogram, low, high, levels)
    return max(low, found[0]), min(high, found[1])


def _minmax(_: Histogram, low: float, high: float, __: int) -> Range:
    return low, high


def _percentile(histogram: Histogram, _: float, __: float, ___: int) -> Range:
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    tail = (100 - PERCENTILE) / 200
    lowest = int(np.searchsorted(share, tail, side="right")) - BINS
    highest = int(np.searchsorted(share, 1 - tail)) + 1 - BINS
    return min(0.0, lowest * histogram.width), max(0.0, highest * histogram.width)


def _mse(histogram: Histogram, low: float, high: float, levels: int) -> Range:
    used = histogram.counts > 0
    values, weight = histogram.centres[used], histogram.counts[used]

    def error(share: float) -> float:
        step = (high - low) * share / (levels - 1)
        kept = np.clip(
            np.rint(values / step), round(low * share / step), round(high * share / step)
        )
        return float(np.sum(weight * (kept * step - values) ** 2))

    best = min(_SHRINK, key=error)
    return low * float(best), high * float(best)


def _entropy(histogram: Histogram, low: float, high: float, levels: int) -> Range:
    counts = histogram.counts.copy()
    counts[BINS] = 0  # what a ReLU cut off: any clipping keeps it, and it would drown the rest
    if not counts.any():
        return low, high
    first, last = np.flatnonzero(counts)[[0, -1]]

    def divergence(share: float) -> float:
        start = max(first, BINS + int(np.floor(low * share / histogram.width)))
        end = min(last, BINS + int(np.ceil(high * share / histogram.width)))
        kept = counts[start : end + 1].astype(np.float64)
        if not kept.any():
            return np.inf  # nothing but what was clipped
        clipped = kept.copy()
        clipped[0] += counts[:start].sum()
        clipped[-1] += counts[end + 1 :].sum()
        return _divergence(clipped, _spread(kept, levels))

    best = min(_SHRINK, key=divergence)
    return low * float(best), high * float(best)


def _spread(counts: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    """Counts of `levels` equal groups of bins, each spread evenly over its bins that hold any."""
    group = np.arange(len(counts)) * levels // len(counts)
    held = counts > 0
    total = np.bincount(group, counts, levels)
    bins = np.bincount(group, held, levels)
    spread: NDArray[np.float64] = np.where(held, (total / np.maximum(bins, 1))[group], 0)
    return spread


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence of two histograms; what q lacks counts as a 1e-4 of a value."""
    p, q = p / p.sum(), np.maximum(q, 1e-4) / max(q.sum(), 1e-4)
    held = p > 0
    return float(np.sum(p[held] * np.log(p[held] / q[held])))


ACTIVATION_RULES: Mapping[str, Callable[[Histogram, float, float, int], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}

WEIGHT_RULES = ("minmax", "mse")


def weight_scales(weight: NDArray[np.float32], rule: str, level: int) -> NDArray[np.float32]:
    """Per output channel the step of symmetric integers from -level to level.

    Args:
        weight: f32 [out, ...].
        rule: one of WEIGHT_RULES.
        level: the largest integer.

    Returns:
        f32 [out], above 0; 1 for a channel of zeros.
    """
    flat = weight.reshape(len(weight), -1)
    largest = np.abs(flat).max(axis=1)
    largest[largest == 0] = level
    if rule == "minmax":
        return _normal(largest / level)
    best = np.full(len(flat), np.inf, dtype=np.float32)
    scales = largest / level
    for share in _WEIGHT_SHRINK:
        step = _normal(largest * share / level)[:, None]
        rounded = np.rint(flat / step)
        error = np.square(np.clip(rounded, -level, level, out=rounded) * step - flat).sum(axis=1)
        scales = np.where(error < best, step[:, 0], scales)
        best = np.minimum(error, best)
    return _normal(scales)


def _normal(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """At least the smallest normal number: what is smaller may be flushed to zero."""
    return np.maximum(scales, np.finfo(np.float32).tiny).astype(np.float32)
