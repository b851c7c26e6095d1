"""ED and ES on curves whose extremes anyone can see."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pkecho_edge.errors import UsageError
from pkecho_edge.metrics.area_curve import find_ed_es, split_beats

AREAS = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("areas", "expected"),
    [
        pytest.param([40, 38, 33, 27, 22, 20], (0, 5), id="a clip from ED to ES"),
        pytest.param([20, 24, 31, 36, 40], (4, 0), id="a clip from ES to ED"),
        pytest.param([25, 30, 40, 36, 22, 20, 23, 28], (2, 5), id="a beat"),
        pytest.param([30, 40, 40, 30, 20, 20, 25], (1, 4), id="of equals the first"),
        pytest.param([40, 37, 90, 31, 26, 20], (0, 5), id="one frame too large"),
        pytest.param([40, 37, 33, 2, 26, 20], (0, 5), id="one frame too small"),
        pytest.param([40, 36, 0, math.nan, 24, 20], (0, 5), id="frames without a mask"),
        pytest.param([0, 40, 20, 0], (1, 2), id="two candidates"),
    ],
)
def test_the_largest_and_the_smallest_area(areas: Any, expected: tuple[int, int]) -> None:
    assert find_ed_es(areas) == expected
    assert find_ed_es(np.array(areas, dtype=float)) == expected


@pytest.mark.parametrize(
    "areas",
    [
        pytest.param([7, 7, 7, 7], id="constant"),
        pytest.param([7, 7, 9, 7, 7], id="constant but for one frame"),
        pytest.param([2, 1, 3, 1, 2], id="a zigzag"),
        pytest.param([7], id="one frame"),
        pytest.param([0, 7, math.nan, 0], id="one candidate"),
        pytest.param([0, 0, math.nan], id="none"),
    ],
)
def test_a_curve_that_does_not_say(areas: list[float]) -> None:
    assert find_ed_es(areas) is None


@given(
    st.lists(st.floats(1, 100), min_size=1, max_size=10, unique=True),
    st.lists(st.floats(1, 100), min_size=1, max_size=10, unique=True),
)
def test_the_median_moves_no_extreme_of_a_single_beat(rise: list[float], fall: list[float]) -> None:
    assume(len({*rise, *fall}) > 1)
    beat = np.array([*sorted(rise), 200.0, *sorted(fall, reverse=True)])
    found = find_ed_es(beat)
    assert found is not None
    assert found[0] == np.argmax(beat)
    assert beat[found[1]] == beat.min()


@given(AREAS)
def test_both_are_frames_with_a_mask_and_ed_is_the_larger(areas: list[float]) -> None:
    found = find_ed_es(areas)
    if found is not None:
        ed, es = found
        assert areas[ed] > areas[es] > 0


@given(AREAS, st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_unit_does_not_matter(areas: list[float], factor: float) -> None:
    assert find_ed_es([factor * area for area in areas]) == find_ed_es(areas)


@pytest.mark.parametrize("areas", [[], [[1.0, 2.0]], [1.0, -1.0], [1.0, math.inf]])
def test_what_are_no_areas_is_refused(areas: Any) -> None:
    with pytest.raises(UsageError, match="area"):
        find_ed_es(areas)


BEAT = [80, 95, 100, 90, 70, 55, 50, 55, 70]
"""One beat of nine frames: ED at 2, ES at 6."""


def test_each_whole_beat_is_a_piece_of_its_own() -> None:
    areas = BEAT * 5

    beats = split_beats(areas)

    assert len(beats) == 3  # nobody saw the first one rise, nor the last one end
    assert all(beat.stop - beat.start == len(BEAT) for beat in beats)
    for index, beat in enumerate(beats):
        found = find_ed_es(areas[beat])
        assert found is not None
        ed, es = found
        # the rise above 83.3, a frame before ED, begins the next one
        assert (beat.start + ed, beat.start + es) == (9 * (index + 1) + 2, 9 * (index + 1) + 6)


def test_a_pixel_more_in_another_beat_moves_no_ed() -> None:
    ours, theirs = BEAT * 5, BEAT * 5
    ours[11] += 1
    theirs[29] += 1
    whole = find_ed_es(ours), find_ed_es(theirs)
    assert whole[0] != whole[1]  # two beats apart, for nothing

    for beat in split_beats(ours):
        assert find_ed_es(ours[beat]) == find_ed_es(theirs[beat])


@pytest.mark.parametrize(
    "areas",
    [
        pytest.param([7], id="one frame"),
        pytest.param([7, 7, 7, 7], id="nothing moves"),
        pytest.param([0, 0, math.nan], id="no mask at all"),
        pytest.param([40, 38, 33, 27, 22, 20], id="from ED to ES"),
        pytest.param(BEAT, id="one beat"),
        pytest.param(BEAT[5:] + BEAT[:5], id="from ES to ES"),
    ],
)
def test_without_a_second_rise_there_is_one_piece(areas: list[float]) -> None:
    assert split_beats(areas) == [slice(0, len(areas))]


@given(areas=AREAS)
def test_pieces_follow_one_another(areas: list[float]) -> None:
    beats = split_beats(areas)

    assert beats
    assert all(a.stop == b.start for a, b in itertools.pairwise(beats))
    assert all(0 <= beat.start < beat.stop <= len(areas) for beat in beats)


def test_beats_of_what_is_no_curve_are_refused() -> None:
    for bad in ([], [-1.0, 2.0], [math.inf]):
        with pytest.raises(UsageError):
            split_beats(bad)
