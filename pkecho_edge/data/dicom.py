"""DICOM ultrasound: one frame or many, uncompressed or JPEG baseline, with its calibration.

A file is hostile input. What its header announces of the pixels is checked against limits and
against the file's size before anything is decoded, and only the 2D tissue region is kept.
Source: DICOM PS3.3 (C.7.6.3 image pixel, C.7.6.5 cine, C.8.5.5 US region calibration), PS3.5
(A.4 encapsulated pixel data).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.dicom_header import Header, Values, number_in, read_header
from pkecho_edge.data.dicom_pixels import PixelFormat, jpeg_frames, native_frames
from pkecho_edge.data.dicom_regions import TissueRegion, tissue_region
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.timed_recording import TimedRecording
from pkecho_edge.data.video import check_decoded_size
from pkecho_edge.errors import RecordingError

__all__ = ["is_dicom", "read_dicom"]

_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_ULTRASOUND = (  # multi-frame and single, each also in its retired form
    *("1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.6.1"),
    *("1.2.840.10008.5.1.4.1.1.3", "1.2.840.10008.5.1.4.1.1.6"),
)
_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"  # Enhanced US Volume: its frames are slices
_OF_GDCM = {  # transfer syntaxes that GDCM decodes
    "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS",
    "1.2.840.10008.1.2.4.81": "JPEG-LS",
    "1.2.840.10008.1.2.4.90": "JPEG 2000",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}
_REPLACE = "Replace it with an intact copy"


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content, or says so by its name; False if it has neither."""
    if path.suffix.lower() in (".dcm", ".dicom"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_dicom(path: Path, *, regions: bool = True) -> TimedRecording:
    """Decode a DICOM ultrasound file to grey.

    Args:
        path: the file.
        regions: keep the 2D tissue region alone where the file has a calibration, and take the
            spacing from it; False: the whole picture, of unknown spacing.

    Returns:
        u8 frames [N, H, W] (luminance, full range), times from the cine module. Where the region's
        scale cannot be trusted the spacing is None, and `scale_problem` says why.

    Raises:
        RecordingError: no DICOM, not 2D ultrasound, without pixel data, compressed in a way that is
            not read here, other than 8 bits, truncated, too large, a tissue region that does not
            lie in the picture, or none among its regions.
        MissingDependency: pydicom is not installed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header = read_header(file, path)
            _check_syntax(header, path)
            _check_ultrasound(header.values, path)
            form = _pixel_format(header.values, path)
            region = tissue_region(header.regions, form, path) if regions else None
            frames = _read_pixels(file, header.syntax, form, region, path)
    except OSError as error:
        raise RecordingError(
            f"cannot be read ({error.strerror})", path=path, remedy="Check the path"
        ) from error
    times = _frame_times(header.values, len(frames))
    steps = None if times is None or len(times) < 2 else float(np.mean(np.diff(times)))
    recording = Recording(
        identifier=path.stem,
        patient=path.stem,
        source="dicom",
        frames=frames,
        frame_rate_hz=_rate(header.values) if steps is None else 1 / steps,
        spacing_mm=None if region is None else region.spacing_mm,
    )
    if region is None:
        return TimedRecording(recording, times)
    return TimedRecording(recording, times, region.notes, region.scale_problem)


def _check_ultrasound(values: Values, path: Path) -> None:
    modality = str(values.get("Modality") or "")[:32]
    if modality != "US" and (modality or str(values.get("SOPClassUID")) not in _ULTRASOUND):
        raise RecordingError(
            f"it is no ultrasound image (modality {modality or 'not given'})",
            path=path,
            remedy="Name a recording of modality US",
        )
    if str(values.get("SOPClassUID")) == _VOLUME:
        raise RecordingError(
            "it is a 3D volume, whose frames are slices and not moments",
            path=path,
            remedy="Name a 2D recording",
        )


def _check_syntax(header: Header, path: Path) -> None:
    syntax = header.syntax
    if syntax in (_IMPLICIT, _EXPLICIT, _JPEG_BASELINE):
        return
    name = header.syntax_name[:64] or "no transfer syntax"
    if syntax in _OF_GDCM:
        remedy = (
            f"It takes another package to decode {_OF_GDCM[syntax]}: convert the file with GDCM, "
            "for example: gdcmconv --raw IN OUT"
        )
    else:
        remedy = "Export it uncompressed or as JPEG baseline"
    raise RecordingError(f"its pixels are not read here ({name})", path=path, remedy=remedy)


def _pixel_format(values: Values, path: Path) -> PixelFormat:
    """What the header says of the pixels, within the limits of a video."""
    rows, columns = number_in(values, "Rows"), number_in(values, "Columns")
    count = number_in(values, "NumberOfFrames") if "NumberOfFrames" in values else 1.0
    sides = (rows, columns, count)
    if any(side is None or side < 1 or side != int(side) for side in sides):
        raise RecordingError(
            "its header does not say how many pixels and frames there are",
            path=path,
            remedy=_REPLACE,
        )
    height, width, frames = (int(side) for side in sides if side is not None)
    check_decoded_size(width, height, frames, path)
    allocated, stored = (number_in(values, name) for name in ("BitsAllocated", "BitsStored"))
    if (allocated, stored) != (8, 8) or number_in(values, "PixelRepresentation") not in (None, 0):
        raise RecordingError(
            f"its pixels have {stored or 0:.0f} of {allocated or 0:.0f} bits, not 8",
            path=path,
            remedy="Export it with 8 bits per sample",
        )
    return PixelFormat(
        frames=frames,
        rows=height,
        columns=width,
        photometric=str(values.get("PhotometricInterpretation") or "none"),
        samples=int(number_in(values, "SamplesPerPixel") or 0),
        planar=number_in(values, "PlanarConfiguration") == 1,
    ).checked(path)


def _read_pixels(
    file: BinaryIO, syntax: str, form: PixelFormat, region: TissueRegion | None, path: Path
) -> NDArray[np.uint8]:
    """u8 [N, H, W] of the region, from where the file stands."""
    length = _pixel_data_length(file, implicit=syntax == _IMPLICIT)
    if length is None:
        raise RecordingError(
            "it has no pixel data",
            path=path,
            remedy="Name a file with pictures: this may be a report, or the file breaks off",
        )
    read = jpeg_frames if syntax == _JPEG_BASELINE else native_frames
    rows = slice(None) if region is None else slice(region.top, region.top + region.height)
    columns = slice(None) if region is None else slice(region.left, region.left + region.width)
    frames: NDArray[np.uint8] | None = None
    found = 0
    for picture in read(file, length, form, path):
        if found == form.frames:
            break
        part = picture[rows, columns]
        if frames is None:  # not before one frame was there: a header alone takes no memory
            frames = np.empty((form.frames, *part.shape), dtype=np.uint8)
        frames[found] = part
        found += 1
    if frames is None or found < form.frames:
        raise RecordingError(
            f"it breaks off after {found} frames of {form.frames}", path=path, remedy=_REPLACE
        )
    return frames


def _pixel_data_length(file: BinaryIO, *, implicit: bool) -> int | None:
    """Bytes of the pixel data that the file stands at, 2**32 - 1 for undefined; None: no such."""
    head = file.read(8 if implicit else 12)
    if len(head) < (8 if implicit else 12) or head[:4] != b"\xe0\x7f\x10\x00":
        return None
    return int(struct.unpack("<I", head[-4:])[0])


def _frame_times(values: Values, count: int) -> NDArray[np.float64] | None:
    """f64 [N] in seconds: the vector of frame times where it fits, else equal steps; None: none."""
    vector = values.get("FrameTimeVector")
    if vector is not None:
        try:
            steps = np.atleast_1d(np.asarray(vector, dtype=np.float64)) / 1000
        except (TypeError, ValueError):
            steps = np.zeros(0)
        # the first step leads to the first frame and says nothing
        if len(steps) == count and np.isfinite(steps).all() and (steps[1:] > 0).all():
            return np.concatenate([[0.0], np.cumsum(steps[1:])])
    rate = _rate(values)
    return None if rate is None else np.arange(count) / rate


def _rate(values: Values) -> float | None:
    """Frames per second in equal steps, None where the file does not say."""
    step_ms = number_in(values, "FrameTime")
    if step_ms is not None and 0.1 <= step_ms <= 10_000:
        return 1000 / step_ms
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        rate = number_in(values, name)
        if rate is not None and 0.1 <= rate <= 10_000:
            return rate
    return None
