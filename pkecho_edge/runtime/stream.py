"""Live use: one frame in, one mask out, with everything that can happen to a live image."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.bundle.manifest import Postprocessing
from pkecho_edge.data.resize import resize_frames, resize_masks
from pkecho_edge.data.timed_recording import MAX_SIDE, MIN_SIDE
from pkecho_edge.errors import UsageError
from pkecho_edge.runtime.masks import outline, to_mask
from pkecho_edge.targets.base import LiveWindow

__all__ = ["Restart", "Stream", "StreamResult", "check_frame"]

Restart: TypeAlias = Literal["", "first", "reset", "geometry", "gap"]
"""Why a window began with this frame; "" where it did not."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamResult:
    """What a stream says of one frame. The arrays are the caller's; no later push touches them.

    Attributes:
        mask: bool [H, W] in the frame's own geometry.
        area_px: pixels of `mask`; 0 for an empty one.
        area_cm2: their area; None without a spacing, or in a geometry that it was not given for.
        warming_up: the window holds fewer than T frames and repeats the first one for the rest.
        restarted: why the window began with this frame, "" where it did not.
        index: of the push in the life of the stream, from 0; refused pushes do not count.
        timestamp_s: as it was pushed.
        latency_ms: wall time of the push.
    """

    mask: NDArray[np.bool_]
    area_px: int
    area_cm2: float | None
    warming_up: bool
    restarted: Restart
    index: int
    timestamp_s: float | None
    latency_ms: float
    _contour: NDArray[np.float32] | None = field(default=None, init=False, repr=False)

    @property
    def contour(self) -> NDArray[np.float32]:
        """Outline of the largest 8-connected component, f32 [N, 2], (x, y); see `masks.outline`.

        In pixels of the frame, centres at integers; the last point joins the first. [0, 2] for an
        empty mask. Traced when it is first asked for, from what `mask` then holds, and kept.
        """
        if self._contour is None:
            object.__setattr__(self, "_contour", outline(self.mask))
        assert self._contour is not None
        return self._contour


