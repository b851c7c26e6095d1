"""How restless a sequence of masks is beside a reference that shows the same frames.

A heart moves, so masks change from frame to frame. What a viewer sees as flicker is a change that
the reference does not make, or one that it makes and the other does not follow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import UsageError
from pkecho_edge.metrics.masks import Mask, check_pair

__all__ = ["FLICKER_RULE", "JITTER_RULE", "Jitter", "flicker", "jitter"]

Array = NDArray[np.float64]

FLICKER_RULE = (
    "percent of all pixels that change from one frame to the next in the baseline's or the "
    "engine's mask but not in both, mean over pairs of consecutive frames"
)
JITTER_RULE = (
    "standard deviation (n - 1) of the frame-to-frame change of the area, in points of the "
    "baseline's mean area; of the engine's area minus the baseline's, and of either alone"
)


@dataclass(frozen=True)
class Jitter:
    """Standard deviations (n - 1) of frame-to-frame changes, in units of the reference's mean area.

    Attributes:
        difference: of other minus reference: what the reference does not do. A difference that
            grows evenly has none.
        reference, other: of either alone, the beat included.
    """

    difference: float
    reference: float
    other: float


def flicker(reference: Mask, other: Mask) -> Array:
    """Share of all pixels that change in one sequence and not in the other, per pair of frames.

    Since a change is a mask XOR the one before it, this is also the share of pixels that begin or
    cease to differ: masks that always differ in the same pixels do not flicker.

    Args:
        reference, other: bool [N, H, W], of the same frames in time order. The order of the two
            does not matter.

    Returns:
        float64 [N - 1] from 0 to 1; [0] for one frame or none. An empty mask is a mask: one that
        comes and goes flickers by its area.

    Raises:
        UsageError: not bool, not [N, H, W], or two shapes.
    """
    check_pair(reference, other, ndim=3)
    differs = reference ^ other
    return np.asarray(np.mean(differs[1:] ^ differs[:-1], axis=(-2, -1), dtype=np.float64))


def jitter(reference: Sequence[float] | Array, other: Sequence[float] | Array) -> Jitter:
    """How unevenly the area changes, beside the reference's.

    Args:
        reference, other: float [N], area of the mask on each frame, in one unit, at least 0.

    Returns:
        Jitter; all nan for fewer than three frames, and where the reference is empty throughout.
        An empty mask has area 0.

    Raises:
        UsageError: not [N] both, or an area is negative or not finite.
    """
    ours, theirs = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    if ours.ndim != 1 or ours.shape != theirs.shape:
        raise UsageError(f"areas of shapes {ours.shape} and {theirs.shape} do not pair up as [N]")
    if not all((np.isfinite(areas) & (areas >= 0)).all() for areas in (ours, theirs)):
        raise UsageError("an area is negative or not finite")
    if ours.size < 3 or not ours.any():
        return Jitter(math.nan, math.nan, math.nan)
    scale = ours.mean()
    spread = (float(np.diff(areas / scale).std(ddof=1)) for areas in (theirs - ours, ours, theirs))
    return Jitter(*spread)
