"""A ventricle that is drawn, so that everything about it is known, and an engine that sees it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.data.recording import Recording
from pkecho_edge.data.timed_recording import TimedRecording
from pkecho_edge.running.segmentation import FrameFigures, PackedMasks, Segmentation

MakeTimed = Callable[..., TimedRecording]
Found = Callable[..., Segmentation]


def ellipse(sides: tuple[int, int], high: float, wide: float) -> NDArray[np.bool_]:
    """bool [H, W], half axes in pixels, around the middle."""
    rows, columns = np.indices(sides)
    down, across = rows - sides[0] / 2 + 0.5, columns - sides[1] / 2 + 0.5
    inside: NDArray[np.bool_] = (down / high) ** 2 + (across / wide) ** 2 <= 1
    return inside


@pytest.fixture
def make_timed() -> MakeTimed:
    """Makes a recording: dark, its ventricle at 200, beating once in 32 frames, 40 a second."""

    def make(
        count: int = 100,
        sides: tuple[int, int] = (96, 96),
        spacing_mm: tuple[float, float] | None = (0.5, 0.5),
        times_s: Any = "even",
    ) -> TimedRecording:
        frames = np.full((count, *sides), 30, dtype=np.uint8)
        for index in range(count):
            size = 0.7 + 0.3 * np.cos(2 * np.pi * index / 32)
            frames[index][ellipse(sides, 0.35 * sides[0] * size, 0.2 * sides[1] * size)] = 200
        times = np.arange(count) / 40 if isinstance(times_s, str) else times_s
        recording = Recording("heart", "heart", "video", frames, 40.0, spacing_mm)
        return TimedRecording(recording, times)

    return make


@pytest.fixture
def found() -> Found:
    """What a perfect engine finds in such a recording; the first nine frames are warming up."""

    def find(timed: TimedRecording) -> Segmentation:
        masks = PackedMasks(timed.recording.frames.shape)
        figures = []
        for index, frame in enumerate(timed.recording.frames):
            masks[index] = frame > 100
            area = int((frame > 100).sum())
            time_s = None if timed.times_s is None else float(timed.times_s[index])
            flags = ("warming_up",) if index < 9 else ()
            figures.append(FrameFigures(index, time_s, area, area / 400, 30.0, flags, "", 1.0))
        return Segmentation("stream", tuple(figures), masks, 2.0)

    return find


class BrightIsInside:
    """Stands in for an engine: pixels above 100 are ventricle. Notes the windows that it is shown.

    Args:
        modes: "clip", "stream" or both.
        length: T.
    """

    def __init__(self, *modes: str, length: int = 10) -> None:
        self.modes = modes
        window = SimpleNamespace(length=length)
        self.bundle = SimpleNamespace(manifest=SimpleNamespace(window=window))
        self.windows: list[NDArray[np.uint8]] = []
        self.gaps_s: list[float] = []

    def clip(self, frames: NDArray[np.uint8]) -> Any:
        self.windows.append(frames)
        assert len(frames) == self.bundle.manifest.window.length
        return SimpleNamespace(masks=frames > 100)

    def stream(self, *, max_gap_s: float) -> Any:
        self.gaps_s.append(max_gap_s)
        return _BrightStream(self.bundle.manifest.window.length)


class _BrightStream:
    def __init__(self, length: int) -> None:
        self._length, self._pushed = length, 0

    def push(self, frame: NDArray[np.uint8], time_s: float | None) -> Any:
        self._pushed += 1
        first = self._pushed == 1
        return SimpleNamespace(
            mask=frame > 100,
            warming_up=self._pushed < self._length,
            restarted="first" if first else "",
            latency_ms=1.5,
        )

    def __enter__(self) -> _BrightStream:
        return self

    def __exit__(self, *error: object) -> None: ...


@pytest.fixture
def engine() -> type[BrightIsInside]:
    return BrightIsInside
