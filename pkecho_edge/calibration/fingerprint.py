"""What a frame looks like in 480 bits, to find the same pictures under another name.

A difference hash: the frame is averaged over 16x16 equal cells, and each bit says whether a cell
is brighter than its right or its lower neighbour by more than a grey level. Another brightness,
another size, noise and compression change few bits; another heart changes many (docs/calibration.md
has the figures that the limit rests on).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEAR", "clip_distance", "distances", "fingerprints", "is_fingerprint", "nearest"]

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


def clip_distance(ours: Iterable[str], theirs: Iterable[str]) -> float:
    """Bits by which a clip's frames differ from the nearest frame of another clip, the median.

    Returns:
        0 to 480; infinity where a clip has no frames, or only flat ones.
    """
    return _distance(_bits(ours), _bits(theirs))


def nearest(ours: Iterable[str], others: Iterable[tuple[str, Iterable[str]]]) -> tuple[str, float]:
    """The name of the clip that is nearest, and its distance; ("", infinity) for none."""
    mine = _bits(ours)
    found = [(name, _distance(mine, _bits(theirs))) for name, theirs in others]
    return min(found, key=lambda pair: pair[1], default=("", float("inf")))


def distances(clips: Sequence[Iterable[str]]) -> NDArray[np.float64]:
    """`clip_distance` of each clip to each, f64 [clips, clips]; row: ours, column: theirs."""
    telling = [_telling(_bits(prints)) for prints in clips]
    known = [i for i, bits in enumerate(telling) if len(bits)]
    found = np.full((len(clips), len(clips)), np.inf)
    if not known:
        return found
    theirs = np.concatenate([telling[i] for i in known])
    starts = np.cumsum([0, *(len(telling[i]) for i in known[:-1])])
    for i in known:
        nearest_frame = np.minimum.reduceat(_differing(telling[i], theirs), starts, axis=1)
        found[i, known] = np.median(nearest_frame, axis=0)
    return found


def _bits(prints: Iterable[str]) -> NDArray[np.bool_]:
    """bool [frames, 480]."""
    rows = [np.frombuffer(bytes.fromhex(text), dtype=np.uint8) for text in prints]
    packed = np.array(rows, dtype=np.uint8).reshape(len(rows), BYTES)
    return np.unpackbits(packed, axis=1).astype(np.bool_)


def _distance(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    ours, theirs = _telling(ours), _telling(theirs)
    if not len(ours) or not len(theirs):
        return float("inf")
    return float(np.median(_differing(ours, theirs).min(axis=1)))


def _telling(bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without the frames that are nearly flat: they look like any other that is."""
    telling: NDArray[np.bool_] = bits[bits.sum(axis=1) > NEAR]
    return telling


def _differing(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Bits that differ between each frame and each, [T, T']."""
    a, b = ours.astype(np.float32), theirs.astype(np.float32)
    # |a - b| of bits is a + b - 2ab; float32 holds these whole numbers exactly
    differing: NDArray[np.float32] = a.sum(axis=1)[:, None] + b.sum(axis=1) - 2 * a @ b.T
    return differing
