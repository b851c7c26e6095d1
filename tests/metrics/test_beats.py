"""Beats of a whole recording, on curves whose beats are known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.metrics.beats import BEAT_FLAGS, Beat, find_beats

Curve = NDArray[np.float64]
RATE = 40


def hearts(count: float, *, low: float = 500, high: float = 1000, frames: int = 32) -> Curve:
    """Areas of so many beats of `frames` frames, beginning at the largest one."""
    phase = np.arange(round(count * frames)) / frames
    curve: Curve = low + (high - low) * (0.5 + 0.5 * np.cos(2 * np.pi * phase))
    return curve


def beats_of(areas: Curve, **options: object) -> list[Beat]:
    """With volumes that are the areas, all frames valid and 40 a second, unless told otherwise."""
    settings: dict[str, object] = {
        "times_s": np.arange(len(areas)) / RATE,
        "spaced": True,
        "valid": [True] * len(areas),
        **options,
    }
    return find_beats(areas, volume_of=lambda index: float(areas[index]), **settings)  # type: ignore[arg-type]


def test_every_whole_beat_has_its_own_ed_and_es() -> None:
    areas = hearts(4)

    found = beats_of(areas)

    assert [beat.number for beat in found] == [1, 2, 3]
    assert [beat.ed_index for beat in found] == [32, 64, 96]
    assert [beat.es_index for beat in found] == [48, 80, 112]
    assert [beat.ejection_fraction for beat in found] == pytest.approx([50, 50, 50])
    assert all(beat.valid and beat.counts and beat.frames == 32 for beat in found)
    assert all(b.first + b.frames == c.first for b, c in pairwise(found))


def test_without_a_spacing_beats_count_all_the_same() -> None:
    found = beats_of(hearts(3), spaced=False)

    assert {beat.flags for beat in found} == {("spacing",)}
    assert not any(beat.valid for beat in found)
    assert all(beat.counts for beat in found)


def test_a_beat_whose_ed_is_not_valid_does_not_count() -> None:
    areas = hearts(4)

    found = beats_of(areas, valid=[index != 64 for index in range(len(areas))])

    assert [beat.flags for beat in found] == [(), ("frames",), ()]
    assert [beat.counts for beat in found] == [True, False, True]


@pytest.mark.parametrize(
    ("frames", "flags"), [(32, ()), (7, ("short",)), (11, ("short",)), (110, ("long",))]
)
def test_a_beat_of_a_length_that_no_heart_has(frames: int, flags: tuple[str, ...]) -> None:
    found = beats_of(hearts(4, frames=frames))

    assert found
    assert {beat.flags for beat in found} == {flags}


def test_without_times_only_few_frames_are_short() -> None:
    assert {beat.flags for beat in beats_of(hearts(4, frames=11), times_s=None)} == {()}
    assert {beat.flags for beat in beats_of(hearts(4, frames=110), times_s=None)} == {()}
    assert {beat.flags for beat in beats_of(hearts(4, frames=7), times_s=None)} == {("short",)}


def test_volumes_that_do_not_shrink_are_flat() -> None:
    areas = hearts(3)

    found = find_beats(areas, [True] * len(areas), lambda index: 80.0, spaced=True)

    assert {beat.flags for beat in found} == {("flat",)}
    assert {beat.ejection_fraction for beat in found} == {0.0}


def test_a_contraction_that_can_hardly_be_seen_is_flat() -> None:
    assert {beat.flags for beat in beats_of(hearts(4, low=951))} == {("flat",)}


def test_a_volume_of_nothing_makes_no_ejection_fraction() -> None:
    areas = hearts(3)

    found = find_beats(areas, [True] * len(areas), lambda index: 0.0, spaced=True)

    assert all(math.isnan(beat.ejection_fraction) for beat in found)
    assert all("frames" in beat.flags for beat in found)


def test_a_single_contraction_is_a_partial_beat() -> None:
    (beat,) = beats_of(hearts(0.5))

    assert (beat.ed_index, beat.es_index, beat.first, beat.frames) == (0, 15, 0, 16)
    assert beat.flags == ("partial",)
    assert not beat.counts


@pytest.mark.parametrize(
    "areas",
    [
        pytest.param(np.zeros(40), id="no mask"),
        pytest.param(np.full(40, 700.0), id="nothing moves"),
        pytest.param(700 + 10 * np.random.default_rng(0).standard_normal(200), id="noise"),
        pytest.param(np.array([700.0]), id="one frame"),
    ],
)
def test_where_nothing_moves_there_are_no_beats(areas: Curve) -> None:
    assert beats_of(areas) == []


def test_no_beat_reaches_across_a_break() -> None:
    areas = hearts(6)

    found = beats_of(areas, starts=[0, 100, 180])  # the last piece holds no whole beat

    assert not [beat for beat in found if beat.first < 100 < beat.first + beat.frames]
    assert [beat.number for beat in found] == [1, 2, 3, 4][: len(found)]
    assert len(found) >= 2
    assert all("partial" not in beat.flags for beat in found)


def test_every_flag_is_explained() -> None:
    assert list(BEAT_FLAGS) == ["frames", "short", "long", "flat", "spacing", "partial"]
