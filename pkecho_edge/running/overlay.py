"""The overlay: an MP4 of the recording with the outline on it, and below it figures and the curve.

Frames are drawn in the colour space of the video (Y at full size, U and V at half of it), so that
nothing is converted: only outlines have a colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pkecho_edge.data.timed_recording import TimedRecording
from pkecho_edge.metrics.beats import Beat
from pkecho_edge.running.drawing import (
    CONTOUR,
    DOUBTFUL,
    Curve,
    beats_by_frame,
    contour_band,
    figures_line,
    font,
    phases,
    resized,
)
from pkecho_edge.running.segmentation import FrameFigures, Segmentation
from pkecho_edge.stages import Observer

__all__ = ["UNTIMED_HZ", "write_overlay"]

UNTIMED_HZ = 25
"""Frames per second of a recording that does not say when its frames were taken."""

_SMALLEST, _NARROWEST = 480, 320
"""The longer side of a picture is enlarged to the one; the footer is never narrower than the other,
or its letters would be cut."""
_MOST = 1280  # larger pictures are reduced to it
_LINE, _CURVE, _MARGIN = 20, 44, 8
_TICKS = 90_000  # per second, as MPEG has
_ENCODERS = {"libx264": {"preset": "superfast", "crf": "20"}, "libopenh264": {}, "mpeg4": {}}
_FAST = {"movflags": "+faststart"}  # a browser can begin before it has all
_BLACK, _WHITE, _GREY, _NEUTRAL = 16, 235, 120, 128


@dataclass(frozen=True)
class _Layout:
    """Where things lie, in pixels; the whole has even sides, as H.264 wants.

    Attributes:
        picture: (height, width) of the picture.
        left: where the picture begins, an even number.
        size: (height, width) of the whole.
    """

    picture: tuple[int, int]
    left: int
    size: tuple[int, int]

    @classmethod
    def of(cls, height: int, width: int) -> _Layout:
        longest = max(height, width)
        scale = min(max(longest, _SMALLEST), _MOST) / longest
        high, wide = max(1, round(height * scale)), max(1, round(width * scale))
        whole_wide = _even(max(wide, _NARROWEST))
        footer = 2 * _LINE + _CURVE + 3 * _MARGIN
        return cls(
            (high, wide),
            (whole_wide - wide) // 2 // 2 * 2,
            (_even(_even(high) + footer), whole_wide),
        )

    @property
    def footer_top(self) -> int:
        return _even(self.picture[0])


def _even(side: int) -> int:
    return side + side % 2


def write_overlay(
    path: Path, timed: TimedRecording, found: Segmentation, beats: list[Beat], observer: Observer
) -> None:
    """Encode all frames, each at its own time.

    Args:
        path: the MP4 to write, in a folder that is thrown away if this fails.
        timed: the recording; without times it plays at UNTIMED_HZ.
        found: its masks and figures.
        beats: for ED, ES and EF.
        observer: hears of each frame.

    Raises:
        OSError: it cannot be written.
    """
    frames = timed.recording.frames
    observer.start("overlay", len(frames))
    layout = _Layout.of(frames.shape[1], frames.shape[2])
    painter = _Painter(layout, found, beats)
    times = np.arange(len(frames)) / UNTIMED_HZ if timed.times_s is None else timed.times_s
    rate = timed.recording.frame_rate_hz or UNTIMED_HZ
    with _said_as_os_error(), av.open(str(path), "w", format="mp4", options=_FAST) as container:
        name = _encoder()
        stream = container.add_stream(
            name, rate=Fraction(rate).limit_denominator(1000), options=_ENCODERS[name]
        )
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = layout.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        for index, frame in enumerate(frames):
            drawn = VideoFrame.from_ndarray(painter.paint(index, frame), format="yuv420p")
            drawn.pts, drawn.time_base = round(float(times[index]) * _TICKS), Fraction(1, _TICKS)
            container.mux(stream.encode(drawn))
            observer.advance()
        container.mux(stream.encode())
    observer.done(f"{len(frames)} frames, {layout.size[1]}x{layout.size[0]}, {name}")


@contextmanager
def _said_as_os_error() -> Iterator[None]:
    """What FFmpeg cannot write is an error of writing; some of its errors are no OSError."""
    try:
        yield
    except FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise OSError(0, f"the video cannot be encoded: {error.strerror or error}") from error


def _encoder() -> str:
    """The best that this build of PyAV has."""
    for name in _ENCODERS:
        try:
            Codec(name, "w")
        except UnknownCodecError:
            continue
        return name
    raise OSError(0, "no encoder for MP4 video in this PyAV")


class _Painter:
    """Draws one frame after the other into one canvas, u8 [H * 3 / 2, W]: Y, then U and V."""

    def __init__(self, layout: _Layout, found: Segmentation, beats: list[Beat]) -> None:
        self._layout, self._found, self._phases = layout, found, phases(beats)
        self._beat_of = beats_by_frame(beats)
        height, width = layout.size
        self._canvas = np.full((height * 3 // 2, width), _NEUTRAL, dtype=np.uint8)
        self._luma = self._canvas[:height]
        self._luma[:] = _BLACK
        self._chroma = self._canvas[height:].reshape(2, height // 2, width // 2)
        self._font = font(15)
        self._curve = Curve.of(found.figures, width - 2 * _MARGIN, _CURVE)
        self._strip = self._drawn_curve()
        self._video_levels = (_BLACK + np.arange(256) * (_WHITE - _BLACK) / 255 + 0.5).astype("u1")

    def paint(self, index: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The canvas with this frame u8 [H, W]; valid until the next one."""
        figures = self._found.figures[index]
        high, wide = self._layout.picture
        left = self._layout.left
        picture = self._luma[:high, left : left + wide]
        picture[:] = self._video_levels[resized(frame, (high, wide))]
        band = contour_band(self._found.masks[index], (high, wide))
        luma, blue, red = _yuv(CONTOUR if figures.valid else DOUBTFUL)
        picture[band] = luma
        coarse = _halved(band)
        for plane, value in zip(self._chroma, (blue, red), strict=True):
            part = plane[: coarse.shape[0], left // 2 : left // 2 + coarse.shape[1]]
            part[:] = _NEUTRAL
            part[coarse] = value
        self._paint_footer(index, figures)
        return self._canvas

    def _paint_footer(self, index: int, figures: FrameFigures) -> None:
        from PIL import Image, ImageDraw

        top, width = self._layout.footer_top, self._layout.size[1]
        text = Image.new("L", (width, 2 * _LINE + _MARGIN), _BLACK)
        draw = ImageDraw.Draw(text)
        draw.text((_MARGIN, _MARGIN // 2), figures_line(figures), _WHITE, self._font)
        draw.text((_MARGIN, _MARGIN // 2 + _LINE), self._status(index, figures), _WHITE, self._font)
        self._luma[top : top + text.height] = np.asarray(text)
        strip = self._luma[top + text.height :]
        strip[: len(self._strip)] = self._strip
        strip[: len(self._strip), _MARGIN + int(self._curve.points[index, 0])] = _WHITE

    def _status(self, index: int, figures: FrameFigures) -> str:
        """ED or ES, the beat's EF, and what makes the frame doubtful."""
        words = []
        if index in self._phases:
            words.append(self._phases[index][0])
        beat = self._beat_of.get(index)
        if beat is not None:
            flags = ", ".join(flag for flag in beat.flags if flag != "spacing")
            doubt = f" ({flags})" if flags else ""
            words.append(f"beat {beat.number}: EF {beat.ejection_fraction:.0f} %{doubt}")
        words += [flag.replace("_", " ") for flag in figures.flags]
        return "  ".join(words)

    def _drawn_curve(self) -> NDArray[np.uint8]:
        """The area's curve u8 [h, W], ED marked above it and ES below."""
        from PIL import Image, ImageDraw

        image = Image.new("L", (self._layout.size[1], _CURVE + _MARGIN), _BLACK)
        draw = ImageDraw.Draw(image)
        points = self._curve.shifted(_MARGIN, 0)
        draw.line(points, fill=_GREY, width=2)
        for index, (phase, _) in self._phases.items():
            x, y = points[index]
            tip = -1 if phase == "ED" else 1
            tip_y = min(max(y, 6), _CURVE - 1)
            draw.polygon([(x - 4, tip_y), (x + 4, tip_y), (x, tip_y + 6 * tip)], fill=_WHITE)
        return np.asarray(image, dtype=np.uint8)


def _halved(band: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool [h, w] -> [ceil(h / 2), ceil(w / 2)]: whether any of four pixels is set."""
    even = np.pad(band, ((0, band.shape[0] % 2), (0, band.shape[1] % 2)))
    halved: NDArray[np.bool_] = (
        even[::2, ::2] | even[1::2, ::2] | even[::2, 1::2] | even[1::2, 1::2]
    )
    return halved


def _yuv(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """BT.601 in video range, what players assume of a small picture."""
    red, green, blue = (channel / 255 for channel in colour)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return (
        round(_BLACK + (_WHITE - _BLACK) * luma),
        round(_NEUTRAL + 224 * (blue - luma) / 1.772),
        round(_NEUTRAL + 224 * (red - luma) / 1.402),
    )
