"""Flicker and jitter of sequences drawn by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from pkecho_edge.errors import UsageError
from pkecho_edge.metrics.flicker import flicker, jitter

Masks = NDArray[np.bool_]

MASKS = st.integers(1, 6).flatmap(lambda n: arrays(np.bool_, (n, 4, 5)))


def blocks(*pixels: int) -> Masks:
    """bool [N, 10, 10]; frame i has its first pixels[i] set, so counts are percentages."""
    return np.stack([np.arange(100).reshape(10, 10) < count for count in pixels])


def test_a_mask_that_alternates_flickers_by_what_comes_and_goes() -> None:
    steady, alternating = blocks(30, 30, 30, 30), blocks(30, 34, 30, 34)

    assert flicker(steady, alternating).tolist() == [0.04, 0.04, 0.04]


def test_masks_that_move_together_do_not_flicker() -> None:
    beat = blocks(60, 45, 30, 45, 60)

    assert flicker(beat, beat).tolist() == [0, 0, 0, 0]


def test_a_constant_difference_does_not_flicker() -> None:
    beat, wider = np.zeros((2, 5, 9, 9), dtype=np.bool_)
    for index, side in enumerate((7, 5, 3, 5, 7)):
        beat[index, :side, :side] = True
    wider[:] = beat
    wider[:, 8, 8] = True  # a speck that stays

    assert (wider ^ beat).any()
    assert not flicker(beat, wider).any()


def test_a_change_that_is_not_followed_is_flicker_too() -> None:
    assert flicker(blocks(60, 40), blocks(60, 60)).tolist() == [0.2]
    assert flicker(blocks(60, 60), blocks(60, 40)).tolist() == [0.2]


def test_a_mask_that_vanishes_for_a_frame_flickers_twice() -> None:
    assert flicker(blocks(30, 30, 30), blocks(30, 0, 30)).tolist() == [0.3, 0.3]


def test_two_empty_sequences_do_not_flicker() -> None:
    assert flicker(blocks(0, 0, 0), blocks(0, 0, 0)).tolist() == [0, 0]


def test_one_frame_has_no_pair() -> None:
    assert flicker(blocks(3), blocks(4)).shape == (0,)


@given(reference=MASKS, data=st.data())
def test_it_is_the_share_that_changes_in_one_and_not_in_the_other(
    reference: Masks, data: st.DataObject
) -> None:
    other = data.draw(arrays(np.bool_, reference.shape))
    changes = [masks[1:] != masks[:-1] for masks in (reference, other)]

    expected = (changes[0] != changes[1]).mean(axis=(1, 2))

    np.testing.assert_allclose(flicker(reference, other), expected)
    np.testing.assert_array_equal(flicker(other, reference), flicker(reference, other))


@pytest.mark.parametrize(
    ("reference", "other"),
    [
        pytest.param(blocks(1, 2), blocks(1, 2, 3), id="two lengths"),
        pytest.param(blocks(1)[0], blocks(1)[0], id="no sequence"),
        pytest.param(blocks(1).astype(np.uint8), blocks(1), id="not bool"),
    ],
)
def test_what_is_no_pair_of_sequences_is_refused(reference: Masks, other: Masks) -> None:
    with pytest.raises(UsageError):
        flicker(reference, other)


def test_jitter_of_an_area_that_alternates() -> None:
    found = jitter([100, 100, 100, 100, 100], [100, 102, 100, 102, 100])

    # changes of +2, -2, +2, -2 % of the mean area: standard deviation sqrt(16 / 3)
    assert found.difference == pytest.approx(0.02 * math.sqrt(4 / 3))
    assert found.reference == 0
    assert found.other == pytest.approx(found.difference)


def test_an_area_that_drifts_evenly_has_no_jitter() -> None:
    beat = np.array([100.0, 80, 60, 80, 100, 80])

    found = jitter(beat, beat + 3 * np.arange(6))

    assert found.difference == pytest.approx(0, abs=1e-12)
    assert found.reference > 0.2  # the beat itself


def test_jitter_does_not_depend_on_the_unit() -> None:
    ours, theirs = np.array([50.0, 40, 45, 52]), np.array([50.0, 42, 45, 50])

    assert jitter(7 * ours, 7 * theirs).difference == pytest.approx(jitter(ours, theirs).difference)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param([], [], id="no frame"),
        pytest.param([5, 6], [5, 7], id="one change has no spread"),
        pytest.param([0, 0, 0, 0], [0, 3, 0, 3], id="no area to relate to"),
    ],
)
def test_jitter_that_is_not_known_is_nan(ours: list[float], theirs: list[float]) -> None:
    found = jitter(ours, theirs)

    assert all(math.isnan(value) for value in (found.difference, found.reference, found.other))


@pytest.mark.parametrize("bad", [[1, 2], [1, -2, 3], [1, math.nan, 3], [1, math.inf, 3], [[1, 2]]])
def test_jitter_refuses_what_is_no_area(bad: list[float]) -> None:
    with pytest.raises(UsageError):
        jitter([1, 2, 3], bad)
