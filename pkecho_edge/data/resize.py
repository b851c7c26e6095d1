"""The one resize rule, in the manifest called "bilinear-half-pixel": small enough to repeat in C.

Pixel centres lie at half-integers, so output pixel i looks at input coordinate
(i + 0.5) * n_in / n_out - 0.5, clamped to the image. Weights are float32; rows are blended first,
then columns; the result is rounded half up. The aspect ratio is not kept: spacing is scaled per
axis instead (`resized_spacing`). Masks take the nearest pixel of the same grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["RESIZE_RULE", "resize_frames", "resize_masks", "resized_spacing"]

RESIZE_RULE = "bilinear-half-pixel"


def _taps(n_in: int, n_out: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Lower index, upper index and weight of the upper one, each [n_out]."""
    scale = np.float32(n_in) / np.float32(n_out)
    position = (np.arange(n_out, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    position = np.clip(position, 0, n_in - 1)
    low = np.floor(position).astype(np.intp)
    return low, np.minimum(low + 1, n_in - 1), position - low.astype(np.float32)


def resize_frames(frames: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """u8 [N, H, W] -> u8 [N, size[0], size[1]]; the same array where the size already fits."""
    if frames.shape[1:] == tuple(size):
        return frames
    low, high, down = _taps(frames.shape[1], size[0])
    left, right, across = _taps(frames.shape[2], size[1])
    above, below = frames[:, low], frames[:, high]

    def blended(columns: NDArray[np.intp]) -> NDArray[np.float32]:
        """Rows blended, in these columns only: a live frame is mostly larger than the engine's."""
        out = above[:, :, columns].astype(np.float32)
        out += (below[:, :, columns].astype(np.float32) - out) * down[:, None]
        return out

    out = blended(left)
    out += (blended(right) - out) * across
    return np.asarray(np.floor(out + np.float32(0.5)), dtype=np.uint8)


def resize_masks(masks: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """bool [M, H, W] -> bool [M, size[0], size[1]] by the nearest pixel centre."""
    rows = (np.arange(size[0]) * 2 + 1) * masks.shape[1] // (2 * size[0])
    columns = (np.arange(size[1]) * 2 + 1) * masks.shape[2] // (2 * size[1])
    return masks[:, rows][:, :, columns]  # one axis at a time: seven times faster


def resized_spacing(
    spacing_mm: tuple[float, float] | None, before: tuple[int, int], after: tuple[int, int]
) -> tuple[float, float] | None:
    """Spacing (row, column) in mm after a resize from `before` to `after`; None stays None."""
    if spacing_mm is None:
        return None
    return spacing_mm[0] * before[0] / after[0], spacing_mm[1] * before[1] / after[1]
