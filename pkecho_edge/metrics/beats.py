"""Heart beats of a whole recording, each with its ED, ES, volumes and ejection fraction.

What the C library says of a live stream (`pkecho_beat` in pkecho.h), in the same words and by the
same limits. There the range of areas is that of the last seconds, because the rest is not known
yet; here it is that of all frames that belong together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.metrics.area_curve import find_ed_es, median_of_three, split_beats
from pkecho_edge.metrics.ejection_fraction import DISCS, ejection_fraction

__all__ = ["BEAT_FLAGS", "BEAT_METHOD", "Beat", "find_beats"]

BEAT_METHOD = f"single-plane discs, {DISCS}, principal axis"

BEAT_FLAGS = {
    "frames": "the ED or ES frame is not valid",
    "short": "fewer than 8 frames, or under 0.3 s",
    "long": "over 2.5 s",
    "flat": "ES area above 95 % of ED area, or an ES volume not below ED's",
    "spacing": "no spacing: volumes are in cubic pixels",
    "partial": "no beat is whole: ED and ES of all frames",
}
"""Name -> meaning; the last one is of recordings alone, a live stream waits for a whole beat."""

_FEWEST_FRAMES, _SHORTEST_S, _LONGEST_S, _FLAT_SHARE = 8, 0.3, 2.5, 0.95
_FLAT_RATIO = 1.05  # of the largest to the smallest median: noise makes no beats


@dataclass(frozen=True)
class Beat:
    """From one filling of the ventricle to the next.

    Attributes:
        number: 1 for the recording's first.
        first, frames: number of its first frame, and how many there are.
        ed_index, es_index: numbers of the frames of end-diastole and end-systole.
        ed_volume, es_volume: ml with a spacing, else cubic pixels.
        ejection_fraction: percent; nan where it cannot be computed.
        flags: of BEAT_FLAGS, in their order.
    """

    number: int
    first: int
    frames: int
    ed_index: int
    es_index: int
    ed_volume: float
    es_volume: float
    ejection_fraction: float
    flags: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether its ejection fraction may be acted on: no flag is set."""
        return not self.flags

    @property
    def counts(self) -> bool:
        """Whether it belongs into a mean: EF needs no scale, so a missing spacing does not matter.

        That holds as long as pixels are square.
        """
        return set(self.flags) <= {"spacing"}


def find_beats(
    areas: NDArray[np.float64],
    valid: Sequence[bool],
    volume_of: Callable[[int], float],
    *,
    times_s: NDArray[np.float64] | None = None,
    starts: Sequence[int] = (0,),
    spaced: bool = False,
) -> list[Beat]:
    """The beats of a recording, in time order.

    A beat is cut and its ED and ES are found by the rules of `area_curve`. Where a sequence holds
    no whole beat, and it is the only one, all its frames make up one that is flagged "partial".

    Args:
        areas: f64 [N], of the mask on each frame, in any unit; 0 for an empty one.
        valid: [N], whether a frame's area may be acted on.
        volume_of: the volume of a frame's mask; asked for ED and ES only.
        times_s: f64 [N], ascending; None where unknown: no beat is then too short or too long in
            seconds.
        starts: the frames at which a sequence begins that has nothing to do with what was before,
            ascending, the first 0.
        spaced: whether volumes are in ml.

    Returns:
        None at all where nothing moves, or no mask was found.
    """
    beats: list[Beat] = []
    for piece, partial in _pieces(areas, starts):
        found = find_ed_es(areas[piece])
        if found is None:
            continue
        ed, es = (piece.start + index for index in found)
        volumes = volume_of(ed), volume_of(es)
        fraction = ejection_fraction(*volumes)
        flags = {
            "frames": not (valid[ed] and valid[es]) or math.isnan(fraction),
            **_length_flags(piece, times_s),
            "flat": bool(areas[es] > _FLAT_SHARE * areas[ed]) or fraction <= 0,
            "spacing": not spaced,
            "partial": partial,
        }
        raised = tuple(name for name in BEAT_FLAGS if flags[name])
        beat = Beat(
            len(beats) + 1,
            piece.start,
            piece.stop - piece.start,
            ed,
            es,
            *volumes,
            fraction,
            raised,
        )
        beats.append(beat)
    return beats


def _pieces(areas: NDArray[np.float64], starts: Sequence[int]) -> Iterator[tuple[slice, bool]]:
    """The frames of each beat, and whether they are a sequence without a whole one."""
    ends = (*starts[1:], len(areas))
    for start, end in zip(starts, ends, strict=True):
        known = areas[start:end]
        known = median_of_three(known[known > 0])
        if not known.size or known.max() <= known.min() * _FLAT_RATIO:
            continue
        for beat in split_beats(areas[start:end]):
            partial = beat == slice(0, end - start)  # no cut is at the first frame
            if not partial or len(starts) == 1:
                yield slice(start + beat.start, start + beat.stop), partial


def _length_flags(piece: slice, times_s: NDArray[np.float64] | None) -> dict[str, bool]:
    """Of its frames, and of its seconds to the first frame of the next beat."""
    seconds = math.nan  # compares as neither short nor long
    if times_s is not None:
        seconds = float(times_s[min(piece.stop, len(times_s) - 1)] - times_s[piece.start])
    few = piece.stop - piece.start < _FEWEST_FRAMES
    return {"short": few or seconds < _SHORTEST_S, "long": seconds > _LONGEST_S}
