"""A sequence: consecutive frames of one recording, as a live stream sees them.

A clip's frames are picked from all over a systole; a stream gets every frame. What is compared on a
sequence is one result per frame, each with the T - 1 frames before it.

A long sequence is one that nobody wants in memory at once: its frames are made when they are asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.phantom import PhantomSpec, phantom_frames
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.resize import resize_frames
from pkecho_edge.errors import UsageError

__all__ = ["LONG_RULE", "MAX_SEQUENCE", "LongSequence", "forth_and_back", "long_phantom"]
__all__ += ["long_recording", "sequence_indices"]

MAX_SEQUENCE = 256
"""Most frames of a sequence: a few heart beats at any frame rate."""

LONG_RULE = (
    "phantoms beat on, no frame twice; a recording that is shorter is played forth and back, so "
    "that every frame follows a neighbour"
)


@dataclass(frozen=True)
class LongSequence:
    """Consecutive frames at the size of the network, without truth.

    Attributes:
        identifier: unique, recording identifier + "@" + number of frames + size.
        patient, source: of the recording.
        n_frames: how many there are.
        frames: gives them anew at every call, u8 [H, W] each, in time order.
    """

    identifier: str
    patient: str
    source: str
    n_frames: int
    frames: Callable[[], Iterator[NDArray[np.uint8]]]


def long_phantom(spec: PhantomSpec, n_frames: int, size: tuple[int, int]) -> LongSequence:
    """A phantom that beats for so many frames; see `phantom_frames`."""
    name = f"{spec.identifier}@{n_frames} frames:{size[0]}x{size[1]}"
    frames = partial(phantom_frames, spec, n_frames, size=size)
    return LongSequence(name, spec.identifier, "phantom", n_frames, frames)


def long_recording(recording: Recording, n_frames: int, size: tuple[int, int]) -> LongSequence:
    """A recording's first frames, played forth and back where there are fewer."""

    def frames() -> Iterator[NDArray[np.uint8]]:
        for index in forth_and_back(len(recording.frames), n_frames):
            yield resize_frames(recording.frames[index : index + 1], size)[0]

    name = f"{recording.identifier}@{n_frames} frames:{size[0]}x{size[1]}"
    return LongSequence(name, recording.patient, recording.source, n_frames, frames)


def forth_and_back(n_frames: int, count: int) -> Iterator[int]:
    """`count` frame numbers 0, 1, .. n - 1, n - 2, .. 1, 0, 1 and so on.

    Played from its end to its beginning at once, a recording would jump by any part of a beat. This
    way each frame follows one of its neighbours; only the motion turns round, as it does at ED and
    ES anyway, and the first and the last frame are not shown twice in a row.

    Raises:
        UsageError: no frames.
    """
    if n_frames < 1:
        raise UsageError(f"{n_frames} frames cannot be played", remedy="Give at least one frame")
    period = max(1, 2 * (n_frames - 1))
    for index in range(count):
        place = index % period
        yield min(place, period - place) if n_frames > 1 else 0


def sequence_indices(recording: Recording, length: int) -> tuple[int, ...]:
    """The frame numbers of a recording's sequence.

    From `length` - 1 frames before the first one with ground truth, so that its window is whole
    where the recording goes back so far, to the last one with ground truth; ED and ES count as
    such. Without any: from the first frame. MAX_SEQUENCE frames at most; where the ground truth
    lies farther apart, they end with the last one.

    Args:
        recording: at least one frame.
        length: T, the frames of a window.
    """
    known = {*recording.labelled, recording.ed_index, recording.es_index} - {None}
    anchors = [index for index in known if index is not None]
    if not anchors:
        return tuple(range(min(len(recording.frames), MAX_SEQUENCE)))
    end = max(anchors) + 1
    return tuple(range(max(0, min(anchors) - length + 1, end - MAX_SEQUENCE), end))
