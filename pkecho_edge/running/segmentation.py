"""Segment a recording: one mask and its figures per frame, by whichever engine the bundle has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.resize import resize_masks
from pkecho_edge.data.timed_recording import TimedRecording
from pkecho_edge.metrics.long_axis import find_long_axis
from pkecho_edge.running.live_curve import LiveCurve
from pkecho_edge.runtime.engine import Engine
from pkecho_edge.runtime.masks import largest_component
from pkecho_edge.stages import Observer

__all__ = ["FRAME_FLAGS", "FrameFigures", "PackedMasks", "Segmentation", "segment"]

FRAME_FLAGS = {
    "warming_up": "the window holds fewer than T frames, and repeats one for the rest",
    "empty": "no ventricle was found",
    "touches_border": "the mask reaches the image's edge: part is outside",
    "fragmented": "under 95 % of the mask is its largest component",
}
"""Name -> meaning, as PKECHO_FRAME_* of the C library; a frame is valid where none is set."""

_WHOLE_SHARE = 0.95
_LONGEST_GAP_S = 0.5


@dataclass(frozen=True, slots=True)
class FrameFigures:
    """What is measured on one frame.

    Attributes:
        index: from 0.
        time_s: from the recording's first frame; None where unknown.
        area_px: of the mask, 0 for an empty one.
        area_cm2, long_axis_mm: None without a spacing; 0 for an empty mask.
        flags: of FRAME_FLAGS, in their order.
        restarted: why a window began here, "" where it did not; of the clip engine gaps alone.
        latency_ms: wall time of the frame; of the clip engine its share of the window's.
    """

    index: int
    time_s: float | None
    area_px: int
    area_cm2: float | None
    long_axis_mm: float | None
    flags: tuple[str, ...]
    restarted: str
    latency_ms: float

    @property
    def valid(self) -> bool:
        """Whether the area may be acted on."""
        return not self.flags


class PackedMasks:
    """Masks bool [H, W] by frame number, kept in an eighth of their size.

    Args:
        shape: (N, H, W).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape[1:]
        self._bits = np.zeros((shape[0], -(-shape[1] * shape[2] // 8)), dtype=np.uint8)

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        height, width = self._shape
        bits = np.unpackbits(self._bits[index], count=height * width)
        return bits.reshape(height, width).view(np.bool_)

    def __setitem__(self, index: int, mask: NDArray[np.bool_]) -> None:
        self._bits[index] = np.packbits(mask)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """All frames of a recording.

    Attributes:
        mode: "stream" or "clip".
        figures: of each frame.
        masks: of each frame, in its own geometry.
        seconds: wall time of all of them, measuring included.
    """

    mode: str
    figures: tuple[FrameFigures, ...]
    masks: PackedMasks
    seconds: float

    @property
    def frames_per_s(self) -> float:
        """Frames per second of wall time."""
        return len(self.figures) / self.seconds


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A mask bool [H, W] in the frame's geometry, and how it came about."""

    mask: NDArray[np.bool_]
    warming_up: bool
    restarted: str
    latency_ms: float


def segment(engine: Engine, timed: TimedRecording, observer: Observer) -> Segmentation:
    """Run the stream engine where the bundle has one, else the clip engine in windows of T frames.

    Args:
        engine: an open bundle.
        timed: what to segment.
        observer: hears of each frame, and of the areas so far.

    Raises:
        EnvironmentMismatch, IntegrityError: the bundle's engine cannot be loaded.
    """
    recording = timed.recording
    mode = "stream" if "stream" in engine.modes else "clip"
    observer.start("segment", len(recording.frames))
    masks = PackedMasks(recording.frames.shape)
    figures: list[FrameFigures] = []
    curve = LiveCurve(observer, len(recording.frames))
    found_in = _by_stream if mode == "stream" else _by_clip
    began = time.perf_counter()
    for index, found in enumerate(found_in(engine, timed)):
        masks[index] = found.mask
        figures.append(_figures(index, found, timed))
        observer.advance()
        curve.add(figures[-1].area_px)
    seconds = time.perf_counter() - began
    result = Segmentation(mode, tuple(figures), masks, seconds)
    observer.done(f"{len(figures)} frames, {mode} engine, {result.frames_per_s:.1f} frames/s")
    return result


def _longest_gap_s(timed: TimedRecording) -> float:
    """Frames further apart do not belong to one window, nor to one beat."""
    times = timed.times_s
    if times is None or len(times) < 2:
        return _LONGEST_GAP_S
    # a recording of two frames a second has no gaps
    return max(_LONGEST_GAP_S, 3 * float(np.median(np.diff(times))))


def _by_stream(engine: Engine, timed: TimedRecording) -> Iterator[_Found]:
    times = timed.times_s
    with engine.stream(max_gap_s=_longest_gap_s(timed)) as stream:
        for index, frame in enumerate(timed.recording.frames):
            result = stream.push(frame, None if times is None else float(times[index]))
            yield _Found(result.mask, result.warming_up, result.restarted, result.latency_ms)


def _by_clip(engine: Engine, timed: TimedRecording) -> Iterator[_Found]:
    """One window after the other; the last one of each piece goes back so far that it is full.

    A piece ends where there is a gap. Of fewer than T frames the last one is repeated, and all of
    them are warming up.
    """
    frames, times = timed.recording.frames, timed.times_s
    gaps: list[int] = []
    if times is not None:
        gaps = (np.flatnonzero(np.diff(times) > _longest_gap_s(timed)) + 1).tolist()
    for number, piece in enumerate(np.split(frames, gaps)):
        yield from _piece_by_clip(engine, piece, "gap" if number else "")


def _piece_by_clip(engine: Engine, frames: NDArray[np.uint8], restarted: str) -> Iterator[_Found]:
    """The windows of frames u8 [N, H, W] without a gap, N >= 1; why they began there."""
    length = engine.bundle.manifest.window.length
    count, size = len(frames), (frames.shape[1], frames.shape[2])
    for start in range(0, count, length):
        first = max(0, min(start, count - length))
        window = frames[first : first + length]
        lacking = length - len(window)
        if lacking:
            window = np.concatenate([window, np.repeat(window[-1:], lacking, axis=0)])
        began = time.perf_counter()
        masks = resize_masks(engine.clip(window).masks, size)
        latency_ms = 1000 * (time.perf_counter() - began) / length
        for number, mask in enumerate(masks[start - first : length - lacking], start):
            yield _Found(mask, bool(lacking), "" if number else restarted, latency_ms)


def _figures(index: int, found: _Found, timed: TimedRecording) -> FrameFigures:
    mask = found.mask
    area = int(np.count_nonzero(mask))
    largest = int(np.count_nonzero(largest_component(mask)))
    raised = {
        "warming_up": found.warming_up,
        "empty": not area,
        "touches_border": bool(
            mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
        ),
        "fragmented": largest < _WHOLE_SHARE * area,
    }
    spacing_mm = timed.recording.spacing_mm
    area_cm2 = length_mm = None
    if spacing_mm is not None:
        area_cm2 = area * spacing_mm[0] * spacing_mm[1] / 100
        length_mm = find_long_axis(mask, spacing_mm).length if area else 0.0
    return FrameFigures(
        index=index,
        time_s=None if timed.times_s is None else float(timed.times_s[index]),
        area_px=area,
        area_cm2=area_cm2,
        long_axis_mm=length_mm,
        flags=tuple(name for name in FRAME_FLAGS if raised[name]),
        restarted=found.restarted,
        latency_ms=found.latency_ms,
    )
