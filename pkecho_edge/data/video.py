"""Video files: any container that PyAV decodes in, Motion-JPEG AVI out.

A video is hostile input. Only the listed containers are probed, so that a playlist in a video's
clothes cannot make the decoder open other files, and what a video may unpack to is bounded.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pkecho_edge.errors import RecordingError

__all__ = [
    "MAX_FRAMES",
    "MAX_FRAME_PIXELS",
    "MAX_VIDEO_BYTES",
    "check_decoded_size",
    "read_timed_video",
    "read_video",
    "write_mjpg_avi",
]

MAX_FRAMES = 65_536
MAX_FRAME_PIXELS = 4096 * 4096
MAX_VIDEO_BYTES = 2 << 30
"""Largest decoded video, one byte per pixel: 80 s of 800x600 at 55 Hz, any length of 112x112."""

_CONTAINERS = "avi,mov,mp4,matroska,webm,mpeg,mpegts,asf,ogg,gif"
_REPLACE = "Replace it with an intact copy, or leave the recording out"


def read_video(path: Path) -> tuple[NDArray[np.uint8], float | None]:
    """Decode a whole video to grey.

    Returns:
        frames u8 [N, H, W], N >= 1 (luminance, full range), and the frame rate in Hz, None where
        the file does not say.

    Raises:
        RecordingError: no such file, empty, truncated, not a video, without a picture, unevenly
            spaced in time, or larger than MAX_FRAMES, MAX_FRAME_PIXELS or MAX_VIDEO_BYTES.
    """
    path = Path(path)
    frames, times, rate = _read(path)
    _check_even(times, path)
    return frames, rate


def read_timed_video(
    path: Path,
) -> tuple[NDArray[np.uint8], NDArray[np.float64] | None, float | None]:
    """Decode a whole video to grey, with the time of each frame, evenly spaced or not.

    Returns:
        frames u8 [N, H, W] as `read_video`; their times f64 [N] in seconds from the first one,
        strictly ascending, by the file's time stamps, else by its frame rate, None where it has
        neither; the frame rate in Hz (of uneven frames the average), None where unknown.

    Raises:
        RecordingError: as `read_video`, but for uneven frames; also time stamps that do not ascend.
    """
    path = Path(path)
    frames, stamps, rate = _read(path)
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) < len(stamps):
        return frames, None if rate is None else np.arange(len(stamps)) / rate, rate
    times = np.asarray(known, dtype=np.float64) - known[0]
    if (np.diff(times) <= 0).any():
        raise RecordingError(
            f"the time stamp of frame {int(np.argmax(np.diff(times) <= 0)) + 1} does not come "
            "after the one before it",
            path=path,
            remedy="Export it again, at a constant frame rate",
        )
    return frames, times, rate


def _read(path: Path) -> tuple[NDArray[np.uint8], list[float | None], float | None]:
    """Frames u8 [N, H, W], the time stamp of each in seconds where it has one, and the rate."""
    if not path.is_file():
        raise RecordingError("no such video", path=path, remedy="Check the path")
    if path.stat().st_size == 0:
        raise RecordingError("the video is empty (0 bytes)", path=path, remedy=_REPLACE)
    try:
        with path.open("rb") as file:
            return _decode(file, path)
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecordingError(
            f"cannot be read as a video ({reason})", path=path, remedy=_REPLACE
        ) from error


def _decode(
    file: BinaryIO, path: Path
) -> tuple[NDArray[np.uint8], list[float | None], float | None]:
    with av.open(file, "r", options={"format_whitelist": _CONTAINERS}) as container:
        stream = _video_stream(container, path)
        width, height = stream.codec_context.width, stream.codec_context.height
        check_decoded_size(width, height, stream.frames, path)
        frames, times, hidden = _intact_frames(container, stream, path)
        if not frames or len(frames) + hidden < stream.frames:
            raise RecordingError(
                f"it breaks off after {len(frames)} frames"
                + (f" of {stream.frames}" if stream.frames else ""),
                path=path,
                remedy=_REPLACE,
            )
        rate = stream.average_rate
        return np.stack(frames), times, float(rate) if rate and rate > 0 else None


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    if not container.streams.video:
        raise RecordingError("there is no picture in it", path=path, remedy=_REPLACE)
    stream = container.streams.video[0]
    if not isinstance(stream.codec_context, VideoCodecContext):  # None for an unknown codec
        raise RecordingError("no decoder knows its codec", path=path, remedy=_REPLACE)
    # one thread: a truncated file ends at the same frame every time
    stream.thread_type = "NONE"
    return stream


def _intact_frames(
    container: InputContainer, stream: VideoStream, path: Path
) -> tuple[list[NDArray[np.uint8]], list[float | None], int]:
    """Frames up to the first one whose bytes are cut off, which would decode half grey.

    Returns:
        the frames u8 [H, W], all of one size; their time stamps in seconds; and how many more the
        file holds but says not to show: an MP4 that was cut without encoding it again keeps what
        came before the cut.
    """
    frames: list[NDArray[np.uint8]] = []
    times: list[float | None] = []
    hidden = 0
    for packet in container.demux(stream):
        if packet.is_corrupt:
            break
        hidden += packet.is_discard
        for frame in packet.decode():
            check_decoded_size(frame.width, frame.height, len(frames) + 1, path)
            frames.append(_grey(frame))
            times.append(frame.time)
            if frames[-1].shape != frames[0].shape:
                raise RecordingError(
                    f"its picture changes size at frame {len(frames) - 1}",
                    path=path,
                    remedy=_REPLACE,
                )
    return frames, times, hidden


def _check_even(times: list[float | None], path: Path) -> None:
    """Refuse frames that are not evenly spaced in time: a window of them would not be a window.

    Time stamps are rounded, to milliseconds in Matroska, so a step may be half off.
    """
    known = [time for time in times if time is not None]
    if len(known) != len(times) or len(known) < 3:
        return  # nothing is said about time; the frame rate stands
    steps = np.diff(known)
    usual = float(np.median(steps))
    if usual <= 0 or steps.min() < usual / 2 or steps.max() > 1.5 * usual:
        raise RecordingError(
            f"its frames are unevenly spaced in time, {1000 * steps.min():.0f} to "
            f"{1000 * steps.max():.0f} ms apart",
            path=path,
            remedy="Export it at a constant frame rate",
        )


def check_decoded_size(width: int, height: int, frames: int, path: Path) -> None:
    """Refuse, before it is decoded, what would not fit in memory as grey.

    Raises:
        RecordingError: more than MAX_FRAMES, MAX_FRAME_PIXELS or MAX_VIDEO_BYTES.
    """
    pixels = width * height
    limits = (
        (pixels, MAX_FRAME_PIXELS, "pixels per frame"),
        (frames, MAX_FRAMES, "frames"),
        (frames * pixels, MAX_VIDEO_BYTES, "bytes when decoded"),
    )
    for value, limit, unit in limits:
        if value > limit:
            raise RecordingError(
                f"it has {value} {unit}, more than {limit}",
                path=path,
                remedy="Cut it to the heart beats of interest",
            )


def _grey(frame: VideoFrame) -> NDArray[np.uint8]:
    """Luminance u8 [H, W] as a player shows it: full range, and turned as the file says."""
    picture = np.asarray(frame.to_ndarray(format="gray"), dtype=np.uint8)
    quarters = round(getattr(frame, "rotation", 0) / 90)  # counterclockwise, as np.rot90
    return np.ascontiguousarray(np.rot90(picture, quarters))


def write_mjpg_avi(path: Path, frames: NDArray[np.uint8], frame_rate_hz: float) -> None:
    """Write u8 [N, H, W] as a Motion-JPEG AVI with three equal channels, as EchoNet-Dynamic has.

    The same frames give the same bytes. The file appears whole or not at all.

    Raises:
        RecordingError: no frames, not u8 [N, H, W], or a frame rate that is not positive.
    """
    path = Path(path)
    if frames.ndim != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise RecordingError(f"frames {frames.dtype} {frames.shape} are no video", path=path)
    if not 0 < frame_rate_hz < 10_000:
        raise RecordingError(f"{frame_rate_hz} Hz is not a frame rate", path=path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _encode(partial, frames, frame_rate_hz)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _encode(path: Path, frames: NDArray[np.uint8], frame_rate_hz: float) -> None:
    # bitexact: no encoder version in the file, so equal frames give equal bytes
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        rate = Fraction(frame_rate_hz).limit_denominator(1000)
        stream = container.add_stream("mjpeg", rate=rate, options={"flags": "+bitexact"})
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuvj420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 1  # the finest quantizer
        for picture in frames:
            frame = VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuvj420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
