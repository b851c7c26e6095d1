"""Histograms: nothing is lost, and parts merge to the histogram of the whole, in any order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pkecho_edge.calibration.histogram import BINS, Histogram

sizes = st.floats(-1e6, 1e6, width=32) | st.floats(-(2**-9), 2**-9, width=32)
values = st.lists(sizes, max_size=20)


def histogram(numbers: list[float] | NDArray[np.float32]) -> Histogram:
    array = np.asarray(numbers, dtype=np.float32)
    return Histogram.of(array, float(np.abs(array).max(initial=0)))


def same(one: Histogram, other: Histogram) -> bool:
    return one.exponent == other.exponent and np.array_equal(one.counts, other.counts)


@given(st.lists(values, min_size=1, max_size=5), st.randoms())
def test_parts_merge_to_the_histogram_of_the_whole_in_any_order(
    parts: list[list[float]], random: object
) -> None:
    whole = histogram([number for part in parts for number in part])
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    merged = Histogram.merged([histogram(part) for part in parts])

    assert same(merged, whole)
    assert same(Histogram.merged([histogram(part) for part in shuffled]), whole)
    by_steps = histogram(parts[0])
    for part in parts[1:]:
        by_steps = Histogram.merged([by_steps, histogram(part)])
    assert same(by_steps, whole)


@given(values.filter(len))
def test_every_value_is_counted_in_its_bin(numbers: list[float]) -> None:
    found = histogram(numbers)

    assert found.counts.sum() == len(numbers)
    for number in np.asarray(numbers, dtype=np.float32):
        index = math.floor(float(number) / found.width) + BINS
        assert found.counts[index] > 0
        assert abs(found.centres[index] - float(number)) <= found.width / 2


def test_the_largest_value_lies_in_the_upper_half() -> None:
    for largest in (1e-20, 0.3, 1.0, 7.0, 1e20, float(np.finfo(np.float32).max)):
        (bin_of,) = np.flatnonzero(histogram([largest]).counts)

        assert BINS + BINS // 2 <= bin_of < 2 * BINS


def test_zero_is_an_edge() -> None:
    found = histogram([-1e-6, 0.0, 1e-6, 1.0])

    assert found.counts[BINS - 1] == 1
    assert found.counts[BINS] == 2


def test_zeros_alone_fit_a_bound_of_zero() -> None:
    found = histogram([0.0, 0.0, -0.0])

    assert found.counts[BINS] == found.counts.sum() == 3


def test_zeros_widen_nobodys_bins() -> None:
    """A clip on which a tensor is silent must not blur what the others hold."""
    small = np.linspace(0, 1e-6, 100, dtype=np.float32)

    merged = Histogram.merged([histogram(np.zeros(5)), histogram(small)])

    assert merged.width == histogram(small).width
    assert np.count_nonzero(merged.counts) > 90


def test_a_subnormal_below_zero_stays_below_it_beside_large_values() -> None:
    tiny = float(np.finfo(np.float32).smallest_subnormal)

    whole = histogram([4096.0, -tiny])

    assert whole.counts[BINS - 1] == 1
    assert same(Histogram.merged([histogram([4096.0]), histogram([-tiny])]), whole)


def test_subnormal_values_are_kept() -> None:
    tiny = float(np.finfo(np.float32).smallest_subnormal)

    found = histogram([tiny, 3 * tiny, 0.0, -tiny])

    assert found.counts.sum() == 4
    assert found.counts[BINS - 1 : BINS + 1].tolist() == [1, 3]


def test_there_may_be_nothing() -> None:
    found = Histogram.of(np.empty(0, np.float32), 0)

    assert found.counts.sum() == 0
    assert found.counts.shape == (2 * BINS,)
    assert same(Histogram.merged([found, histogram([2.0])]), histogram([2.0]))


@pytest.mark.parametrize("bound", [-1.0, math.inf, math.nan])
def test_a_bound_that_is_none_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match="no histogram up to"):
        Histogram.of(np.zeros(1, np.float32), bound)


def test_merging_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Histogram.merged([])
