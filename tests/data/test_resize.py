"""The resize rule, on pictures whose answer is known on paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkecho_edge.data.resize import resize_frames, resize_masks, resized_spacing

SIZES = st.tuples(st.integers(1, 17), st.integers(1, 17))


def test_the_same_size_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 7, 5), dtype=np.uint8)
    masks = frames > 100

    np.testing.assert_array_equal(resize_frames(frames, (7, 5)), frames)
    np.testing.assert_array_equal(resize_masks(masks, (7, 5)), masks)


@given(before=SIZES, after=SIZES, value=st.integers(0, 255))
def test_a_constant_picture_stays_constant(
    before: tuple[int, int], after: tuple[int, int], value: int
) -> None:
    frames = np.full((2, *before), value, dtype=np.uint8)

    resized = resize_frames(frames, after)

    assert resized.dtype == np.uint8
    assert resized.shape == (2, *after)
    assert (resized == value).all()


@given(before=SIZES, after=SIZES)
def test_a_full_and_an_empty_mask_stay_so(before: tuple[int, int], after: tuple[int, int]) -> None:
    masks = np.stack([np.ones(before, dtype=np.bool_), np.zeros(before, dtype=np.bool_)])

    resized = resize_masks(masks, after)

    assert resized.shape == (2, *after)
    assert resized[0].all()
    assert not resized[1].any()


def test_two_pixels_become_four_at_half_pixel_centres() -> None:
    # output centres lie at -0.25 (clamped to 0), 0.25, 0.75 and 1.25 (clamped to 1)
    frames = np.array([[[0, 100]]], dtype=np.uint8)

    assert resize_frames(frames, (1, 4)).tolist() == [[[0, 25, 75, 100]]]
    assert resize_frames(frames.transpose(0, 2, 1), (4, 1)).ravel().tolist() == [0, 25, 75, 100]


def test_both_axes_at_once() -> None:
    frames = np.array([[[0, 80], [160, 240]]], dtype=np.uint8)  # 80 per column, 160 per row

    rows, columns = np.array([0, 40, 120, 160]), np.array([0, 20, 60, 80])
    expected = rows[:, None] + columns

    np.testing.assert_array_equal(resize_frames(frames, (4, 4))[0], expected)


def test_halving_takes_the_mean_of_two_and_rounds_half_up() -> None:
    frames = np.array([[[10, 20, 30, 41]]], dtype=np.uint8)

    assert resize_frames(frames, (1, 2)).tolist() == [[[15, 36]]]


def test_a_mask_takes_the_nearest_pixel() -> None:
    masks = np.array([[[True, False], [False, True]]])

    doubled = resize_masks(masks, (4, 4))

    np.testing.assert_array_equal(doubled[0], np.kron(masks[0], np.ones((2, 2))) > 0)
    np.testing.assert_array_equal(resize_masks(doubled, (2, 2)), masks)


def test_spacing_keeps_the_size_of_the_field_of_view() -> None:
    assert resized_spacing((0.5, 1.0), (100, 200), (50, 400)) == (1.0, 0.5)
    assert resized_spacing(None, (100, 200), (50, 400)) is None


@pytest.mark.parametrize("size", [(5, 9), (16, 3)])
def test_no_frames_stay_no_frames(size: tuple[int, int]) -> None:
    assert resize_frames(np.zeros((0, 8, 8), dtype=np.uint8), size).shape == (0, *size)
