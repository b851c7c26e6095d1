"""Which clips of many become the calibration set.

Every rule takes one clip of each patient before it takes a second of any: two clips of one heart
say less than one each of two. The same clips and seed give the same choice.

- random: that, and nothing else.
- stratified: as many from each stratum of quality, phase and brightness as there are to go round.
  Phase is whether a clip runs from ED to ES, from ES to ED, or is unknown; brightness is a third of
  the clips, by their mean grey.
- coverage: one clip after another, each the one that adds most to the ranges that the chosen ones
  reach, summed over all channels of all tensors, each as a share of what all clips reach together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CalibrationError, UsageError

__all__ = ["SELECTION_RULES", "cover", "coverage", "select_clips"]

SELECTION_RULES = ("random", "stratified", "coverage")


def select_clips(
    clips: Sequence[Clip],
    count: int,
    seed: int,
    rule: str = "random",
    ranges: NDArray[np.float32] | None = None,
) -> list[Clip]:
    """`count` clips without repetition, in the order given; all of them where there are fewer.

    Args:
        clips: to choose from.
        count: how many.
        seed: of "random" and "stratified".
        rule: of SELECTION_RULES.
        ranges: of "coverage": f32 [clips, channels, 2], what each clip's channels reach.

    Raises:
        CalibrationError: count is below one, or there are no clips.
        UsageError: there is no such rule, or coverage has no ranges.
    """
    if count < 1 or not clips:
        raise CalibrationError(
            "the calibration set would be empty", remedy="Name a folder with recordings"
        )
    if rule not in SELECTION_RULES:
        raise UsageError(
            f"unknown rule {rule!r}", remedy=f"Use --rule {', '.join(SELECTION_RULES)}"
        )
    patients = [clip.patient for clip in clips]
    if rule == "coverage":
        if ranges is None:
            raise UsageError("coverage needs the channels' ranges", remedy="Observe the clips")
        return [clips[i] for i in sorted(cover(ranges, patients, count))]
    shuffled = np.random.default_rng(seed).permutation(len(clips)).tolist()
    groups = _strata(clips) if rule == "stratified" else [""] * len(clips)
    return [clips[i] for i in sorted(_in_turn(shuffled, patients, groups)[:count])]


def _in_turn(order: Sequence[int], patients: Sequence[str], groups: Sequence[str]) -> list[int]:
    """An order in which groups take turns, and in each group patients before second clips."""
    seen: dict[str, int] = {}
    queues: dict[str, list[tuple[int, int]]] = {}
    for index in order:
        repeats = seen[patients[index]] = seen.get(patients[index], -1) + 1
        queues.setdefault(groups[index], []).append((repeats, index))
    # of a patient's n-th clip: by n first, then by its place in its group, groups in turn
    ranked = []
    for number, queue in enumerate(queues.values()):
        for place, (repeats, index) in enumerate(sorted(queue, key=lambda pair: pair[0])):
            ranked.append((repeats, place, number, index))
    return [index for *_, index in sorted(ranked)]


def _strata(clips: Sequence[Clip]) -> list[str]:
    """Each clip's stratum: quality, phase, third of brightness."""
    brightness = np.array([clip.frames.mean() for clip in clips])
    thirds = np.searchsorted(np.quantile(brightness, [1 / 3, 2 / 3]), brightness)
    return [
        f"{clip.quality or 'unknown'}/{_phase(clip)}/{third}"
        for clip, third in zip(clips, thirds, strict=True)
    ]


def _phase(clip: Clip) -> str:
    if clip.ed_index is None or clip.es_index is None:
        return "unknown"
    return "systole" if clip.ed_index < clip.es_index else "diastole"


def cover(ranges: NDArray[np.float32], patients: Sequence[str], count: int) -> list[int]:
    """Greedy coverage: the numbers of the chosen clips, in the order of their choice.

    Args:
        ranges: f32 [clips, channels, 2], smallest and largest value.
        patients: of each clip; one of a new patient goes before a second of a known one.
        count: how many; all where there are fewer.
    """
    low, high = _scaled(ranges)
    reached_low, reached_high = np.full(low.shape[1], np.inf), np.full(low.shape[1], -np.inf)
    taken: dict[str, int] = {}
    chosen: list[int] = []
    left = list(range(len(low)))
    while left and len(chosen) < count:
        fewest = min(taken.get(patients[i], 0) for i in left)
        allowed = [i for i in left if taken.get(patients[i], 0) == fewest]
        spans = [
            np.sum(np.maximum(high[i], reached_high) - np.minimum(low[i], reached_low))
            for i in allowed
        ]
        best = allowed[int(np.argmax(spans))]
        chosen.append(best)
        left.remove(best)
        taken[patients[best]] = taken.get(patients[best], 0) + 1
        reached_low = np.minimum(low[best], reached_low)
        reached_high = np.maximum(high[best], reached_high)
    return chosen


def coverage(ranges: NDArray[np.float32], chosen: Sequence[int]) -> float:
    """Share of what all clips reach that the chosen ones reach, the mean over channels.

    Returns:
        0 to 1; 0 for no clips, 1 where no channel moves.
    """
    if not len(chosen):
        return 0.0
    low, high = _scaled(ranges)
    if not low.shape[1]:
        return 1.0
    reached = high[list(chosen)].max(axis=0) - low[list(chosen)].min(axis=0)
    return float(reached.mean())


def _scaled(ranges: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest value, f64 [clips, channels], 0 to 1 over all clips; none dead."""
    low, high = ranges[..., 0].astype(np.float64), ranges[..., 1].astype(np.float64)
    floor, width = low.min(axis=0), high.max(axis=0) - low.min(axis=0)
    alive = width > 0
    return (low - floor)[:, alive] / width[alive], (high - floor)[:, alive] / width[alive]
