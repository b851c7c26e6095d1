"""Ranges: values whose best range is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.calibration.activations import TensorActivations
from pkecho_edge.calibration.histogram import Histogram
from pkecho_edge.calibration.ranges import (
    ACTIVATION_RULES,
    WEIGHT_RULES,
    activation_range,
    weight_scales,
)

ALL_RULES = sorted(ACTIVATION_RULES)


def held(values: NDArray[np.floating]) -> TensorActivations:
    """A tensor of one channel that held these values."""
    values = np.asarray(values, dtype=np.float32)
    return TensorActivations(
        values.min(keepdims=True),
        values.max(keepdims=True),
        np.full((1, 1, 1), values.mean(dtype=np.float64)),
        Histogram.of(values, float(np.abs(values).max())),
    )


def gauss(count: int = 200_000) -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=count)


def with_outlier() -> NDArray[np.float64]:
    return np.append(np.random.default_rng(0).uniform(0, 1, 1_000_000), 50.0)


@pytest.mark.parametrize("rule", ["minmax", "mse"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (-3.0, 1.0)])
def test_evenly_spread_values_are_best_kept_whole(rule: str, low: float, high: float) -> None:
    tensor = held(np.linspace(low, high, 100_000))

    found = activation_range(tensor, rule, 256)

    # clipping 1 % of the range would save 2 % of a rounding error and add far more
    assert found == pytest.approx((low, high), abs=0.011 * (high - low))


def test_one_far_value_of_a_million_is_kept_by_minmax_alone() -> None:
    tensor = held(with_outlier())

    assert activation_range(tensor, "minmax", 256) == (0, 50)
    _, high = activation_range(tensor, "percentile", 256)
    assert 0.99 < high < 1.1
    # of the range 50 the share s has steps of 50 s / 255, which cost a million values a twelfth of
    # their square each, and the outlier (50 (1 - s)) ** 2: together least where
    # 1 - s = s * 1e6 / (12 * 255 ** 2)
    best = 50 / (1 + 1e6 / 12 / 255**2)
    assert activation_range(tensor, "mse", 256) == pytest.approx((0, best), abs=0.02 * 50)


def test_the_least_squared_error_is_found() -> None:
    """Against quantizing the values themselves at every share that the rule tries."""
    values = gauss()
    tensor = held(values)
    low, high = float(tensor.minimum[0]), float(tensor.maximum[0])

    def error(share: float) -> float:
        step = (high - low) * share / 15
        kept = np.clip(
            np.rint(values / step), round(low * share / step), round(high * share / step)
        )
        return float(np.square(kept * step - values).mean())

    best = min(error(share) for share in np.linspace(1, 0.3, 71))
    found = activation_range(tensor, "mse", 16)

    assert found[1] < 0.8 * high, "four bits of a bell clip its tails"
    assert error(found[1] / high) == pytest.approx(best, rel=0.01)


def test_symmetric_integers_count_as_a_tensor_of_one_sign_uses_them() -> None:
    """Of 31 integers from -15 to 15 values above zero use 16: their steps are twice as wide."""
    tensor = held(np.abs(gauss()))

    symmetric = activation_range(tensor, "mse", 31, symmetric=True)

    assert symmetric == activation_range(tensor, "mse", 16)
    assert symmetric[1] < activation_range(tensor, "mse", 31)[1]


def test_symmetric_integers_are_all_used_by_both_signs() -> None:
    values = gauss()
    tensor = held(np.concatenate([values, -values]))

    found = activation_range(tensor, "mse", 31, symmetric=True)

    assert found == activation_range(tensor, "mse", 31)


def test_entropy_keeps_what_is_even_and_clips_a_thin_tail() -> None:
    even = held(np.linspace(-1, 1, 400_000))
    tail = held(np.concatenate([np.linspace(0, 1, 1_000_000), np.linspace(1, 4, 30)]))

    assert activation_range(even, "entropy", 256) == pytest.approx((-1, 1), abs=0.02)
    assert activation_range(tail, "entropy", 256)[1] < 2.5


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.linspace(0.9, 1, 1000), id="far above zero"),
        pytest.param(np.linspace(-1, -0.9, 1000), id="far below zero"),
        pytest.param(np.repeat([-1.0, 0.0, 1.0], 1000), id="only the ends"),
        pytest.param(np.asarray([0.0, 0.0, 5.0]), id="one value"),
        pytest.param(np.linspace(0, 1e-40, 50), id="subnormal"),
        pytest.param(np.linspace(-1e38, 3e38, 50), id="huge"),
    ],
)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("rule", ALL_RULES)
def test_no_rule_loses_what_most_values_are(
    rule: str, symmetric: bool, values: NDArray[np.float64]
) -> None:
    tensor = held(values)

    low, high = activation_range(tensor, rule, 255, symmetric=symmetric)

    assert float(tensor.minimum[0]) <= low <= 0 <= high <= float(tensor.maximum[0]) or (
        min(low, 0) == low and max(high, 0) == high
    )
    assert low < high
    most = np.median(np.abs(values[values != 0]))
    assert max(-low, high) >= 0.9 * most


@pytest.mark.parametrize("rule", ALL_RULES)
def test_a_tensor_that_never_leaves_zero_has_no_range(rule: str) -> None:
    assert activation_range(held(np.zeros(10)), rule, 256) == (0, 0)


@pytest.mark.parametrize("rule", ALL_RULES)
def test_zero_is_inside_and_nothing_beyond_the_extrema(rule: str) -> None:
    for values in (gauss() + 10, gauss() - 10, gauss(), np.abs(gauss())):
        tensor = held(values)
        low, high = activation_range(tensor, rule, 256)

        assert min(0, tensor.minimum[0]) <= low <= 0 <= high <= max(0, tensor.maximum[0])


def test_a_percentile_takes_both_tails() -> None:
    values = np.concatenate([np.linspace(-1, 1, 999_900), np.full(40, -9.0), np.full(40, 9.0)])

    low, high = activation_range(held(values), "percentile", 256)

    assert (low, high) == pytest.approx((-1, 1), abs=0.01)


@pytest.mark.parametrize("level", [63, 127])
@pytest.mark.parametrize("rule", WEIGHT_RULES)
def test_every_channel_has_its_own_step(rule: str, level: int) -> None:
    weight = np.random.default_rng(0).uniform(-1, 1, (3, 4, 3, 3)).astype(np.float32)
    weight *= np.asarray([1, 10, 0.01], np.float32).reshape(3, 1, 1, 1)

    scales = weight_scales(weight, rule, level)

    assert scales.dtype == np.float32
    largest = np.abs(weight).max(axis=(1, 2, 3))
    assert np.all(scales <= largest / level * 1.000001)
    assert np.all(scales >= 0.6 * largest / level * 0.999999)
    if rule == "minmax":
        np.testing.assert_allclose(scales, largest / level)


def test_an_outlier_among_weights_is_clipped_by_mse_alone() -> None:
    """Seven bits; half of the steps' squares saved on 4,608 weights outweigh one that is cut."""
    weight = np.random.default_rng(0).normal(0, 0.1, (2, 512, 3, 3)).astype(np.float32)
    weight[0, 0, 0, 0] = 1.0

    whole, best = (weight_scales(weight, rule, 7) for rule in ("minmax", "mse"))

    assert whole[0] == pytest.approx(1 / 7)
    assert best[0] < 0.7 * whole[0]

    def error(scales: NDArray[np.float32]) -> NDArray[np.float32]:
        steps = scales.reshape(-1, 1, 1, 1)
        kept = np.clip(np.rint(weight / steps), -7, 7) * steps
        return np.square(kept - weight).sum(axis=(1, 2, 3))

    assert np.all(error(best) <= error(whole))


@pytest.mark.parametrize("rule", WEIGHT_RULES)
def test_a_channel_of_zeros_has_a_step_of_one(rule: str) -> None:
    weight = np.zeros((2, 1, 1, 1), np.float32)
    weight[1] = 127

    np.testing.assert_array_equal(weight_scales(weight, rule, 127), [1, 1])


@pytest.mark.parametrize("rule", WEIGHT_RULES)
def test_steps_are_normal_numbers(rule: str) -> None:
    smallest = np.finfo(np.float32).smallest_subnormal

    scales = weight_scales(np.full((1, 1, 1, 1), smallest), rule, 127)

    assert scales[0] == np.finfo(np.float32).tiny
