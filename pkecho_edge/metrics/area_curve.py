"""End-diastole and end-systole where nobody labelled them: found on the curve of areas."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import UsageError

__all__ = ["BEAT_RULE", "ED_ES_RULE", "find_ed_es", "median_of_three", "split_beats"]

Array = NDArray[np.float64]

ED_ES_RULE = (
    "largest and smallest area after a running median of three frames; among equals the frame of "
    "the more extreme area itself, then the first"
)

BEAT_RULE = (
    "from one rise of the area above two thirds of its range, after it was below one third, to the "
    "next; all frames where no such beat is whole"
)


def find_ed_es(areas: Sequence[float] | Array) -> tuple[int, int] | None:
    """Which frames are end-diastole and end-systole: the largest and the smallest area.

    1. Frames without a mask (area 0 or nan) are no candidates: a missed ventricle is not a
       contracted one. The others close ranks.
    2. A running median of three takes out an error of a single frame. The first and the last
       candidate count twice in theirs, so they stand: a clip may well begin at ED.
    3. ED is where the median is largest, ES where it is smallest. Of several such frames the one
       whose own area is more extreme counts, then the first.

    On a curve that rises and falls once this finds the largest and the smallest area themselves,
    because a peak's median equals its larger neighbour's; only a spike between two equal ends does
    not count. The order in time is not looked at: ES may come first.

    Args:
        areas: float [N], of the mask on each frame, in any unit, at least 0.

    Returns:
        (ed, es), both 0 to N - 1, the first with the larger area. None where the curve does not
        say: fewer than two candidates, medians that are all equal, as where nothing moves, or a
        zigzag whose medians swap the two.

    Raises:
        UsageError: not [N] with N >= 1, or an area is negative or infinite.
    """
    values = _checked(areas)
    frames = np.flatnonzero(values > 0)
    own = values[frames]
    smooth = median_of_three(own)
    if not smooth.size or smooth.min() == smooth.max():
        return None
    ed = np.lexsort((-own, -smooth))[0]  # by the median, then by the area, then by time
    es = np.lexsort((own, smooth))[0]
    return (int(frames[ed]), int(frames[es])) if own[ed] > own[es] else None


def split_beats(areas: Sequence[float] | Array) -> list[slice]:
    """Which frames make up each whole beat, so that every one has its own ED and ES.

    Over many beats the largest area of all says nothing about time: of twenty that are almost
    equal, a pixel more makes another one the largest. The curve, after the median of `find_ed_es`,
    is cut where it rises above two thirds of its range, after it was below one third: in the
    filling, far from both ED and ES. The pieces before the first cut and after the last one are no
    whole beats.

    Args:
        areas: as `find_ed_es`.

    Returns:
        Slices in time order, each at least two frames. One slice of all N frames where fewer than
        two cuts are found: a single contraction, or a curve that does not move.

    Raises:
        UsageError: as `find_ed_es`.
    """
    values = _checked(areas)
    frames = np.flatnonzero(values > 0)
    smooth = median_of_three(values[frames])
    if not smooth.size:
        return [slice(0, values.size)]
    low, high = smooth.min() + np.ptp(smooth) * np.array([1, 2]) / 3
    cuts: list[int] = []
    emptied = False
    for frame, area in zip(frames.tolist(), smooth, strict=True):
        if area < low:
            emptied = True
        elif emptied and area > high:
            cuts.append(frame)
            emptied = False
    beats = [slice(start, end) for start, end in pairwise(cuts)]
    return beats or [slice(0, values.size)]


def _checked(areas: Sequence[float] | Array) -> Array:
    """Areas float64 [N], N >= 1, at least 0 or nan; raises UsageError for anything else."""
    values = np.asarray(areas, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise UsageError(f"areas have shape {values.shape}, not [N] with N >= 1")
    if np.isinf(values).any() or (values < 0).any():
        raise UsageError("an area is negative or infinite", remedy="Pass 0 or nan for no mask")
    return values


def median_of_three(values: Array) -> Array:
    """Running median of float64 [n]; the ends count twice in their own."""
    padded = np.pad(values, 1, mode="edge") if values.size else np.zeros(2)
    medians: Array = np.median(np.stack([padded[:-2], values, padded[2:]]), axis=0)
    return medians
