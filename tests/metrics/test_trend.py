"""Slopes that anyone can read off."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pkecho_edge.errors import UsageError
from pkecho_edge.metrics.trend import linear_slope


def test_a_straight_line() -> None:
    assert linear_slope(3 + 0.25 * np.arange(50)) == pytest.approx(0.25)
    assert linear_slope([5, 3]) == pytest.approx(-2)


def test_no_change_has_no_slope() -> None:
    assert linear_slope([2, 2, 2]) == 0


def test_what_swings_evenly_has_no_slope() -> None:
    assert linear_slope([1, 0, 1, 0, 1]) == pytest.approx(0)


def test_least_squares() -> None:
    values = np.random.default_rng(0).normal(size=40)

    assert linear_slope(values) == pytest.approx(np.polyfit(np.arange(40), values, 1)[0])


@pytest.mark.parametrize("values", [[], [4]])
def test_too_few_values_have_none(values: list[float]) -> None:
    assert math.isnan(linear_slope(values))


@pytest.mark.parametrize("values", [[1, math.nan], [1, math.inf], [[1, 2], [3, 4]]])
def test_what_is_no_curve_is_refused(values: list[float]) -> None:
    with pytest.raises(UsageError):
        linear_slope(values)
