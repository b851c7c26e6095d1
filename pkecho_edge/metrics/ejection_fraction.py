"""From masks to volumes to ejection fraction: Simpson's method of discs.

A view is sliced into n = 20 discs of equal height, perpendicular to its long axis (`slice_discs`),
and discs become a volume (`single_plane_volume`). A second view adds its own discs: biplane is
another function of two `Discs`. Needs only numpy, so that a device can use it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import UsageError
from pkecho_edge.metrics.masks import Mask, Spacing, check_mask, check_spacing

__all__ = [
    "DISCS",
    "Discs",
    "LongAxis",
    "ed_es_from_areas",
    "ejection_fraction",
    "find_long_axis",
    "lv_volume",
    "single_plane_volume",
    "slice_discs",
]

Array = NDArray[np.float64]

DISCS = 20
_PIXELS_PER_SAMPLE = 0.25
_ROUND = 1e-9  # rounding error: moments closer than this, relative to their sum, are equal


@dataclass(frozen=True)
class LongAxis:
    """A line through a mask, in the unit of the spacing; points are (row, column).

    Attributes:
        centre: float64 [2], the mask's centroid.
        direction: float64 [2], unit length, towards larger rows (a level one: larger columns).
        start, end: where the mask begins and ends along the direction, seen from the centre.
    """

    centre: Array
    direction: Array
    start: float
    end: float

    @property
    def length(self) -> float:
        """End minus start."""
        return self.end - self.start


@dataclass(frozen=True)
class Discs:
    """One view of a ventricle, sliced: float64 [n] diameters from the upper end, and the length."""

    length: float
    diameters: Array


def find_long_axis(mask: Mask, spacing: Spacing = (1.0, 1.0)) -> LongAxis:
    """The mask's principal axis: through its centroid, along its largest second moment.

    It ends where the mask's outermost pixels end (half a pixel beyond their centres). Every pixel
    has a say, so a ragged border hardly turns it, unlike the longest chord; no landmark is needed.
    A mask as wide as it is long has no principal axis: it gets the vertical one, but a nearly
    round one may turn anywhere. Clean up stray components first: they count as mask.

    Args:
        mask: bool [H, W] with at least one pixel.
        spacing: (row, column) distance between pixel centres.

    Raises:
        UsageError: not bool, empty, or a spacing that is not above zero.
    """
    check_mask(mask, ndim=2)
    check_spacing(spacing)
    points = np.argwhere(mask) * np.asarray(spacing, dtype=np.float64)  # [P, 2]
    if not len(points):
        raise UsageError("an empty mask has no long axis")
    centre = points.mean(axis=0)
    direction = _principal_direction(points - centre)
    along = (points - centre) @ direction
    half_pixel = 0.5 * math.hypot(direction[0] * spacing[0], direction[1] * spacing[1])
    return LongAxis(
        centre=centre,
        direction=direction,
        start=float(along.min()) - half_pixel,
        end=float(along.max()) + half_pixel,
    )


def _principal_direction(offsets: Array) -> Array:
    """Unit vector of largest variance of float64 [P, 2] points around the origin."""
    row, column = (offsets**2).sum(axis=0)
    mixed = float((offsets[:, 0] * offsets[:, 1]).sum())
    noise = _ROUND * (row + column)
    twice_mixed = 0.0 if abs(mixed) <= noise else 2 * mixed  # exact zeros keep the sign stable
    excess = 0.0 if abs(row - column) <= noise else float(row - column)
    angle = 0.5 * math.atan2(twice_mixed, excess)  # from the vertical, -pi/2 < angle <= pi/2
    return np.array([math.cos(angle), math.sin(angle)])


def slice_discs(mask: Mask, spacing: Spacing = (1.0, 1.0), *, n: int = DISCS) -> Discs:
    """Cut a mask into n discs of equal height along its long axis.

    A disc's diameter is the length of mask on the line through the disc's centre, perpendicular to
    the axis, integrated over the bilinearly interpolated mask: holes and gaps do not count. The
    upper end comes first: with the probe on top that is the apex.

    Args:
        mask: bool [H, W].
        spacing: (row, column) distance between pixel centres; the unit of the result.
        n: number of discs, at least 1.

    Returns:
        Discs; an empty mask has length 0.0 and n diameters of 0.0.

    Raises:
        UsageError: not bool, n below 1, or a spacing that is not above zero.
    """
    check_mask(mask, ndim=2)
    check_spacing(spacing)
    if n < 1:
        raise UsageError(f"a volume needs at least one disc, not {n}")
    if not mask.any():
        return Discs(length=0.0, diameters=np.zeros(n))
    axis = find_long_axis(mask, spacing)
    heights = axis.start + (np.arange(n, dtype=np.float64) + 0.5) * (axis.length / n)
    return Discs(length=axis.length, diameters=_widths(mask, spacing, axis, heights))


def _widths(mask: Mask, spacing: Spacing, axis: LongAxis, heights: Array) -> Array:
    """Length of mask across the axis at each of float64 [n] heights, float64 [n]."""
    pixel = np.asarray(spacing, dtype=np.float64)
    across = np.array([-axis.direction[1], axis.direction[0]])
    offsets = (np.argwhere(mask) * pixel - axis.centre) @ across
    reach = float(np.abs(across) @ pixel)  # interpolation spreads each pixel this far
    low, high = float(offsets.min()) - reach, float(offsets.max()) + reach
    finest = _PIXELS_PER_SAMPLE / float(np.max(np.abs(across) / pixel))
    count = math.ceil((high - low) / finest - _ROUND)  # one count wherever the mask lies
    step = (high - low) / count
    places = low + (np.arange(count) + 0.5) * step
    points = (
        axis.centre[:, None, None]
        + axis.direction[:, None, None] * heights[:, None]
        + across[:, None, None] * places
    )  # [2, n, count]
    rows, columns = points / pixel[:, None, None]
    widths: Array = _interpolate(mask, rows, columns).sum(axis=1) * step
    return widths


def _interpolate(mask: Mask, rows: Array, columns: Array) -> Array:
    """Bilinear values 0 to 1 of a mask at fractional pixels; 0 beyond the image."""
    padded = np.pad(mask, ((1, 2), (1, 2))).astype(np.float64)
    rows = np.clip(rows + 1, 0, mask.shape[0] + 1)
    columns = np.clip(columns + 1, 0, mask.shape[1] + 1)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down, right = rows - top, columns - left
    upper = (1 - right) * padded[top, left] + right * padded[top, left + 1]
    lower = (1 - right) * padded[top + 1, left] + right * padded[top + 1, left + 1]
    values: Array = (1 - down) * upper + down * lower
    return values


def single_plane_volume(discs: Discs) -> float:
    """Volume of a body of circular discs, pi/4 L/n sum(d^2), in the cube of the discs' unit.

    Source: Lang et al., J Am Soc Echocardiogr 28(1), 2015 (method of discs), here from one view.
    """
    return float(math.pi / 4 * discs.length * np.mean(discs.diameters**2))


def lv_volume(mask: Mask, spacing_mm: Spacing | None = None) -> float:
    """Volume of a ventricle seen in one view: single-plane Simpson with 20 discs.

    Args:
        mask: bool [H, W].
        spacing_mm: (row, column) distance between pixel centres in mm, of this very mask: after a
            resize it has changed. None where unknown.

    Returns:
        Millilitres, or cubic pixels where the spacing is unknown (good enough for ejection
        fraction as long as pixels are square). Empty mask: 0.0.

    Raises:
        UsageError: not bool, or a spacing that is not above zero.
    """
    if spacing_mm is None:
        return single_plane_volume(slice_discs(mask))
    return single_plane_volume(slice_discs(mask, spacing_mm)) / 1000  # mm^3 in a ml


def ejection_fraction(edv: float, esv: float) -> float:
    """(EDV - ESV) / EDV in percent.

    Args:
        edv, esv: end-diastolic and end-systolic volume, at least 0, in one unit.

    Returns:
        At most 100; below 0 where ESV is the larger. nan where EDV is 0 (the mask was empty) or
        either volume is nan. An empty ES mask alone gives 100: callers that do not trust it check.

    Raises:
        UsageError: a volume is negative or infinite.
    """
    if min(edv, esv) < 0 or math.inf in (edv, esv):
        raise UsageError(f"volumes {edv} and {esv} are not both finite and at least 0")
    return 100 * (edv - esv) / edv if edv > 0 else math.nan


def ed_es_from_areas(areas: Sequence[float] | Array) -> tuple[int, int]:
    """Which frames are end-diastole and end-systole: the largest and the smallest area.

    Frames without a mask (area 0 or nan) are no candidates: a missed ventricle is not a contracted
    one. Of equal areas the first counts. The order in time is not looked at: ES may come first.

    Args:
        areas: float [N], of the mask on each frame, in any unit.

    Returns:
        (ed, es), both 0 to N - 1. No candidate at all: (0, 0), whose ejection fraction is nan.

    Raises:
        UsageError: there are no frames.
    """
    values = np.asarray(areas, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise UsageError(f"areas have shape {values.shape}, not [N] with N >= 1")
    seen = values > 0
    if not seen.any():
        return 0, 0
    largest = np.argmax(np.where(seen, values, -np.inf))
    smallest = np.argmin(np.where(seen, values, np.inf))
    return int(largest), int(smallest)
