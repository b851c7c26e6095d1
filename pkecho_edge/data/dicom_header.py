"""The header of a DICOM file as plain values: what may be read of it is bounded.

pydicom parses it. Elements that nobody asks for are passed over, unless they have no length: then
they must be parsed to find their end, so bytes and reads are counted.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, cast

from pkecho_edge.errors import MissingDependency, RecordingError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Header", "Values", "number_in", "read_header"]

Values: TypeAlias = Mapping[str, object]
"""Keyword -> value as pydicom gives it; what is absent or cannot be converted is not there."""

_NAMES = (
    *("SOPClassUID", "Modality", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated", "BitsStored"),
    *("PixelRepresentation", "FrameTime", "FrameTimeVector", "CineRate"),
    "RecommendedDisplayFrameRate",
)
_REGIONS = "SequenceOfUltrasoundRegions"
_REGION_NAMES = (
    *("RegionSpatialFormat", "RegionDataType", "RegionLocationMinX0", "RegionLocationMinY0"),
    *("RegionLocationMaxX1", "RegionLocationMaxY1", "PhysicalUnitsXDirection"),
    *("PhysicalUnitsYDirection", "PhysicalDeltaX", "PhysicalDeltaY"),
)
_MAX_BYTES, _MAX_READS = 64 << 20, 200_000
"""Of a header. Every element and every item costs a read, and an item is an object of kilobytes."""
_MAX_VALUE_BYTES, _MAX_REGIONS_BYTES, _MAX_REGIONS = 2 << 20, 256 << 10, 64
"""Of what is looked at. 65,536 frame times of 16 characters are 1 MiB."""
_REMEDY = "Replace it with an intact copy"


@dataclass(frozen=True)
class Header:
    """What a file says of its pixels.

    Attributes:
        syntax, syntax_name: UID of the transfer syntax, "" where it is not given; its name, the UID
            again where pydicom knows none.
        values: of the data set.
        regions: of each ultrasound region, in order; none where the file has no calibration.
    """

    syntax: str
    syntax_name: str
    values: Values
    regions: tuple[Values, ...]


def read_header(file: BinaryIO, path: Path) -> Header:
    """All that is needed before the pixels; the file then stands at their element, or at its end.

    Raises:
        RecordingError: no DICOM, damaged, deflated or too large.
        MissingDependency: pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise MissingDependency(
            "pydicom is not installed", path=path, remedy="Run: pip install 'pkecho-edge[data]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that no scanner should write
        try:
            found = pydicom.dcmread(
                cast(BinaryIO, _Bounded(file)),
                stop_before_pixels=True,
                specific_tags=[*_NAMES, _REGIONS],
            )
            position = file.tell()
            _check_sizes(found)
            regions = islice(found.get(_REGIONS) or (), _MAX_REGIONS)
            syntax = str(found.file_meta.get("TransferSyntaxUID") or "")
            header = Header(
                syntax=syntax,
                syntax_name=pydicom.uid.UID(syntax).name,
                values=_plain(found, _NAMES),
                regions=tuple(_plain(region, _REGION_NAMES) for region in regions),
            )
        except Exception as error:  # whatever the parser trips over in a damaged file
            why = str(error) if isinstance(error, _TooMuch) else "no DICOM header, or a damaged one"
            raise RecordingError(
                f"cannot be read as DICOM ({why})", path=path, remedy=_REMEDY
            ) from error
    file.seek(position)
    return header


def number_in(values: Values, name: str) -> float | None:
    """One finite number; None where it is absent, several, or no number."""
    try:
        value = float(cast(float, values.get(name)))
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


class _TooMuch(Exception):
    """More than a header may cost."""


class _Bounded:
    """A file that a header is read from, up to a limit; it refuses to be read as a whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes, self._reads = _MAX_BYTES, _MAX_READS

    def read(self, size: int = -1) -> bytes:
        if size < 0:  # what pydicom does to inflate a deflated data set, to whatever size
            raise _TooMuch("its data set is deflated, which is not read here")
        self._bytes -= size
        self._reads -= 1
        if self._bytes < 0 or self._reads < 0:
            raise _TooMuch("its header is too large")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _check_sizes(found: Dataset) -> None:
    """Refuse, while they are bytes, values that would become more objects than any scan has."""
    for name in (*_NAMES, _REGIONS):
        value = getattr(found.get_item(name), "value", None) if name in found else None
        limit = _MAX_REGIONS_BYTES if name == _REGIONS else _MAX_VALUE_BYTES
        if isinstance(value, bytes) and len(value) > limit:
            raise _TooMuch(f"its {name} has {len(value)} bytes")


def _plain(found: Dataset, names: Iterable[str]) -> dict[str, object]:
    """The values that can be converted; one that cannot is as good as absent."""
    values: dict[str, object] = {}
    for name in names:
        try:
            value = found.get(name)
        except Exception:  # what a converter trips over is up to the file
            continue
        if value is not None:
            values[name] = value
    return values
