"""The rule by which libpkecho tells heart beats apart, written down a second time.

The library sees one frame at a time (firmware/src/beats.cpp); this looks at a whole sequence of
frames and says which of them a beat would have been reported with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.metrics.area_curve import find_ed_es
from pkecho_edge.metrics.ejection_fraction import ejection_fraction

Array = NDArray[np.float64]

RANGE_S, RANGE_FRAMES = 3.0, 150
CAPACITY = 1024
FLAT_RATIO = 1.05


class Flag(IntFlag):
    """PKECHO_BEAT_* of pkecho.h."""

    VALID, FRAMES, SHORT, LONG, FLAT, SPACING = (1 << bit for bit in range(6))


@dataclass(frozen=True)
class Curve:
    """Frames in time order, [N] each; timestamps in seconds, all of them nan where untimed."""

    times: Array
    areas: Array
    volumes: Array
    valid: NDArray[np.bool_]
    spaced: bool = True

    def __len__(self) -> int:
        return len(self.areas)

    def part(self, frames: slice) -> Curve:
        """Some of the frames."""
        return Curve(
            self.times[frames],
            self.areas[frames],
            self.volumes[frames],
            self.valid[frames],
            self.spaced,
        )


@dataclass(frozen=True)
class Beat:
    """pkecho_beat, but for its number; frames are counted from the beginning of the curve."""

    flags: Flag
    frames: int
    ed: int
    es: int
    ejection_fraction: float


def find_beats(curve: Curve) -> dict[int, Beat]:
    """The beats of a curve, by the frame that each is reported with."""
    beats: dict[int, Beat] = {}
    begin = 0
    while begin < len(curve):
        rest = curve.part(slice(begin, None))
        cuts, given_up = _cuts(rest)
        for (start, _), (end, known) in pairwise(cuts):
            beat = _beat(rest, start, end, begin)
            if beat is not None:
                beats[begin + known] = beat
        begin += given_up
    return beats


def _cuts(curve: Curve) -> tuple[list[tuple[int, int]], int]:
    """Frames that begin a beat, each with the frame that it is known at.

    The second value is the frame at which a beat is given up because there is no room for it: there
    everything begins anew. The curve's length where that does not happen.
    """
    cuts: list[tuple[int, int]] = []
    emptied = False
    candidates = np.flatnonzero(curve.areas > 0)
    for i, (frame, known) in enumerate(pairwise(candidates)):
        held = cuts[-1][0] if cuts else frame
        if known - held >= CAPACITY:
            return cuts, int(held) + CAPACITY
        smooth = _smooth(curve.areas[candidates[: i + 2]])
        recent = smooth[_in_range(curve, candidates[: i + 1])]
        least, most = recent.min(), recent.max()
        if not most > least * FLAT_RATIO:
            continue
        low, high = least + (most - least) * np.array([1, 2]) / 3
        if smooth[i] < low:
            emptied = True
        elif emptied and smooth[i] > high:
            cuts.append((int(frame), int(known)))
            emptied = False
    return cuts, len(curve)


def _smooth(areas: Array) -> Array:
    """Running median of three, [n] -> [n - 1], the last not known; the first counts twice."""
    before = np.concatenate([areas[:1], areas[:-2]])
    return np.asarray(np.median([before, areas[:-1], areas[1:]], axis=0))


def _in_range(curve: Curve, frames: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of these frames make up the range that the last of them is judged by."""
    last = frames[-1]
    if math.isnan(curve.times[last]):
        recent = last - frames < RANGE_FRAMES
    else:
        recent = curve.times[last] - curve.times[frames] <= RANGE_S
    return np.asarray(recent & (np.arange(len(frames)) >= len(frames) - CAPACITY))


def _beat(curve: Curve, start: int, end: int, offset: int) -> Beat | None:
    """The beat from one frame to before another; None where its curve does not say."""
    found = find_ed_es(curve.areas[start:end])
    if found is None:
        return None
    ed, es = start + found[0], start + found[1]
    fraction = ejection_fraction(curve.volumes[ed], curve.volumes[es])
    seconds = curve.times[end] - curve.times[start]  # nan where untimed
    flags = Flag(0)
    if not (curve.valid[ed] and curve.valid[es]) or math.isnan(fraction):
        flags |= Flag.FRAMES
    if end - start < 8 or seconds < 0.3:
        flags |= Flag.SHORT
    if seconds > 2.5:
        flags |= Flag.LONG
    if curve.areas[es] > 0.95 * curve.areas[ed] or fraction <= 0:
        flags |= Flag.FLAT
    if not curve.spaced:
        flags |= Flag.SPACING
    return Beat(flags or Flag.VALID, end - start, offset + ed, offset + es, fraction)


def split_at(curve: Curve, restarts: list[int]) -> Iterator[tuple[int, Curve]]:
    """The sequences between restarts, each with its first frame."""
    edges = [0, *sorted(set(restarts)), len(curve)]
    for start, end in pairwise(edges):
        yield start, curve.part(slice(start, end))
