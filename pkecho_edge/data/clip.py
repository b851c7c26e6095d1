"""A clip: T frames of one recording, in time order, at the size of the network.

Which frames depends on what is known. Where ED and ES are, the clip is the paper's: from one to
the other. Where they are not, windows of about the same duration are drawn from the recording
(`window_indices`), because a network that has seen ten frames of a systole should be calibrated
and verified on ten frames that span about as much of the heart beat.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.recording import Recording
from pkecho_edge.data.resize import resize_frames, resize_masks, resized_spacing
from pkecho_edge.errors import RecordingError

__all__ = [
    "CLIP_LENGTH",
    "MAX_WINDOWS",
    "WINDOW_S",
    "Clip",
    "clip_at",
    "clip_indices",
    "ed_es_clip",
    "equidistant_indices",
    "window_indices",
]

CLIP_LENGTH = 10
"""T of the paper."""

WINDOW_S = 0.3
"""What a clip without ED and ES spans, in seconds: about a systole, as the paper's clips do."""

MAX_WINDOWS = 4
"""Most clips of one recording without ED and ES: a long one must not outweigh the others."""


@dataclass(frozen=True)
class Clip:
    """T frames and their truth.

    Attributes:
        identifier: unique, recording identifier + "@" + first and last frame number + size.
        recording, patient, source, quality, view: of the recording.
        frames: u8 [T, 1, H, W].
        frame_indices: T frame numbers in the recording.
        truth: bool [T, H, W], False where `labelled` is False; None when no frame is labelled.
        labelled: per frame whether it has ground truth.
        ed_index, es_index: position in the clip, None where unknown or not in it.
        spacing_mm: (row, column) at the clip's size, None where unknown.
    """

    identifier: str
    recording: str
    patient: str
    source: str
    frames: NDArray[np.uint8]
    frame_indices: tuple[int, ...]
    truth: NDArray[np.bool_] | None = None
    labelled: tuple[bool, ...] = ()
    ed_index: int | None = None
    es_index: int | None = None
    spacing_mm: tuple[float, float] | None = None
    quality: str | None = None
    view: str | None = None

    @cached_property
    def content_sha256(self) -> str:
        """Of `frames_sha256`."""
        return frames_sha256(self.frames)


def frames_sha256(frames: NDArray[np.uint8]) -> str:
    """SHA-256 of the shape and the frames' bytes: the same pictures give the same hash."""
    digest = hashlib.sha256(repr(frames.shape).encode())
    digest.update(np.ascontiguousarray(frames).tobytes())
    return digest.hexdigest()


def clip_at(recording: Recording, indices: tuple[int, ...], size: tuple[int, int]) -> Clip:
    """The clip of these frame numbers, resized to size (H, W)."""
    frames = resize_frames(recording.frames[list(indices)], size)
    labelled = tuple(index in recording.labelled for index in indices)
    truth = None
    if any(labelled):
        empty = np.zeros(recording.frames.shape[1:], dtype=np.bool_)
        masks = [
            recording.truth(i) if ok else empty for i, ok in zip(indices, labelled, strict=True)
        ]
        truth = resize_masks(np.stack([m for m in masks if m is not None]), size)
    height, width = recording.frames.shape[1:]
    return Clip(
        identifier=f"{recording.identifier}@{indices[0]}-{indices[-1]}:{size[0]}x{size[1]}",
        recording=recording.identifier,
        patient=recording.patient,
        source=recording.source,
        frames=frames[:, None],
        frame_indices=indices,
        truth=truth,
        labelled=labelled,
        ed_index=_position(recording.ed_index, indices, before=recording.es_index),
        es_index=_position(recording.es_index, indices, before=recording.ed_index),
        spacing_mm=resized_spacing(recording.spacing_mm, (height, width), size),
        quality=recording.quality,
        view=recording.view,
    )


def _position(index: int | None, indices: tuple[int, ...], *, before: int | None) -> int | None:
    """Where a frame stands in a clip; None where it is unknown or not in it.

    In a short recording frames repeat: of ED and ES the later one, which comes after `before`,
    stands at its last place, so that a clip from one to the other begins and ends with them.
    """
    if index is None or index not in indices:
        return None
    if before is not None and index > before:
        return len(indices) - 1 - indices[::-1].index(index)
    return indices.index(index)


def ed_es_clip(recording: Recording, size: tuple[int, int], length: int = CLIP_LENGTH) -> Clip:
    """The paper's clip: `length` frames equidistant between ED and ES, in time order.

    Frames repeat where ED and ES lie closer together than `length`.

    Raises:
        RecordingError: ED or ES is unknown, or they are the same frame.
    """
    return clip_at(recording, _ed_es_indices(recording, length), size)


def clip_indices(recording: Recording, length: int = CLIP_LENGTH) -> list[tuple[int, ...]]:
    """The frame numbers of every clip of a recording: one from ED to ES, else windows.

    Returns:
        at least one tuple of `length` frame numbers, each ascending.

    Raises:
        RecordingError: ED and ES are the same frame, or they are unknown and there is one frame.
    """
    if recording.ed_index is not None and recording.es_index is not None:
        return [_ed_es_indices(recording, length)]
    if len(recording.frames) < 2:
        raise RecordingError(
            f"recording {recording.identifier!r} has one frame; a clip needs at least two",
            remedy="Export the whole loop, or leave the recording out",
        )
    return window_indices(len(recording.frames), recording.frame_rate_hz, length)


def window_indices(
    n_frames: int, frame_rate_hz: float | None, length: int = CLIP_LENGTH
) -> list[tuple[int, ...]]:
    """Frame numbers of the clips of a recording whose ED and ES are unknown.

    1. Step: max(1, round(WINDOW_S * rate / (length - 1))) frames, 1 where the rate is unknown.
    2. A window is `length` frames, each one step after the one before.
    3. As many windows as fit side by side, MAX_WINDOWS at most, share no frame: the recording is
       cut into as many equal parts, and each window lies in the middle of its part.
    4. Where not even one fits, one clip takes `length` frames equidistant from the first frame to
       the last; frames repeat where there are fewer than `length`.

    Args:
        n_frames: of the recording, at least 1.
        frame_rate_hz: above 0 and finite, or None.
        length: frames of a clip, at least 2.

    Returns:
        1 to MAX_WINDOWS tuples of `length` frame numbers, in time order.
    """
    step = max(1, round(WINDOW_S * (frame_rate_hz or 0) / (length - 1)))
    span = (length - 1) * step + 1
    count = min(MAX_WINDOWS, n_frames // span)
    if not count:
        return [equidistant_indices(0, n_frames - 1, length)]
    # the middle of part i of n / count frames, less half a window, in whole numbers
    starts = [((2 * i + 1) * n_frames - count * span) // (2 * count) for i in range(count)]
    return [tuple(range(start, start + span, step)) for start in starts]


def _ed_es_indices(recording: Recording, length: int) -> tuple[int, ...]:
    ed, es = recording.ed_index, recording.es_index
    if ed is None or es is None or ed == es:
        raise RecordingError(
            f"recording {recording.identifier!r} has no distinct ED and ES frames",
            remedy="Label both, or leave the recording out",
        )
    return equidistant_indices(min(ed, es), max(ed, es), length)


def equidistant_indices(first: int, last: int, length: int) -> tuple[int, ...]:
    """`length` frame numbers from first to last, rounded; they repeat where there are fewer."""
    return tuple(int(i) for i in np.floor(np.linspace(first, last, length) + 0.5))
