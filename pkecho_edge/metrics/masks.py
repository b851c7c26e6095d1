"""What every metric asks of its masks and spacings before it computes anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import UsageError

__all__ = ["Mask", "Spacing", "check_mask", "check_pair", "check_spacing"]

Mask = NDArray[np.bool_]
Spacing = tuple[float, float]
"""(row, column) distance between pixel centres: mm, or (1, 1) for pixels."""


def check_mask(mask: Mask, *, ndim: int | None = None) -> None:
    """Raises UsageError unless `mask` is bool [..., H, W] with H, W >= 1 (and has `ndim` axes)."""
    if mask.dtype != np.bool_:
        raise UsageError(f"a mask is {mask.dtype}, not bool", remedy="Threshold it first")
    if mask.ndim < 2 or 0 in mask.shape[-2:] or ndim not in (None, mask.ndim):
        wanted = "[H, W]" if ndim == 2 else "[..., H, W]"
        raise UsageError(f"a mask has shape {mask.shape}, not {wanted}")


def check_pair(a: Mask, b: Mask, *, ndim: int | None = None) -> None:
    """Raises UsageError unless both are masks of one shape; nothing is broadcast."""
    check_mask(a, ndim=ndim)
    check_mask(b, ndim=ndim)
    if a.shape != b.shape:
        raise UsageError(
            f"masks of shapes {a.shape} and {b.shape} cannot be compared",
            remedy="Resize one to the other's size first",
        )


def check_spacing(spacing: Spacing) -> None:
    """Raises UsageError unless `spacing` is two finite lengths above zero."""
    lengths = np.asarray(spacing, dtype=np.float64)
    if lengths.shape != (2,) or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise UsageError(f"spacing {spacing} is not (row, column) with two lengths above zero")
