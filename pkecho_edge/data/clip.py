"""A clip: T frames of one recording, in time order, at the size of the network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.recording import Recording
from pkecho_edge.data.resize import resize_frames, resize_masks, resized_spacing
from pkecho_edge.errors import RecordingError

__all__ = ["CLIP_LENGTH", "Clip", "clip_at", "ed_es_clip"]

CLIP_LENGTH = 10
"""T of the paper."""


@dataclass(frozen=True)
class Clip:
    """T frames and their truth.

    Attributes:
        identifier: unique, recording identifier + "@" + first and last frame number + size.
        recording, patient, source, quality: of the recording.
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

    @cached_property
    def content_sha256(self) -> str:
        """SHA-256 of the shape and the frames' bytes: the same pictures give the same hash."""
        digest = hashlib.sha256(repr(self.frames.shape).encode())
        digest.update(np.ascontiguousarray(self.frames).tobytes())
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
        ed_index=_position(recording.ed_index, indices),
        es_index=_position(recording.es_index, indices),
        spacing_mm=resized_spacing(recording.spacing_mm, (height, width), size),
        quality=recording.quality,
    )


def _position(index: int | None, indices: tuple[int, ...]) -> int | None:
    return indices.index(index) if index is not None and index in indices else None


def ed_es_clip(recording: Recording, size: tuple[int, int], length: int = CLIP_LENGTH) -> Clip:
    """The paper's clip: `length` frames equidistant between ED and ES, in time order.

    Frames repeat where ED and ES lie closer together than `length`.

    Raises:
        RecordingError: ED or ES is unknown, or they are the same frame.
    """
    ed, es = recording.ed_index, recording.es_index
    if ed is None or es is None or ed == es:
        raise RecordingError(
            f"recording {recording.identifier!r} has no distinct ED and ES frames",
            remedy="Label both, or leave the recording out",
        )
    positions = np.linspace(min(ed, es), max(ed, es), length)
    indices = tuple(int(i) for i in np.floor(positions + 0.5))
    return clip_at(recording, indices, size)
