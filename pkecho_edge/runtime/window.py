"""The window of a stream engine: its history, kept from frame to frame without copying it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import UsageError
from pkecho_edge.targets.base import Engine as CompiledEngine
from pkecho_edge.targets.base import KeepsHistory, LiveWindow, Session

__all__ = ["Window", "open_window", "stream_runner", "stream_stepper"]


def open_window(session: Session, engine: CompiledEngine) -> LiveWindow:
    """A new window on a stream engine: the session's own where it keeps the history itself.

    Raises:
        UsageError: the session is closed.
    """
    if isinstance(session, KeepsHistory):
        return session.window()
    return Window(session, engine)


class Window:
    """Feeds a stream engine one frame at a time.

    A `LiveWindow` on any session: the engine reads one of two histories and writes the other, and
    they swap roles at every frame. The first frame is looked at twice: once for its features, then
    with T - 1 copies of them before it. Several windows may share one session.

    Args:
        session: a loaded stream engine.
        engine: its inputs "frame" u8 [1, 1, H, W] and "history" f32 [T-1, C, H/32, W/32], its
            outputs "logits" and "history_out" of the same shapes in f32.

    Attributes:
        frame: u8 [H, W], write the next frame here.
        logits: f32 [H, W], of the newest frame; overwritten by the next `advance`.
        pushed: frames taken in since the start; the window is full once there were T.
    """

    def __init__(self, session: Session, engine: CompiledEngine) -> None:
        tensors = {spec.name: spec.zeros() for spec in (*engine.inputs, *engine.outputs)}
        frame, logits = tensors["frame"], tensors["logits"]
        self._histories = tensors["history"], tensors["history_out"]
        self._steps = [
            session.bind(
                {"frame": frame, "history": self._histories[reads]},
                {"logits": logits, "history_out": self._histories[1 - reads]},
            )
            for reads in (0, 1)
        ]
        self._reads = 0
        self.pushed = 0
        self.frame: NDArray[np.uint8] = frame[0, 0]
        self.logits: NDArray[np.float32] = logits[0, 0]

    def advance(self, *, anew: bool = False) -> None:
        """Take `frame` into the window and segment it into `logits`.

        Args:
            anew: forget every earlier frame first.

        Raises:
            UsageError: the session is closed.

        After an error the window is as it was; at worst, where the first look at a first frame
        succeeded and the second did not, it is empty.
        """
        reads = self._reads
        if anew or not self.pushed:
            # whatever the history holds, the newest features are the frame's; they are written to
            # the spare history, so the one in use survives a failure
            self._steps[reads]()
            self.pushed = 0
            self._histories[reads][:] = self._histories[1 - reads][-1]
        self._steps[reads]()
        self._reads = 1 - reads
        self.pushed += 1

    def restart(self) -> None:
        """Forget every frame: the next one is the first."""
        self.pushed = 0


def stream_runner(
    session: Session, engine: CompiledEngine
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Live use as a function of a whole sequence: u8 [N, 1, H, W] -> logits f32 [N, 1, H, W].

    Every call is a new stream; no frames yield no logits. It raises UsageError for frames of
    another shape or dtype, and once the session is closed. One thread at a time.
    """
    window = open_window(session, engine)
    height, width = window.frame.shape

    def run(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (1, height, width):
            raise UsageError(
                f"frames are {frames.dtype} {list(frames.shape)}, "
                f"not uint8 [N, 1, {height}, {width}]",
                remedy="Resize and convert them as the manifest says",
            )
        window.restart()
        logits = np.empty(frames.shape, dtype=np.float32)
        for index, frame in enumerate(frames):
            window.frame[:] = frame[0]
            window.advance()
            logits[index, 0] = window.logits
        return logits

    return run


def stream_stepper(
    session: Session, engine: CompiledEngine
) -> Callable[[Iterable[NDArray[np.uint8]]], Iterator[NDArray[np.float32]]]:
    """Live use of a stream of any length: frames u8 [H, W] -> logits f32 [H, W], one by one.

    Every call is a new stream with a window of its own, and draws a frame when its logits are asked
    for. The arrays are the caller's. It raises UsageError as `stream_runner` does.
    """

    def steps(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        window = open_window(session, engine)
        for frame in frames:
            if frame.dtype != np.uint8 or frame.shape != window.frame.shape:
                raise UsageError(
                    f"a frame is {frame.dtype} {list(frame.shape)}, "
                    f"not uint8 {list(window.frame.shape)}",
                    remedy="Resize and convert it as the manifest says",
                )
            window.frame[:] = frame
            window.advance()
            yield window.logits.copy()

    return steps
