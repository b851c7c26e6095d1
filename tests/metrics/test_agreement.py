"""Intervals, bias and correlation against figures worked out on paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pkecho_edge.errors import UsageError
from pkecho_edge.metrics import agreement
from pkecho_edge.metrics.agreement import (
    bland_altman,
    bootstrap_mean_interval,
    pearson_r,
)

FIGURES = st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 5)), min_size=1, max_size=30)


def draw_patients(
    rng: np.random.Generator, patients: int, frames: int
) -> tuple[NDArray[np.float64], NDArray[np.int_]]:
    """Values whose spread lies between patients (sd 1) more than within them (sd 0.2)."""
    values = rng.normal(size=(patients, 1)) + 0.2 * rng.normal(size=(patients, frames))
    return values.ravel(), np.repeat(np.arange(patients), frames)


def test_the_interval_is_that_of_the_mean() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(5, 2, size=400)
    found = bootstrap_mean_interval(values, np.arange(400), resamples=5000)
    assert found.mean == values.mean()
    margin = 1.96 * values.std() / math.sqrt(400)
    assert found.low == pytest.approx(values.mean() - margin, abs=0.02)
    assert found.high == pytest.approx(values.mean() + margin, abs=0.02)
    assert (found.n, found.n_groups, found.n_excluded) == (400, 400, 0)


def test_two_patients_on_paper() -> None:
    # resampled means are 0, 1/2 and 1 with chances 1/4, 1/2, 1/4
    found = bootstrap_mean_interval([0.0, 1.0], ["a", "b"], confidence=0.4)
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    found = bootstrap_mean_interval([0.0, 1.0], ["a", "b"], confidence=0.9)
    assert (found.low, found.high) == (0.0, 1.0)


def test_patients_are_drawn_whole_and_weigh_what_they_hold() -> None:
    # one value of 0 against three of 1: the means can only be 0, 3/4 and 1
    found = bootstrap_mean_interval([0.0, 1.0, 1.0, 1.0], ["a", "b", "b", "b"], confidence=0.3)
    assert (found.mean, found.low, found.high) == (0.75, 0.75, 0.75)
    assert (found.n, found.n_groups) == (4, 2)


def test_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    hits = naive_hits = 0
    for trial in range(300):
        values, patient = draw_patients(rng, patients=40, frames=8)
        found = bootstrap_mean_interval(values, patient, resamples=400, seed=trial)
        naive = bootstrap_mean_interval(values, np.arange(320), resamples=400, seed=trial)
        hits += found.low <= 0 <= found.high
        naive_hits += naive.low <= 0 <= naive.high
    assert 0.90 <= hits / 300 <= 0.98
    assert naive_hits / 300 < 0.65  # frames resampled one by one are far too sure


def test_repeating_each_patients_frames_does_not_shrink_the_interval() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=30)
    once = bootstrap_mean_interval(values, np.arange(30))
    often = bootstrap_mean_interval(np.repeat(values, 50), np.repeat(np.arange(30), 50))
    assert often.low == pytest.approx(once.low)
    assert often.high == pytest.approx(once.high)
    assert (often.n, often.n_groups) == (1500, 30)
    as_if_independent = bootstrap_mean_interval(np.repeat(values, 50), np.arange(1500))
    narrower = (as_if_independent.high - as_if_independent.low) / (once.high - once.low)
    assert narrower == pytest.approx(1 / math.sqrt(50), rel=0.15)


def test_the_seed_decides() -> None:
    values, patient = draw_patients(np.random.default_rng(4), patients=25, frames=3)
    assert bootstrap_mean_interval(values, patient) == bootstrap_mean_interval(values, patient)
    other = bootstrap_mean_interval(values, patient, seed=1)
    assert other != bootstrap_mean_interval(values, patient)
    assert other.mean == bootstrap_mean_interval(values, patient).mean


def test_the_order_of_the_values_has_no_say() -> None:
    values, patient = draw_patients(np.random.default_rng(5), patients=25, frames=3)
    order = np.random.default_rng(6).permutation(values.size)
    one = bootstrap_mean_interval(values, patient)
    two = bootstrap_mean_interval(values[order], patient[order])
    assert (two.mean, two.low, two.high) == pytest.approx((one.mean, one.low, one.high))


def test_drawing_in_blocks_gives_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values, patient = draw_patients(np.random.default_rng(7), patients=25, frames=3)
    whole = bootstrap_mean_interval(values, patient, resamples=101)
    monkeypatch.setattr(agreement, "_CELLS_PER_BLOCK", 250)
    found = bootstrap_mean_interval(values, patient, resamples=101)
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high))


def test_more_confidence_is_a_wider_interval() -> None:
    values, patient = draw_patients(np.random.default_rng(8), patients=25, frames=3)
    wide = bootstrap_mean_interval(values, patient, confidence=0.99)
    narrow = bootstrap_mean_interval(values, patient, confidence=0.5)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_nan_values_are_left_out_and_counted() -> None:
    values = [1.0, math.nan, 3.0, math.nan, 5.0]
    found = bootstrap_mean_interval(values, ["a", "a", "b", "c", "d"])
    kept = bootstrap_mean_interval([1.0, 3.0, 5.0], ["a", "b", "d"])
    assert (found.mean, found.low, found.high) == (kept.mean, kept.low, kept.high)
    assert (found.n, found.n_groups, found.n_excluded) == (3, 3, 2)


def test_one_patient_says_nothing_about_others() -> None:
    found = bootstrap_mean_interval([1.0, 2.0, 3.0], ["a", "a", "a"])
    assert found.mean == 2.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert (found.n, found.n_groups) == (3, 1)


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_without_values_nothing_is_known(values: Any) -> None:
    found = bootstrap_mean_interval(values, ["a"] * len(values))
    assert math.isnan(found.mean)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert (found.n, found.n_groups, found.n_excluded) == (0, 0, len(values))


@given(FIGURES)
def test_the_interval_lies_among_the_values(figures: list[tuple[float, int]]) -> None:
    values, patients = zip(*figures, strict=True)
    found = bootstrap_mean_interval(values, patients, resamples=50)
    slack = 1e-9
    assert min(values) - slack <= found.mean <= max(values) + slack
    if found.n_groups > 1:
        assert min(values) - slack <= found.low <= found.high <= max(values) + slack


@pytest.mark.parametrize(
    ("values", "groups", "settings"),
    [
        ([1.0, 2.0], ["a"], {}),
        ([[1.0], [2.0]], [["a"], ["b"]], {}),
        ([1.0, math.inf], ["a", "b"], {}),
        ([1.0, 2.0], ["a", "b"], {"confidence": 1.0}),
        ([1.0, 2.0], ["a", "b"], {"confidence": 95.0}),
        ([1.0, 2.0], ["a", "b"], {"resamples": 0}),
    ],
)
def test_unusable_values_and_settings_are_refused(
    values: Any, groups: Any, settings: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        bootstrap_mean_interval(values, groups, **settings)


def test_bland_altman_on_paper() -> None:
    found = bland_altman([10.0, 20.0, 30.0], [11.0, 22.0, 33.0])
    assert found.bias == 2.0  # other minus reference
    assert found.sd == 1.0
    assert found.low == pytest.approx(2 - 1.96)
    assert found.high == pytest.approx(2 + 1.96)
    assert (found.n, found.n_excluded) == (3, 0)


def test_bland_altman_leaves_incomplete_pairs_out() -> None:
    found = bland_altman([10.0, math.nan, 30.0, 40.0], [11.0, 22.0, math.nan, 43.0])
    assert (found.bias, found.n, found.n_excluded) == (2.0, 2, 2)


def test_bland_altman_of_one_pair_and_of_none() -> None:
    one = bland_altman([10.0], [12.0])
    assert one.bias == 2.0
    assert all(math.isnan(figure) for figure in (one.sd, one.low, one.high))
    none = bland_altman([math.nan], [1.0])
    assert all(math.isnan(figure) for figure in (none.bias, none.sd, none.low, none.high))
    assert (none.n, none.n_excluded) == (0, 1)


def test_pearson_on_paper() -> None:
    assert pearson_r([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(1.0)
    assert pearson_r([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert pearson_r([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == pytest.approx(0.5)
    assert pearson_r([-1.0, 0.0, 1.0], [1.0, 0.0, 1.0]) == pytest.approx(0.0)
    assert pearson_r([1.0, 2.0, math.nan, 3.0], [1.0, 3.0, 9.0, 2.0]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("reference", "other"),
    [([], []), ([1.0], [2.0]), ([0.1] * 3, [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [0.1] * 3)],
)
def test_pearson_is_nan_where_nothing_varies(reference: list[float], other: list[float]) -> None:
    assert math.isnan(pearson_r(reference, other))


def test_pearson_is_never_above_one_by_rounding() -> None:
    # of a thousand series some round upward on any processor
    for x in np.random.default_rng(0).uniform(1, 20, (1000, 3)):
        assert 1 - 1e-12 <= pearson_r(x, 0.1 * x) <= 1


def test_pearson_does_not_mind_tiny_or_huge_values() -> None:
    assert pearson_r([1e-200, 2e-200, 3e-200], [1e200, 3e200, 2e200]) == pytest.approx(0.5)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2))
def test_pearson_is_bounded_and_symmetric(pairs: list[tuple[float, float]]) -> None:
    x, y = zip(*pairs, strict=True)
    r = pearson_r(x, y)
    assert math.isnan(r) or -1 <= r <= 1
    np.testing.assert_allclose(pearson_r(y, x), r)


@pytest.mark.parametrize("compare", [bland_altman, pearson_r])
def test_measurements_that_do_not_pair_up_are_refused(compare: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="pair up"):
        compare([1.0, 2.0], [1.0])
    with pytest.raises(UsageError, match="infinite"):
        compare([1.0, 2.0], [1.0, math.inf])
