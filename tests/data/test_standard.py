"""The standard held-out set never changes and overlaps nothing."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest

from pkecho_edge.data import standard
from pkecho_edge.data.phantom import QUALITIES
from pkecho_edge.data.standard import (
    STANDARD_SEEDS,
    TRAINING_SEEDS,
    clip_recordings,
    standard_recordings,
    standard_specs,
)
from pkecho_edge.errors import UsageError


def test_no_two_sets_share_a_seed() -> None:
    ranges = [getattr(standard, name) for name in standard.__all__ if name.endswith("_SEEDS")]

    assert len(ranges) >= 4
    for first, second in combinations(ranges, 2):
        assert first[-1] < second[0] or second[-1] < first[0]


def test_training_has_the_first_million() -> None:
    assert range(0, 1_000_000) == TRAINING_SEEDS


def test_two_hundred_hearts_in_three_qualities() -> None:
    specs = standard_specs()

    assert Counter(spec.quality for spec in specs) == {"good": 80, "medium": 80, "poor": 40}
    assert [spec.seed for spec in specs] == list(STANDARD_SEEDS)
    assert len({spec.identifier for spec in specs}) == 200


@pytest.mark.parametrize("count", [5, 10, 50])
def test_the_first_part_has_the_same_mix(count: int) -> None:
    qualities = Counter(spec.quality for spec in standard_specs(count))

    assert [qualities[name] * 5 for name in QUALITIES] == [count * 2, count * 2, count]
    assert standard_specs(count) == standard_specs()[:count]


@pytest.mark.parametrize("count", [0, -1, 201])
def test_a_count_outside_the_set(count: int) -> None:
    with pytest.raises(UsageError, match="200"):
        standard_specs(count)


def test_recordings_are_made_one_at_a_time_as_the_specs_say() -> None:
    recordings = standard_recordings((32, 32), count=200, length=2)

    first = next(recordings)

    assert first.identifier == standard_specs(1)[0].identifier
    assert first.frames.shape == (2, 32, 32)
    assert first.quality == "good"


def test_clip_recordings_of_no_seed() -> None:
    assert list(clip_recordings(range(0), (32, 32))) == []
