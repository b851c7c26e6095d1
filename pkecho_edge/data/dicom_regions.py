"""Where in a DICOM ultrasound picture the 2D tissue lies, and how large its pixels are.

Where it lies decides what is segmented, so a region that contradicts the picture is refused. How
large its pixels are only decides in which unit is measured, so a scale that cannot be right is left
out, and a note says so: no millilitre is better than a wrong one. Source: DICOM PS3.3, C.8.5.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pkecho_edge.data.dicom_header import Values, number_in
from pkecho_edge.data.dicom_pixels import PixelFormat
from pkecho_edge.data.timed_recording import MIN_SIDE
from pkecho_edge.errors import RecordingError

__all__ = ["TissueRegion", "tissue_region"]

_TWO_DIMENSIONAL, _TISSUE, _COLOUR_FLOW, _CENTIMETRES = 1, 1, 2, 3
_DEPTHS_CM = (0.5, 60.0)
"""What a region of a heart, or of anything that ultrasound reaches, may measure."""
_WHOLE = "Pass --no-regions to segment the whole picture, measured in pixels"


@dataclass(frozen=True)
class TissueRegion:
    """A part of a picture.

    Attributes:
        left, top, width, height: in pixels.
        spacing_mm: (row, column) of a pixel, None where the file does not say or cannot be right.
        notes: what is to be said of it, a sentence each.
        scale_problem: why the file's scale is not believed, "" where it is.
    """

    left: int
    top: int
    width: int
    height: int
    spacing_mm: tuple[float, float] | None
    notes: tuple[str, ...] = ()
    scale_problem: str = ""


def tissue_region(items: Sequence[Values], form: PixelFormat, path: Path) -> TissueRegion | None:
    """The largest 2D tissue region of a sequence of ultrasound regions.

    Args:
        items: what the header says of each; none yields None, and the whole picture is meant.
        form: of the picture.
        path: for messages.

    Raises:
        RecordingError: there are regions, but none of 2D tissue, or one lies outside the picture or
            is too small.
    """
    if not items:
        return None
    tissue = [
        _located(item, form, path)
        for item in items
        if number_in(item, "RegionSpatialFormat") == _TWO_DIMENSIONAL
        and number_in(item, "RegionDataType") == _TISSUE
    ]
    if not tissue:
        raise RecordingError(
            "none of its regions shows 2D tissue (M-mode or Doppler only)",
            path=path,
            remedy=_WHOLE,
        )
    largest = max(tissue, key=lambda region: region.width * region.height)
    notes = largest.notes
    if len(tissue) > 1:
        notes = (f"{len(tissue)} regions show 2D tissue; the largest one is segmented", *notes)
    if any(number_in(item, "RegionDataType") == _COLOUR_FLOW for item in items):
        notes = (*notes, "the picture shows colour flow, which the network was not trained on")
    return replace(largest, notes=notes)


def _located(item: Values, form: PixelFormat, path: Path) -> TissueRegion:
    """The region of an item; RecordingError where it does not lie in the picture."""
    names = ("MinX0", "MinY0", "MaxX1", "MaxY1")
    corners = [number_in(item, f"RegionLocation{name}") for name in names]
    if any(corner is None for corner in corners):
        raise RecordingError(
            "its tissue region does not say where it lies", path=path, remedy=_WHOLE
        )
    left, top, right, bottom = (int(corner) for corner in corners if corner is not None)
    # some scanners name the first pixel that is outside instead of the last one inside
    right, bottom = right - (right == form.columns), bottom - (bottom == form.rows)
    if not (0 <= left < right < form.columns and 0 <= top < bottom < form.rows):
        raise RecordingError(
            f"its tissue region, columns {left} to {right} and rows {top} to {bottom}, does not "
            f"lie in its picture of {form.columns} columns and {form.rows} rows",
            path=path,
            remedy=_WHOLE,
        )
    width, height = right - left + 1, bottom - top + 1
    if min(width, height) < MIN_SIDE:
        raise RecordingError(
            f"its tissue region has {width} columns and {height} rows only",
            path=path,
            remedy=_WHOLE,
        )
    spacing_mm, problem = _scale(item, width, height)
    return TissueRegion(left, top, width, height, spacing_mm, scale_problem=problem)


def _scale(item: Values, width: int, height: int) -> tuple[tuple[float, float] | None, str]:
    """(row, column) spacing in mm and "", or None and what is wrong with it."""
    units = [number_in(item, f"PhysicalUnits{axis}Direction") for axis in "YX"]
    steps_cm = [number_in(item, f"PhysicalDelta{axis}") for axis in "YX"]
    if units != [_CENTIMETRES, _CENTIMETRES]:
        return None, "the region's units are not centimetres"
    row, column = (0.0 if step is None else step for step in steps_cm)
    if row <= 0 or column <= 0:
        return None, f"the region's pixels measure {row:g} by {column:g} cm"
    for name, extent in (("high", row * height), ("wide", column * width)):
        if not _DEPTHS_CM[0] <= extent <= _DEPTHS_CM[1]:
            return None, f"the region would be {extent:.3g} cm {name}"
    return (10 * row, 10 * column), ""
