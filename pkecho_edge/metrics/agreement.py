"""What a list of figures says about all patients: intervals, bias, limits of agreement.

Frames and clips of one patient resemble each other, so patients, not frames, are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import UsageError

__all__ = ["BlandAltman", "Interval", "bland_altman", "bootstrap_mean_interval", "pearson_r"]

Array = NDArray[np.float64]
Values = Sequence[float] | Array

_CELLS_PER_BLOCK = 1 << 20  # resamples x patients drawn at once: 8 MiB of counts
_LIMITS_SD = 1.96


@dataclass(frozen=True)
class Interval:
    """A mean and how sure it is, in the unit of its values; nan where it cannot be known.

    Attributes:
        mean: over all values that count, each with the same weight.
        low, high: ends of the confidence interval; nan with fewer than two groups.
        n: values that count. n_excluded: nan values, which do not.
        n_groups: patients with at least one value that counts.
    """

    mean: float
    low: float
    high: float
    n: int
    n_groups: int
    n_excluded: int = 0


def bootstrap_mean_interval(
    values: Values,
    groups: Sequence[str] | Sequence[int] | NDArray[np.generic],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a mean from a cluster bootstrap over patients.

    Each resample draws as many patients as there are, with replacement, and takes all values of
    each. For a paired comparison pass the differences, one per clip. With few patients (below
    about 20) percentile intervals are somewhat too narrow; the order of the values has no say.

    Args:
        values: float [n], any unit. nan values are left out and counted in `n_excluded`.
        groups: [n], which patient each value belongs to.
        confidence: share of the resampled means between `low` and `high`, between 0 and 1.
        resamples: how many to draw, at least 1.
        seed: the same seed gives the same interval.

    Returns:
        Interval. No value: mean, low and high are nan. One patient: low and high are nan, for
        nothing is known about other patients.

    Raises:
        UsageError: lengths differ, a value is infinite, or a setting is out of range.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, sections 3.8, 5.3.1.
    """
    array, labels = np.asarray(values, dtype=np.float64), np.asarray(groups)
    _check_values(array, labels)
    if not 0 < confidence < 1 or resamples < 1:
        raise UsageError(f"confidence {confidence} or resamples {resamples} is out of range")
    counted = ~np.isnan(array)
    kept = array[counted]
    if not kept.size:
        return Interval(math.nan, math.nan, math.nan, 0, 0, array.size)
    _, member = np.unique(labels[counted], return_inverse=True)
    sizes = np.bincount(member)
    sums: Array = np.bincount(member, weights=kept).astype(np.float64)
    low = high = math.nan
    if sizes.size > 1:
        means = _resampled_means(sums, sizes, resamples, np.random.default_rng(seed))
        tail = (1 - confidence) / 2
        low, high = (float(q) for q in np.quantile(means, [tail, 1 - tail]))
    return Interval(
        mean=float(kept.mean()),
        low=low,
        high=high,
        n=kept.size,
        n_groups=sizes.size,
        n_excluded=array.size - kept.size,
    )


def _resampled_means(
    sums: Array, sizes: NDArray[np.intp], resamples: int, rng: np.random.Generator
) -> Array:
    """Means of whole-group resamples, float64 [resamples]; sums and sizes are [G]."""
    n_groups = sizes.size
    share = np.full(n_groups, 1 / n_groups)
    block = max(1, _CELLS_PER_BLOCK // n_groups)
    means = []
    for start in range(0, resamples, block):
        counts = rng.multinomial(n_groups, share, size=min(block, resamples - start))  # [b, G]
        means.append((counts @ sums) / (counts @ sizes))
    return np.concatenate(means)


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of two measurements of one thing, in their unit; nan where it cannot be known.

    Attributes:
        bias: mean of other minus reference.
        sd: standard deviation of the differences (n - 1 in the denominator).
        low, high: limits of agreement, bias -+ 1.96 sd.
        n: pairs that count. n_excluded: pairs with a nan, which do not.
    """

    bias: float
    sd: float
    low: float
    high: float
    n: int
    n_excluded: int = 0


def bland_altman(reference: Values, other: Values) -> BlandAltman:
    """Bias and limits of agreement; pairs count as independent, so pass one per patient.

    Args:
        reference, other: float [n] each, the same things in the same order and unit.

    Returns:
        BlandAltman. No pair: all nan. One pair: its difference as bias, the rest nan.

    Raises:
        UsageError: lengths differ or a value is infinite.

    Source: Bland and Altman, Lancet 327(8476), 1986.
    """
    x, y, n_excluded = _complete_pairs(reference, other)
    if not x.size:
        return BlandAltman(math.nan, math.nan, math.nan, math.nan, 0, n_excluded)
    difference = y - x
    bias = float(difference.mean())
    sd = float(difference.std(ddof=1)) if x.size > 1 else math.nan
    return BlandAltman(
        bias=bias,
        sd=sd,
        low=bias - _LIMITS_SD * sd,
        high=bias + _LIMITS_SD * sd,
        n=x.size,
        n_excluded=n_excluded,
    )


def pearson_r(reference: Values, other: Values) -> float:
    """Pearson's correlation coefficient, -1 to 1; pairs with a nan are left out.

    Args:
        reference, other: float [n] each, in the same order.

    Returns:
        nan with fewer than two pairs or where either side is constant.

    Raises:
        UsageError: lengths differ or a value is infinite.
    """
    x, y, _ = _complete_pairs(reference, other)
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()  # tiny values must not underflow when squared
    r = float(x @ y) / math.sqrt(float(x @ x) * float(y @ y))
    return min(1.0, max(-1.0, r))


def _complete_pairs(reference: Values, other: Values) -> tuple[Array, Array, int]:
    """The pairs without a nan, float64 [m] each, and how many were left out."""
    x, y = np.asarray(reference, dtype=np.float64), np.asarray(other, dtype=np.float64)
    _check_values(x, y)
    _check_values(y, x)
    complete = ~(np.isnan(x) | np.isnan(y))
    return x[complete], y[complete], int(np.count_nonzero(~complete))


def _check_values(values: Array, partner: NDArray[np.generic]) -> None:
    """Raises UsageError unless values are [n], free of infinities, and the partner is [n] too."""
    if values.ndim != 1 or values.shape != partner.shape:
        raise UsageError(
            f"values of shape {values.shape} and {partner.shape} do not pair up as [n]"
        )
    if np.isinf(values).any():
        raise UsageError("a value is infinite", remedy="Pass nan for what could not be measured")
