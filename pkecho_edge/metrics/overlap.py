"""How much two masks cover the same pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.metrics.masks import Mask, check_pair

__all__ = ["dice", "disagreement"]

Array = NDArray[np.float64]

_PIXELS = (-2, -1)


def dice(a: Mask, b: Mask) -> Array:
    """Dice similarity coefficient, 2 |A and B| / (|A| + |B|), of each pair of masks.

    Args:
        a, b: bool [..., H, W], one shape. The order does not matter.

    Returns:
        float64 [...] from 0 to 1 (a report multiplies by 100 to speak of points).
        Both masks empty: 1.0, they agree. Exactly one empty: 0.0.

    Raises:
        UsageError: not bool, no pixels, or two shapes.

    Source: Dice, Ecology 26(3), 1945.
    """
    check_pair(a, b)
    both = np.count_nonzero(a & b, axis=_PIXELS)
    total = np.asarray(np.count_nonzero(a, axis=_PIXELS) + np.count_nonzero(b, axis=_PIXELS))
    share = np.ones(total.shape)
    np.divide(2.0 * both, total, out=share, where=total > 0)
    return share


def disagreement(a: Mask, b: Mask) -> Array:
    """Share of all pixels, background included, on which two masks differ.

    Args:
        a, b: bool [..., H, W], one shape. The order does not matter.

    Returns:
        float64 [...] from 0 to 1. Both masks empty: 0.0.

    Raises:
        UsageError: not bool, no pixels, or two shapes.
    """
    check_pair(a, b)
    return np.asarray(np.mean(a ^ b, axis=_PIXELS, dtype=np.float64))
