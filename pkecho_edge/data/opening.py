"""Open whatever a recording comes as: a video, a DICOM file, a folder of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pkecho_edge.data.dataset import refuse_blank
from pkecho_edge.data.dicom import is_dicom, read_dicom
from pkecho_edge.data.images import IMAGE_SUFFIXES, read_images
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.timed_recording import TimedRecording
from pkecho_edge.data.video import read_timed_video
from pkecho_edge.errors import RecordingError, UsageError

__all__ = ["open_recording"]


def open_recording(
    place: Path,
    *,
    regions: bool = True,
    frame_rate_hz: float | None = None,
    spacing_mm: tuple[float, float] | None = None,
) -> TimedRecording:
    """Decode a recording as a whole, one byte per pixel.

    Args:
        place: a video, a DICOM file, an image, or a folder of images.
        regions: of DICOM, see `read_dicom`.
        frame_rate_hz: of a recording that does not say when its frames were taken.
        spacing_mm: (row, column) of a pixel, of a recording that does not say.

    Raises:
        RecordingError: nothing there, or it cannot be used; names the file.
        UsageError: a rate or spacing that is not above 0, or that the recording has itself.
        MissingDependency: a package that reads it is not installed.
    """
    _check_given(frame_rate_hz, spacing_mm)
    if not place.exists():
        raise RecordingError("no such file or folder", path=place, remedy="Check the path")
    if not (place.is_dir() or place.is_file()):  # a pipe would be waited for
        raise RecordingError(
            "is neither a file nor a folder", path=place, remedy="Save it to a file first"
        )
    try:
        timed = _read(place, regions)
        timed = _with_given(timed, frame_rate_hz, spacing_mm, place)
    except RecordingError as error:
        if error.path is not None:
            raise
        raise RecordingError(error.what, path=place, remedy=error.remedy) from error
    refuse_blank(timed.recording.frames, place)
    return timed


def _read(place: Path, regions: bool) -> TimedRecording:
    name = place.stem or place.resolve().name
    if place.is_dir() or place.suffix.lower() in IMAGE_SUFFIXES:
        frames = read_images(place)
        return TimedRecording(Recording(name, name, "images", frames), None)
    if is_dicom(place):
        return read_dicom(place, regions=regions)
    frames, times, rate = read_timed_video(place)
    return TimedRecording(Recording(name, name, "video", frames, frame_rate_hz=rate), times)


def _check_given(rate: float | None, spacing_mm: tuple[float, float] | None) -> None:
    if rate is not None and not 0.1 <= rate <= 10_000:
        raise UsageError(f"{rate:g} frames per second", remedy="Give a rate from 0.1 to 10000 Hz")
    if spacing_mm is not None and not all(0 < side < 100 for side in spacing_mm):
        raise UsageError(
            f"a pixel of {spacing_mm[0]:g} by {spacing_mm[1]:g} mm",
            remedy="Give its height and width in mm, above 0 and below 100",
        )


def _with_given(
    timed: TimedRecording,
    rate: float | None,
    spacing_mm: tuple[float, float] | None,
    place: Path,
) -> TimedRecording:
    """With what the user adds; what the recording says itself is not overruled."""
    recording = timed.recording
    if rate is not None:
        if timed.times_s is not None:
            raise UsageError(
                "it says itself when its frames were taken",
                path=place,
                remedy="Leave out --frame-rate",
            )
        times = np.arange(len(recording.frames)) / rate
        timed = replace(timed, recording=replace(recording, frame_rate_hz=rate), times_s=times)
    if spacing_mm is not None:
        if recording.spacing_mm is not None:
            raise UsageError(
                "it says itself how large its pixels are",
                path=place,
                remedy="Leave out --spacing, or add --no-regions",
            )
        timed = replace(timed, recording=replace(timed.recording, spacing_mm=spacing_mm))
    return timed
