"""Dice and disagreement of shapes whose overlap is known on paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pkecho_edge.errors import UsageError
from pkecho_edge.metrics.masks import Mask
from pkecho_edge.metrics.overlap import dice, disagreement

PAIRS = arrays(np.bool_, st.tuples(st.just(2), st.integers(1, 9), st.integers(1, 9)))


def square(top: int, left: int, side: int = 4) -> Mask:
    mask: Mask = np.zeros((8, 12), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize(
    ("shift", "expected_dice", "differing"),
    [(0, 1.0, 0), (1, 0.75, 8), (2, 0.5, 16), (3, 0.25, 24), (4, 0.0, 32)],
)
def test_squares_that_share_some_columns(shift: int, expected_dice: float, differing: int) -> None:
    a, b = square(2, 1), square(2, 1 + shift)
    assert dice(a, b) == expected_dice
    assert disagreement(a, b) == differing / 96


def test_dice_of_two_discs_is_the_lens_they_share(ellipse: Callable[..., Mask]) -> None:
    radius, apart = 60.0, 40.0
    a = ellipse((160, 200), (80, 80), (radius, radius))
    b = ellipse((160, 200), (80, 80 + apart), (radius, radius))
    lens = 2 * radius**2 * math.acos(apart / (2 * radius)) - apart / 2 * math.sqrt(
        4 * radius**2 - apart**2
    )
    assert dice(a, b) == pytest.approx(lens / (math.pi * radius**2), abs=0.002)


def test_one_mask_inside_the_other() -> None:
    assert dice(square(0, 0, 2), square(0, 0, 4)) == 2 * 4 / (4 + 16)


def test_empty_masks() -> None:
    empty, full = square(0, 0, 0), square(0, 0, 4)
    assert dice(empty, empty) == 1.0
    assert dice(empty, full) == dice(full, empty) == 0.0
    assert disagreement(empty, empty) == 0.0


def test_a_batch_gives_one_figure_per_pair() -> None:
    a = np.stack([square(0, 0), square(0, 0), square(0, 0, 0)])[:, None]
    b = np.stack([square(0, 0), square(0, 2), square(0, 0, 0)])[:, None]
    np.testing.assert_array_equal(dice(a, b), [[1.0], [0.5], [1.0]])
    np.testing.assert_array_equal(disagreement(a, b), [[0.0], [16 / 96], [0.0]])
    assert dice(a, b).dtype == disagreement(a, b).dtype == np.float64
    assert dice(a[:0], b[:0]).shape == (0, 1)


@pytest.mark.parametrize("metric", [dice, disagreement])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool)),
        (np.zeros((4, 4), bool), np.zeros((4, 4), np.float32)),
        (np.zeros((2, 4, 4), bool), np.zeros((4, 4), bool)),
        (np.zeros((4, 4), bool), np.zeros((4, 5), bool)),
        (np.zeros(4, bool), np.zeros(4, bool)),
        (np.zeros((0, 4), bool), np.zeros((0, 4), bool)),
    ],
)
def test_what_are_not_two_masks_of_one_shape_is_refused(
    metric: Callable[..., Any], a: Mask, b: Mask
) -> None:
    with pytest.raises(UsageError):
        metric(a, b)


@given(PAIRS)
def test_symmetric_and_bounded(pair: Mask) -> None:
    a, b = pair
    assert 0 <= dice(a, b) == dice(b, a) <= 1
    assert 0 <= disagreement(a, b) == disagreement(b, a) <= 1
    assert dice(a, a) == 1
    assert disagreement(a, ~a) == 1


@given(PAIRS)
def test_dice_is_one_exactly_where_nothing_differs(pair: Mask) -> None:
    a, b = pair
    assert (dice(a, b) == 1) == (disagreement(a, b) == 0)


@given(PAIRS, st.integers(0, 4), st.integers(0, 4))
def test_moving_both_masks_changes_no_overlap(pair: Mask, down: int, right: int) -> None:
    a, b = (np.pad(mask, ((down, 4 - down), (right, 4 - right))) for mask in pair)
    assert dice(a, b) == dice(*pair)
    assert disagreement(a, b) * a.size == pytest.approx(disagreement(*pair) * pair[0].size)
