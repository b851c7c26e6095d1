"""Tracing a mask and filling the trace again, on shapes whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.data.tracing import (
    CHORDS,
    fill_polygon,
    polygon_area,
    single_plane_volume,
    trace_mask,
)
from pkecho_edge.errors import RecordingError


def ellipse(
    size: tuple[int, int], semi: tuple[float, float], degrees: float = 0.0
) -> NDArray[np.bool_]:
    """A filled ellipse in the middle, semi-axes along (rows, columns) before it is turned."""
    row, column = (np.arange(n) - (n - 1) / 2 for n in size)
    turn = np.deg2rad(degrees)
    along = row[:, None] * np.cos(turn) + column * np.sin(turn)
    across = column * np.cos(turn) - row[:, None] * np.sin(turn)
    return np.asarray((along / semi[0]) ** 2 + (across / semi[1]) ** 2 <= 1)


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_a_square_is_filled_by_its_pixel_centres() -> None:
    square = np.array([[0.5, 1.5], [3.5, 1.5], [3.5, 4.5], [0.5, 4.5]])

    filled = fill_polygon(square, (6, 6))

    expected = np.zeros((6, 6), dtype=np.bool_)
    expected[2:5, 1:4] = True
    np.testing.assert_array_equal(filled, expected)
    assert polygon_area(square) == 9


def test_neighbours_that_share_an_edge_share_no_pixel() -> None:
    left = fill_polygon(np.array([[0.0, 0], [3, 0], [3, 4], [0, 4]]), (6, 8))
    right = fill_polygon(np.array([[3.0, 0], [6, 0], [6, 4], [3, 4]]), (6, 8))

    assert not (left & right).any()
    assert (left | right).sum() == 24


def test_a_corner_on_a_scan_line_counts_once() -> None:
    diamond = np.array([[4.0, 1], [7, 4], [4, 7], [1, 4]])

    widths = fill_polygon(diamond, (9, 9)).sum(axis=1)

    np.testing.assert_array_equal(widths, [0, 0, 2, 4, 6, 4, 2, 0, 0])


def test_a_hole_is_no_part_of_an_even_odd_polygon() -> None:
    twice = np.array([[0.5, 0.5], [6.5, 0.5], [6.5, 6.5], [0.5, 6.5]])

    assert not fill_polygon(np.concatenate([twice, twice]), (8, 8)).any()


def test_what_lies_outside_the_image_is_cut_off() -> None:
    around = np.array([[-50.0, -50], [60, -50], [60, 60], [-50, 60]])

    assert fill_polygon(around, (5, 7)).all()
    assert not fill_polygon(around + 1000, (5, 7)).any()


@pytest.mark.parametrize("corners", [0, 1, 2])
def test_fewer_than_three_corners_are_empty(corners: int) -> None:
    line = np.arange(2.0 * corners).reshape(corners, 2)

    assert polygon_area(line) == 0
    assert not fill_polygon(line, (6, 6)).any()


@pytest.mark.parametrize("degrees", [-30, 0, 20])
def test_a_trace_fills_to_the_mask_it_was_drawn_from(degrees: float) -> None:
    mask = ellipse((112, 112), (38, 20), degrees)

    trace = trace_mask(mask)

    assert trace.chords.shape == (CHORDS, 2, 2)
    assert dice(fill_polygon(trace.polygon, mask.shape), mask) > 0.98


def test_the_trace_runs_from_the_apex_down_with_left_ends_first() -> None:
    trace = trace_mask(ellipse((112, 112), (38, 20), 10))

    assert trace.axis[0, 1] < trace.axis[1, 1]
    assert (np.diff(trace.chords[:, :, 1].mean(axis=1)) > 0).all()
    assert (trace.chords[:, 0, 0] < trace.chords[:, 1, 0]).all()


def test_chords_stand_across_the_axis() -> None:
    trace = trace_mask(ellipse((112, 112), (38, 20), 25))
    axis = trace.axis[1] - trace.axis[0]

    np.testing.assert_allclose((trace.chords[:, 1] - trace.chords[:, 0]) @ axis, 0, atol=1e-6)


def test_an_empty_mask_has_no_trace_and_no_volume() -> None:
    empty = np.zeros((8, 8), dtype=np.bool_)

    assert single_plane_volume(empty) == 0
    with pytest.raises(RecordingError, match="empty"):
        trace_mask(empty)


def test_a_single_pixel_can_be_traced() -> None:
    mask = np.zeros((8, 8), dtype=np.bool_)
    mask[3, 4] = True

    trace = trace_mask(mask)

    assert np.abs(trace.chords - [4, 3]).max() <= 1


def test_the_volume_of_an_ellipsoid() -> None:
    mask = ellipse((200, 200), (80, 40))

    exact = 4 / 3 * np.pi * 80 * 40 * 40

    assert single_plane_volume(mask) == pytest.approx(exact, rel=0.02)
    assert single_plane_volume(mask, (0.5, 0.5)) == pytest.approx(exact / 8, rel=0.02)


def test_unequal_spacing_scales_length_and_width_separately() -> None:
    mask = ellipse((200, 200), (80, 40))

    assert single_plane_volume(mask, (2, 1)) == pytest.approx(2 * single_plane_volume(mask))
    assert single_plane_volume(mask, (1, 2)) == pytest.approx(4 * single_plane_volume(mask))
