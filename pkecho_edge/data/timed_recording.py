"""A recording with the time of each of its frames: what a bundle is run on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.recording import Recording
from pkecho_edge.errors import RecordingError

__all__ = ["MAX_SIDE", "MIN_SIDE", "TimedRecording"]

MIN_SIDE, MAX_SIDE = 16, 4096
"""Of frames that engines take."""

_SHORTEST_STEP_S, _LONGEST_STEP_S, _LONGEST_S = 1e-4, 3600.0, 86_400.0
"""Between frames, and in all: a video holds no longer steps, and nobody scans faster."""


@dataclass(frozen=True, eq=False)
class TimedRecording:
    """Frames, when they were taken, and what is to be said of how they were read.

    Attributes:
        recording: u8 frames [N, H, W], sides from MIN_SIDE to MAX_SIDE, spacing, frame rate.
        times_s: f64 [N], strictly ascending, in seconds from the first frame; None where unknown.
        notes: what a user should know of the file, a sentence each.
        scale_problem: why the file's own spacing is not believed, "" where it is or says none.

    Raises:
        RecordingError: sides that no engine takes, or times that do not fit the frames.
    """

    recording: Recording
    times_s: NDArray[np.float64] | None
    notes: tuple[str, ...] = ()
    scale_problem: str = ""

    def __post_init__(self) -> None:
        count, height, width = self.recording.frames.shape
        if min(height, width) < MIN_SIDE or max(height, width) > MAX_SIDE:
            raise RecordingError(
                f"its picture is {height}x{width}",
                remedy=f"Give pictures with sides from {MIN_SIDE} to {MAX_SIDE} pixels",
            )
        times = self.times_s
        if times is not None and count > 1 and not _plausible(times):
            raise RecordingError(
                "its times have steps that no scanner takes, or it lasts longer than a day",
                remedy="Export it again, at a constant frame rate",
            )
        if times is not None and (times.shape != (count,) or (np.diff(times) <= 0).any()):
            raise RecordingError(
                f"{times.size} times for {count} frames, or not in order",
                remedy="Export it again, at a constant frame rate",
            )

    @property
    def is_even(self) -> bool:
        """Whether frames follow each other in equal steps, give or take half a step."""
        if self.times_s is None or len(self.times_s) < 3:
            return True
        steps = np.diff(self.times_s)
        usual = float(np.median(steps))
        return bool(steps.min() >= usual / 2 and steps.max() <= 1.5 * usual)


def _plausible(times: NDArray[np.float64]) -> bool:
    """Whether ascending times, f64 [N], N >= 2, can be of a scan."""
    steps = np.diff(times)
    ascending = bool((steps > 0).all())  # else another line says so
    return not ascending or bool(
        steps.min() >= _SHORTEST_STEP_S * (1 - 1e-6)
        and steps.max() <= _LONGEST_STEP_S
        and times[-1] <= _LONGEST_S
    )
