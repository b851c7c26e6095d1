"""Whatever a recording comes as, opened."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from pkecho_edge.data.opening import open_recording
from pkecho_edge.data.video import read_video, write_mjpg_avi
from pkecho_edge.errors import RecordingError, UsageError

RAMP = np.linspace(0, 200, 32 * 48).reshape(32, 48).astype(np.uint8)
CLIP = np.stack([RAMP + i for i in range(8)])


def write_timed(path: Path, times_ms: list[int]) -> None:
    """A Matroska video whose frames have these times."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuvj420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, time_ms in enumerate(times_ms):
            frame = VideoFrame.from_ndarray(CLIP[index], format="gray").reformat(format="yuvj420p")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_a_video_has_the_times_of_its_file(tmp_path: Path) -> None:
    write_mjpg_avi(tmp_path / "a.avi", CLIP, 40)

    timed = open_recording(tmp_path / "a.avi")

    assert timed.recording.source == "video"
    assert timed.recording.frame_rate_hz == pytest.approx(40)
    assert timed.times_s == pytest.approx(np.arange(8) / 40)
    assert timed.is_even


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    times_ms = [100, 120, 140, 240, 260, 280, 300, 420]
    write_timed(tmp_path / "a.mkv", times_ms)

    timed = open_recording(tmp_path / "a.mkv")

    assert timed.times_s == pytest.approx((np.array(times_ms) - 100) / 1000)
    assert not timed.is_even
    with pytest.raises(RecordingError, match="unevenly spaced"):  # a dataset takes no such video
        read_video(tmp_path / "a.mkv")


def test_dicom_by_its_content(tmp_path: Path, dicom_files: ModuleType) -> None:
    path = dicom_files.save(dicom_files.ultrasound(CLIP), tmp_path / "IM_1")

    assert open_recording(path).recording.source == "dicom"


def test_a_folder_of_images(tmp_path: Path) -> None:
    from PIL import Image

    for index, frame in enumerate(CLIP):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")

    timed = open_recording(tmp_path, frame_rate_hz=20, spacing_mm=(0.5, 0.4))

    np.testing.assert_array_equal(timed.recording.frames, CLIP)
    assert timed.times_s == pytest.approx(np.arange(8) / 20)
    assert timed.recording.spacing_mm == (0.5, 0.4)
    assert open_recording(tmp_path).times_s is None


def test_what_the_recording_says_itself_is_not_overruled(
    tmp_path: Path, dicom_files: ModuleType
) -> None:
    dataset = dicom_files.ultrasound(CLIP, regions=[dicom_files.region(0, 0, 47, 31)])
    path = dicom_files.save(dataset, tmp_path / "a.dcm")

    with pytest.raises(UsageError, match="when its frames were taken"):
        open_recording(path, frame_rate_hz=20)
    with pytest.raises(UsageError, match="how large its pixels are"):
        open_recording(path, spacing_mm=(1, 1))
    assert open_recording(path, regions=False, spacing_mm=(1, 1)).recording.spacing_mm == (1, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"frame_rate_hz": 0.0},
        {"frame_rate_hz": float("nan")},
        {"spacing_mm": (0.3, 0.0)},
        {"spacing_mm": (100.0, 1.0)},
    ],
)
def test_figures_that_make_no_sense(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        open_recording(tmp_path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (np.zeros((3, 32, 48), dtype=np.uint8), "blank"),
        (np.stack([RAMP[:15]] * 3), "its picture is 15x48"),
    ],
)
def test_pictures_that_cannot_be_segmented(tmp_path: Path, frames: np.ndarray, says: str) -> None:
    write_mjpg_avi(tmp_path / "a.avi", frames, 40)

    with pytest.raises(RecordingError, match=says) as caught:
        open_recording(tmp_path / "a.avi")

    assert caught.value.path == tmp_path / "a.avi"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such file or folder"):
        open_recording(tmp_path / "a.avi")
