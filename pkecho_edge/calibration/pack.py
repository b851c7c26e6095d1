"""The frames of a calibration set beside its file, so that the set travels without its dataset.

A pack is one NumPy array, u8 [clips, T, 1, H, W], in the order of the set. It is hostile input: the
set says how many clips there are and of which size, the length of the file then says T, and the
header is written again and compared instead of parsed, so that it can claim nothing. A clip is
taken only if its frames have the hash that the set remembers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CalibrationError
from pkecho_edge.files import write_atomically

__all__ = ["drop_pack", "pack_path", "packed_clips", "write_pack"]

_SUFFIX = ".frames.npy"
_HEADER_BYTES = 128
_MAX_BYTES = 4 << 30
"""1,000 clips of 10 frames at 640x640."""


def pack_path(path: Path) -> Path:
    """Where the frames of the set in `path` lie: NAME.frames.npy beside NAME.json."""
    return path.with_name(path.stem + _SUFFIX)


def write_pack(clips: Sequence[Clip], path: Path) -> Path:
    """Write the frames, u8 [clips, T, 1, H, W], whole or not at all; returns where they lie.

    The same clips give the same bytes.

    Args:
        clips: of the set, in its order, all of one shape, at least one.
        path: of the set's own file.
    """
    frames = np.stack([clip.frames for clip in clips])
    write_atomically(pack_path(path), _header(frames.shape) + frames.tobytes())
    return pack_path(path)


def drop_pack(path: Path) -> None:
    """Delete the pack of the set in `path`, which another set is about to replace; none is fine."""
    if pack_path(path).is_file():
        pack_path(path).unlink()


def packed_clips(chosen: CalibrationSet, size: tuple[int, int], length: int) -> list[Clip] | None:
    """The set's clips out of its pack, without truth; None where it was read without one.

    Args:
        chosen: read from a file.
        size: (H, W) that the clips must have.
        length: T that the network takes.

    Raises:
        CalibrationError: the pack is no array of frames, not that of this set, or its clips are of
            another size or length.
    """
    path = None if chosen.path is None else pack_path(chosen.path)
    if path is None or not os.path.lexists(path):
        return None
    _check_size(chosen, size)
    with _opened(path) as file:
        shape = (len(chosen.entries), _clip_length(file, chosen, path), 1, *size)
        if shape[1] != length:
            raise CalibrationError(
                f"holds clips of {shape[1]} frames, the network takes {length}",
                path=path,
                remedy="Make the set for this network, from the dataset",
            )
        clips = []
        for entry in chosen.entries:
            pixels = np.frombuffer(file.read(int(np.prod(shape[1:]))), dtype=np.uint8)
            clip = Clip(
                identifier=entry.identifier,
                recording=entry.recording,
                patient=entry.patient,
                source="pack",
                frames=pixels.reshape(shape[1:]),
                frame_indices=tuple(range(length)),
            )
            if clip.content_sha256 != entry.content_sha256:
                raise _unusable(f"holds other frames than clip {entry.identifier!r} had", path)
            clips.append(clip)
    return clips


def _check_size(chosen: CalibrationSet, size: tuple[int, int]) -> None:
    if chosen.size != size:
        ours, theirs = (f"{height}x{width}" for height, width in (chosen.size, size))
        raise CalibrationError(
            f"it is of clips at {ours}, not {theirs}",
            path=chosen.path,
            remedy="Give compile the --size that calibrate had",
        )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """For reading; never waits on a pipe or a device."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _unusable("is not a regular file", path)
            if found.st_size > _MAX_BYTES:
                raise _unusable(f"has {found.st_size} bytes, more than {_MAX_BYTES}", path)
            yield file
    except OSError as error:
        raise _unusable(f"cannot be read ({error.strerror})", path) from error


def _clip_length(file: BinaryIO, chosen: CalibrationSet, path: Path) -> int:
    """T, by the length of the file, whose header is read and compared."""
    height, width = chosen.size
    frame_bytes = len(chosen.entries) * height * width
    held = os.fstat(file.fileno()).st_size - _HEADER_BYTES
    length = held // frame_bytes
    header = _header((len(chosen.entries), max(length, 0), 1, *chosen.size))
    if length < 1 or held % frame_bytes or file.read(len(header)) != header:
        raise _unusable(
            f"is no array of the frames of {len(chosen.entries)} clips at {height}x{width}", path
        )
    return length


def _header(shape: tuple[int, ...]) -> bytes:
    """What np.save writes before u8 values of this shape, 128 bytes for any; of no release's own.

    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    return (
        b"\x93NUMPY\x01\x00"
        + (_HEADER_BYTES - 10).to_bytes(2, "little")
        + text.encode().ljust(_HEADER_BYTES - 11)
        + b"\n"
    )


def _unusable(what: str, path: Path) -> CalibrationError:
    return CalibrationError(
        what,
        path=path,
        remedy="Pack the set again with calibrate --pack, or delete the pack to use the dataset",
    )
