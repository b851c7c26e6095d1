"""The frames of a calibration set beside its file, so that the set travels without its dataset."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CalibrationError
from pkecho_edge.files import write_atomically

__all__ = ["pack_path", "packed_clips", "write_pack"]

_SUFFIX = ".frames.npy"


def pack_path(path: Path) -> Path:
    """Where the frames of the set in `path` lie: NAME.frames.npy beside NAME.json."""
    return path.with_name(path.stem + _SUFFIX)


def write_pack(clips: Sequence[Clip], path: Path) -> Path:
    """Write the frames, u8 [clips, T, 1, H, W], whole or not at all; returns where they lie.

    Args:
        clips: of the set, in its order, all of one shape.
        path: of the set's own file.
    """
    buffer = io.BytesIO()
    np.save(buffer, np.stack([clip.frames for clip in clips]), allow_pickle=False)
    write_atomically(pack_path(path), buffer.getvalue())
    return pack_path(path)


def packed_clips(chosen: CalibrationSet) -> list[Clip] | None:
    """The set's clips out of its pack, without truth; None where it was read without one.

    Raises:
        CalibrationError: the pack is no array of frames, or not that of this set.
    """
    if chosen.path is None or not pack_path(chosen.path).exists():
        return None
    path = pack_path(chosen.path)
    try:
        # mapped: a header that promises more than the file holds is refused before any is read
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unusable(f"is no array of frames ({error})", path) from error
    shape = (len(chosen.entries), *frames.shape[1:])
    if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape != shape:
        raise _unusable(f"holds {frames.dtype} {frames.shape}, not the set's clips", path)
    clips = []
    for entry, pixels in zip(chosen.entries, frames, strict=True):
        clip = Clip(
            identifier=entry.identifier,
            recording=entry.recording,
            patient=entry.patient,
            source="pack",
            frames=np.array(pixels),
            frame_indices=tuple(range(len(pixels))),
        )
        if clip.content_sha256 != entry.content_sha256:
            raise _unusable(f"holds other frames than clip {entry.identifier!r} had", path)
        clips.append(clip)
    return clips


def _unusable(what: str, path: Path) -> CalibrationError:
    return CalibrationError(
        what, path=path, remedy="Pack the set again: pkecho-edge calibrate DATA --pack"
    )
