"""Whether a figure grows with time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import UsageError

__all__ = ["linear_slope"]


def linear_slope(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Slope of the straight line of least squares through equidistant values, per step.

    Args:
        values: float [N], in any unit, finite.

    Returns:
        In the values' unit per step; nan for fewer than two.

    Raises:
        UsageError: not [N], or a value is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise UsageError(f"values of shape {array.shape} are not finite numbers [N]")
    if array.size < 2:
        return math.nan
    steps = np.arange(array.size) - (array.size - 1) / 2
    return float(steps @ (array - array.mean()) / (steps @ steps))
