"""Which phantom seeds serve what, in one place, so that no set can overlap another.

The standard held-out set is 200 recordings, quality good/medium/poor 40/40/20 %. It is never used
for training, calibration or tuning.
"""

from __future__ import annotations

from collections.abc import Iterator

from pkecho_edge.data.clip import CLIP_LENGTH
from pkecho_edge.data.phantom import PhantomSpec, draw_spec, phantom_clip_recording
from pkecho_edge.data.recording import Recording
from pkecho_edge.errors import UsageError

__all__ = [
    "CALIBRATION_SEEDS",
    "DEMO_SEEDS",
    "STANDARD_COUNT",
    "STANDARD_SEEDS",
    "TRAINING_SEEDS",
    "TUNING_SEEDS",
    "clip_recordings",
    "standard_recordings",
    "standard_specs",
]

TRAINING_SEEDS = range(0, 1_000_000)
CALIBRATION_SEEDS = range(1_000_000, 2_000_000)
TUNING_SEEDS = range(2_000_000, 3_000_000)
DEMO_SEEDS = range(3_000_000, 4_000_000)
STANDARD_SEEDS = range(9_000_000, 9_000_200)

STANDARD_COUNT = len(STANDARD_SEEDS)
# five in a row hold the 40/40/20 mix, so any first part of the set has it too
_QUALITY_CYCLE = ("good", "medium", "good", "medium", "poor")


def standard_specs(count: int = STANDARD_COUNT) -> tuple[PhantomSpec, ...]:
    """The first `count` phantoms of the standard set.

    Raises:
        UsageError: count is not 1 to 200.
    """
    if not 1 <= count <= STANDARD_COUNT:
        raise UsageError(
            f"the standard set has {STANDARD_COUNT} recordings, not {count}",
            remedy=f"Ask for 1 to {STANDARD_COUNT}",
        )
    seeds = STANDARD_SEEDS[:count]
    return tuple(draw_spec(seed, _QUALITY_CYCLE[i % 5]) for i, seed in enumerate(seeds))


def standard_recordings(
    size: tuple[int, int], count: int = STANDARD_COUNT, length: int = CLIP_LENGTH
) -> Iterator[Recording]:
    """The standard set as recordings of `length` frames from ED to ES, made one at a time."""
    for spec in standard_specs(count):
        yield phantom_clip_recording(spec, length=length, size=size)


def clip_recordings(
    seeds: range, size: tuple[int, int], length: int = CLIP_LENGTH
) -> Iterator[Recording]:
    """Phantoms of drawn quality, one per seed, as recordings of `length` frames from ED to ES."""
    for seed in seeds:
        yield phantom_clip_recording(draw_spec(seed), length=length, size=size)
