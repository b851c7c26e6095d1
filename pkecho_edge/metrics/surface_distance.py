"""How far apart the borders of two masks lie.

The border of a mask is its own pixels that have at least one of their four edge neighbours outside
the mask (the mask minus its 4-connected erosion); beyond the image everything is background, so a
mask that touches the image's edge has a border there. Each border pixel's distance is the exact
Euclidean distance, in units of `spacing`, from its centre to the nearest border pixel's centre of
the other mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pkecho_edge.metrics.masks import Mask, Spacing, check_pair, check_spacing

__all__ = [
    "ASD_CONVENTION",
    "HD95_CONVENTION",
    "SurfaceDistances",
    "asd",
    "hd95",
    "surface_distances",
]

Array = NDArray[np.float64]

HD95_CONVENTION = "larger of the two directed 95th percentiles, linear interpolation"
ASD_CONVENTION = "symmetric: mean over the border pixels of both masks, pooled"


@dataclass(frozen=True)
class SurfaceDistances:
    """Both metrics of a batch, float64 [...] each, in the unit of the spacing; nan as in `hd95`."""

    hd95: Array
    asd: Array


def hd95(a: Mask, b: Mask, spacing: Spacing = (1.0, 1.0)) -> float:
    """95 % Hausdorff distance: the larger of the two directed 95th percentiles.

    Taking the larger one, as MONAI and surface-distance do, keeps an error that only one direction
    sees. Pooling both directions first, as medpy does, halves the weight of such an error: a border
    stretch of 5 to 10 % of one mask that the other lacks would go unnoticed.

    Args:
        a, b: bool [H, W], one shape. The order does not matter.
        spacing: (row, column) distance between pixel centres; mm gives mm, (1, 1) gives pixels.

    Returns:
        A distance, at least 0. Both masks empty: 0.0. Exactly one empty: nan, for there is no
        distance; callers count such pairs.

    Raises:
        UsageError: not bool, no pixels, two shapes, or a spacing that is not above zero.

    Source: Huttenlocher et al., IEEE TPAMI 15(9), 1993; MONAI `compute_hausdorff_distance`.
    """
    return _measure(a, b, spacing)[0]


def asd(a: Mask, b: Mask, spacing: Spacing = (1.0, 1.0)) -> float:
    """Average symmetric surface distance: the mean over all border pixels of both masks.

    Arguments, unit, empty masks and errors are those of `hd95`.

    Source: Heimann et al., IEEE TMI 28(8), 2009; MONAI `compute_average_surface_distance` with
    `symmetric=True`, medpy `assd`.
    """
    return _measure(a, b, spacing)[1]


def surface_distances(a: Mask, b: Mask, spacing: Spacing = (1.0, 1.0)) -> SurfaceDistances:
    """HD95 and ASD of each pair of masks, for the price of one.

    Args:
        a, b: bool [..., H, W], one shape.
        spacing: as in `hd95`, one for the whole batch.

    Returns:
        Arrays of shape [...]; an empty batch gives empty arrays, empty masks what `hd95` says.

    Raises:
        UsageError: as in `hd95`.
    """
    check_pair(a, b)
    check_spacing(spacing)
    leading, size = a.shape[:-2], a.shape[-2:]
    pairs = zip(a.reshape(-1, *size), b.reshape(-1, *size), strict=True)
    results = np.array([_measure(x, y, spacing) for x, y in pairs], dtype=np.float64)
    columns = results.reshape(*leading, 2)
    return SurfaceDistances(hd95=columns[..., 0], asd=columns[..., 1])


def _measure(a: Mask, b: Mask, spacing: Spacing) -> tuple[float, float]:
    """(HD95, ASD) of one pair of masks bool [H, W]."""
    check_pair(a, b, ndim=2)
    check_spacing(spacing)
    either = a | b
    if not either.any():
        return 0.0, 0.0
    if not (a.any() and b.any()):
        return math.nan, math.nan
    box = _bounding_box(either)  # nothing outside it is a border, so no distance changes
    border_a, border_b = _border(a[box]), _border(b[box])
    there = ndimage.distance_transform_edt(~border_b, sampling=spacing)[border_a]
    back = ndimage.distance_transform_edt(~border_a, sampling=spacing)[border_b]
    worst = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(worst), float((there.sum() + back.sum()) / (there.size + back.size))


def _bounding_box(mask: Mask) -> tuple[slice, slice]:
    """The smallest rows and columns that hold all of a mask, which must not be empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _border(mask: Mask) -> Mask:
    """The mask's pixels with a 4-neighbour outside of it or of the array, bool [H, W]."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner
