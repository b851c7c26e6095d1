"""A histogram whose bins do not depend on the order in which values come.

A bin is a power of two wide and zero is an edge, so two histograms merge exactly: the finer one's
bins add up in pairs until both are as wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "Histogram"]

BINS = 4096
"""On each side of zero at most; the largest value lies in the upper half of them."""


@dataclass(frozen=True)
class Histogram:
    """How often values fell into [k * width, (k + 1) * width), k from -BINS to BINS - 1.

    Attributes:
        counts: i64 [2 * BINS]; of the first bin k = -BINS.
        exponent: the width is 2 ** exponent.
    """

    counts: NDArray[np.int64]
    exponent: int

    @property
    def width(self) -> float:
        """Of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def centres(self) -> NDArray[np.float64]:
        """f64 [2 * BINS], the middle of each bin."""
        return np.arange(-BINS + 0.5, BINS) * np.float64(self.width)

    @classmethod
    def of(cls, values: NDArray[np.float32], bound: float) -> Histogram:
        """Of values whose magnitude is at most `bound`; empty for none.

        Raises:
            ValueError: the bound is negative or not finite.
        """
        if not 0 <= bound < math.inf:
            raise ValueError(f"no histogram up to {bound}")
        # |value| <= bound < 2 ** (frexp exponent): in bins of 2 ** (that) / BINS it fits
        largest = math.frexp(bound)[1] if bound else -math.inf  # zeros must widen no one's bins
        exponent = int(max(largest, -100)) - BINS.bit_length() + 1
        # in FP64, where a subnormal below zero does not round to zero and so into another bin
        scaled = values.ravel().astype(np.float64) * math.ldexp(1.0, -exponent)
        index = np.floor(scaled, out=scaled).astype(np.int32) + BINS
        return cls(np.bincount(index, minlength=2 * BINS).astype(np.int64), exponent)

    @classmethod
    def merged(cls, parts: Sequence[Histogram]) -> Histogram:
        """Of all values together.

        Raises:
            ValueError: no parts.
        """
        exponent = max(part.exponent for part in parts)
        counts = np.sum([part._widened(exponent) for part in parts], axis=0)
        return cls(counts.astype(np.int64), exponent)

    def _widened(self, exponent: int) -> NDArray[np.int64]:
        """The counts in bins of 2 ** exponent, at least as wide as they are."""
        factor = 1 << min(exponent - self.exponent, BINS.bit_length())
        bins = np.arange(-BINS, BINS) // factor + BINS
        return np.bincount(bins, weights=self.counts, minlength=2 * BINS).astype(np.int64)
