"""What a frame looks like in 256 bits, to find the same pictures under another name.

A perceptual hash: the frame is averaged over 32x32 equal cells, and each bit says whether one of
its 16x16 lowest frequencies (discrete cosine transform, type II) lies above their median. Another
brightness, another size, noise and compression change few bits; another heart changes many
(docs/calibration.md has the figures that the limit rests on, and those of a hash that was worse).

All is whole numbers, so that every machine finds the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["BYTES", "NEAR", "distances", "fingerprints", "is_fingerprint", "telling_bits"]

NEAR = 28
"""Bits of 256: clips whose frames differ by no more, on the median, show the same pictures."""

_CELLS = 32
_FREQUENCIES = 16
_ONE = 1024
"""What 1 is in the basis: rounding it to whole numbers moves bits that hardly tell anything."""

BYTES = _FREQUENCIES**2 // 8
"""Of a fingerprint."""


def fingerprints(frames: NDArray[np.uint8]) -> tuple[str, ...]:
    """One of each frame, as hexadecimal digits.

    Args:
        frames: u8 [T, 1, H, W].
    """
    height, width = frames.shape[2:]
    # float64 holds these whole numbers exactly, and multiplies them faster
    grey = _overlaps(height) @ frames[:, 0].astype(np.float64) @ _overlaps(width).T
    basis = _basis()
    spectrum = (basis @ grey.astype(np.int64) @ basis.T).reshape(len(frames), _FREQUENCIES**2)
    spectrum[:, 0] = 0  # the mean: brightness says nothing about the picture
    bits = spectrum > np.median(spectrum, axis=1, keepdims=True)
    return tuple(np.packbits(row).tobytes().hex() for row in bits)


@cache
def _overlaps(size: int) -> NDArray[np.float64]:
    """What each of `size` pixels has in each cell, in pixels times _CELLS; [cells, size]."""
    cell, pixel = np.arange(_CELLS)[:, None], np.arange(size)[None]
    begin = np.maximum(cell * size, pixel * _CELLS)
    end = np.minimum((cell + 1) * size, (pixel + 1) * _CELLS)
    overlaps: NDArray[np.float64] = np.maximum(end - begin, 0).astype(np.float64)
    return overlaps


@cache
def _basis() -> NDArray[np.int64]:
    """Cosines of the lowest frequencies, in units of 1 / _ONE; [frequencies, cells]."""
    cell, frequency = np.arange(_CELLS)[None], np.arange(_FREQUENCIES)[:, None]
    cosines = np.cos(np.pi * (2 * cell + 1) * frequency / (2 * _CELLS))
    basis: NDArray[np.int64] = np.rint(_ONE * cosines).astype(np.int64)
    return basis


def is_fingerprint(text: object) -> bool:
    """Whether something read from a file is one."""
    return isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{2 * BYTES}}}", text) is not None


def telling_bits(prints: Iterable[str]) -> NDArray[np.bool_]:
    """The fingerprints of a clip's frames to compare, bool [frames, 256].

    A frame of one grey has no bit set: it looks like any other that is flat, and is left out.
    """
    rows = [np.frombuffer(bytes.fromhex(text), dtype=np.uint8) for text in prints]
    packed = np.array(rows, dtype=np.uint8).reshape(len(rows), BYTES)
    bits: NDArray[np.bool_] = np.unpackbits(packed, axis=1).astype(np.bool_)
    telling: NDArray[np.bool_] = bits[bits.any(axis=1)]
    return telling


def distances(
    ours: Sequence[NDArray[np.bool_]], theirs: Sequence[NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """How far each of our clips is from each of theirs.

    Args:
        ours, theirs: of `telling_bits`, one per clip.

    Returns:
        bits by which the frames of a clip of ours differ from the nearest frame of theirs, the
        median over its frames; f64 [ours, theirs]. Infinity where either has no frame that tells.
    """
    found = np.full((len(ours), len(theirs)), np.inf)
    known = [column for column, bits in enumerate(theirs) if len(bits)]
    if not known:
        return found
    all_theirs = np.concatenate([theirs[column] for column in known]).astype(np.float32)
    ones = all_theirs.sum(axis=1)
    starts = np.cumsum([0, *(len(theirs[column]) for column in known[:-1])])
    for row, bits in enumerate(ours):
        if len(bits):
            mine = bits.astype(np.float32)
            # |a - b| of bits is a + b - 2ab; float32 holds these whole numbers exactly
            differing = mine.sum(axis=1)[:, None] + ones - 2 * mine @ all_theirs.T
            nearest = np.minimum.reduceat(differing, starts, axis=1)  # [frames, known clips]
            found[row, known] = np.median(nearest, axis=0)
    return found