class Stream:
    """Segments live frames one by one. `Engine.stream` makes it; `with` closes it.

    One thread at a time; a second one is refused. Whatever a push refuses leaves the stream as if
    that push had not happened.

    Args:
        window: on the stream engine, of this stream alone.
        length: T, frames until the window is full.
        postprocessing: the manifest's rule from logits to masks.
        spacing_mm: (row, column) of the frames' pixels, for areas in cm2. It holds for the geometry
            of the stream's first frame; other geometries have no area_cm2.
        max_gap_s: frames further apart than this do not belong to one window; math.inf: never.

    Raises:
        UsageError: a spacing or a gap that is not positive, or a spacing that is not finite.
    """

    def __init__(
        self,
        window: LiveWindow,
        length: int,
        postprocessing: Postprocessing,
        *,
        spacing_mm: tuple[float, float] | None = None,
        max_gap_s: float = 0.5,
    ) -> None:
        self._pixel_cm2 = _pixel_cm2(spacing_mm)
        if not max_gap_s > 0:  # also catches NaN
            raise UsageError(f"max_gap_s is {max_gap_s}", remedy="Pass seconds above 0")
        self._window: LiveWindow | None = window
        self._length, self._postprocessing, self._max_gap_s = length, postprocessing, max_gap_s
        self._busy = threading.Lock()
        self._index = 0
        self._start: Restart = "first"  # why the window begins, where it is empty
        self._spaced: tuple[int, int] | None = None  # the geometry that the spacing was given for
        self._geometry: tuple[int, int] | None = None  # of the last frame; None before the first
        self._last_s: float | None = None  # its timestamp

    def push(self, frame: NDArray[np.uint8], timestamp_s: float | None = None) -> StreamResult:
        """Segment the next frame.

        The window begins anew by itself where the frame's geometry changes, or where its timestamp
        lies more than `max_gap_s` after the last one.

        Args:
            frame: u8 [H, W], sides from 16 to 4096, any strides; resized by the manifest's rule
                where it does not fit the engine. Not kept.
            timestamp_s: strictly increasing, or None. The first frame of a stream, and the first
                after `reset`, decides which of the two: a stream is timed or it is not.

        Raises:
            UsageError: a frame or a timestamp that cannot be used, a stream that another thread is
                in, or a stream or engine that is closed.
        """
        began = time.perf_counter()
        self._enter()
        try:
            window = self._open_window()
            geometry = check_frame(frame)
            time_s = None if timestamp_s is None else _seconds(timestamp_s)
            self._check_order(time_s)
            restarted = self._reason(window, geometry, time_s)
            fits = geometry == window.frame.shape
            np.copyto(
                window.frame,
                frame if fits else resize_frames(frame[None], window.frame.shape)[0],
            )
            self._start = restarted or self._start  # kept in case `advance` fails half-way
            window.advance(anew=bool(restarted))
            index = self._accept(geometry, time_s)
            mask = to_mask(window.logits, self._postprocessing)
            if not fits:
                mask = resize_masks(mask[None], geometry)[0]
            area_px = int(np.count_nonzero(mask))
            return StreamResult(
                mask,
                area_px,
                area_px * self._pixel_cm2 if geometry == self._spaced else None,
                window.pushed < self._length,
                restarted,
                index,
                time_s,
                1000 * (time.perf_counter() - began),
            )
        finally:
            self._busy.release()

    def reset(self) -> None:
        """Forget the frames and their timestamps: the next push begins a window, a clock too.

        Raises:
            UsageError: another thread is in the stream, or it is closed.
        """
        self._enter()
        try:
            self._open_window().restart()
            self._start = "first" if self._index == 0 else "reset"
            self._geometry = self._last_s = None
        finally:
            self._busy.release()

    def close(self) -> None:
        """Free the window; a push that is under way ends well. A second call does nothing."""
        self._window = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _enter(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise UsageError("two threads use one stream", remedy="Open one stream per thread")

    def _open_window(self) -> LiveWindow:
        if self._window is None:
            raise UsageError("the stream is closed", remedy="Open another one, on an open bundle")
        return self._window

    def _check_order(self, time_s: float | None) -> None:
        """Refuse a timestamp that does not follow the last one."""
        if self._geometry is None:  # nothing to follow
            return
        last_s = self._last_s
        if time_s is None or last_s is None:
            if time_s is not last_s:
                raise UsageError(
                    "some frames have a timestamp and some have none",
                    remedy="Pass one with every frame or with none, or reset the stream",
                )
        elif time_s <= last_s:
            raise UsageError(
                f"timestamp {time_s} s does not come after {last_s} s",
                remedy="Push frames in time order, or reset the stream",
            )

    def _reason(
        self, window: LiveWindow, geometry: tuple[int, int], time_s: float | None
    ) -> Restart:
        """Why this frame begins a window, "" if it does not."""
        if window.pushed == 0:
            return self._start
        if geometry != self._geometry:
            return "geometry"
        if time_s is not None and self._last_s is not None:
            return "gap" if time_s - self._last_s > self._max_gap_s else ""
        return ""

    def _accept(self, geometry: tuple[int, int], time_s: float | None) -> int:
        """Note the frame that was taken in; returns its index."""
        index, self._index = self._index, self._index + 1
        self._geometry, self._last_s = geometry, time_s
        if index == 0 and self._pixel_cm2 > 0:
            self._spaced = geometry
        return index


def _pixel_cm2(spacing_mm: tuple[float, float] | None) -> float:
    """The area of a pixel; 0 where it is not known."""
    if spacing_mm is None:
        return 0.0
    if len(spacing_mm) != 2 or not all(0 < side < math.inf for side in spacing_mm):
        raise UsageError(
            f"spacing_mm is {spacing_mm}", remedy="Pass the height and width of a pixel in mm"
        )
    return float(spacing_mm[0]) * float(spacing_mm[1]) / 100


def check_frame(frame: NDArray[np.uint8]) -> tuple[int, int]:
    """(H, W) of a frame that can be used: u8 [H, W], sides from 16 to 4096.

    Raises:
        UsageError: anything else.
    """
    if not isinstance(frame, np.ndarray):
        raise UsageError(
            f"the frame is of type {type(frame).__name__}",
            remedy="Pass a NumPy array, uint8 [H, W]",
        )
    if frame.dtype != np.uint8 or frame.ndim != 2:
        raise UsageError(
            f"the frame is {frame.dtype} {list(frame.shape)}, not uint8 [H, W]",
            remedy="Pass one greyscale frame",
        )
    height, width = frame.shape
    if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
        raise UsageError(
            f"the frame is {height}x{width}",
            remedy=f"Pass frames with sides from {MIN_SIDE} to {MAX_SIDE}",
        )
    return height, width


def _seconds(timestamp_s: float) -> float:
    """The timestamp as a finite float."""
    number = isinstance(timestamp_s, int | float | np.integer | np.floating)
    if number and not isinstance(timestamp_s, bool):
        with contextlib.suppress(OverflowError):  # an integer beyond every float
            seconds = float(timestamp_s)
            if math.isfinite(seconds):
                return seconds
    raise UsageError("the timestamp is not a finite number", remedy="Pass seconds, or None")
