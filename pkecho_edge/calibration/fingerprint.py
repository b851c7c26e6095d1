"""What a frame looks like in 480 bits, to find the same pictures under another name.

A difference hash: the frame is averaged over 16x16 equal cells, and each bit says whether a cell
is brighter than its right or its lower neighbour by more than a grey level. Another brightness,
another size, noise and compression change few bits; another heart changes many (docs/calibration.md
has the figures that the limit rests on).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEAR", "clip_distance", "fingerprints", "is_fingerprint", "telling_bits"]

NEAR = 32
"""Bits of 480: clips whose frames differ by no more, on the median, show the same pictures."""

_CELLS = 16
_STEP = 1.0
BYTES = 2 * _CELLS * (_CELLS - 1) // 8


def fingerprints(frames: NDArray[np.uint8]) -> tuple[str, ...]:
    """One of each frame, as hexadecimal digits.

    Args:
        frames: u8 [T, 1, H, W].
    """
    n, _, height, width = frames.shape
    if height % _CELLS or width % _CELLS:  # not the size of a network: as good as it goes
        rows, columns = (np.linspace(0, k - 1, _CELLS).round().astype(int) for k in (height, width))
        frames = frames[:, :, rows][..., columns]
        height = width = _CELLS
    cells = frames.reshape(n, _CELLS, height // _CELLS, _CELLS, width // _CELLS)
    grey = cells.mean(axis=(2, 4))  # [T, 16, 16]
    right = grey[:, :, :-1] - grey[:, :, 1:] > _STEP
    below = grey[:, :-1] - grey[:, 1:] > _STEP
    bits = np.concatenate([right.reshape(n, -1), below.reshape(n, -1)], axis=1)
    return tuple(np.packbits(row).tobytes().hex() for row in bits)


def is_fingerprint(text: object) -> bool:
    """Whether something read from a file is one."""
    return isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{2 * BYTES}}}", text) is not None


def telling_bits(prints: Iterable[str]) -> NDArray[np.bool_]:
    """The fingerprints of a clip's frames to compare, bool [frames, 480].

    A frame that is nearly flat looks like any other that is: it says nothing and is left out.
    """
    rows = [np.frombuffer(bytes.fromhex(text), dtype=np.uint8) for text in prints]
    packed = np.array(rows, dtype=np.uint8).reshape(len(rows), BYTES)
    bits: NDArray[np.bool_] = np.unpackbits(packed, axis=1).astype(np.bool_)
    telling: NDArray[np.bool_] = bits[bits.sum(axis=1) > NEAR]
    return telling


def clip_distance(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """Bits by which a clip's frames differ from the nearest frame of another clip, the median.

    Args:
        ours, theirs: of `telling_bits`.

    Returns:
        0 to 480; infinity where a clip has no frames, or only flat ones.
    """
    if not len(ours) or not len(theirs):
        return float("inf")
    differing = (ours[:, None] != theirs[None]).sum(axis=2)  # [T, T']
    return float(np.median(differing.min(axis=1)))
