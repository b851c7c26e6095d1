"""Which frame sizes a network takes."""

from __future__ import annotations

from pkecho_edge.errors import UsageError

__all__ = ["check_frame_size"]

_STEP, _SMALLEST, _LARGEST = 32, 96, 640


def check_frame_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) in pixels, as given.

    Raises:
        UsageError: one of them is no multiple of 32 from 96 to 640.
    """
    if any(n % _STEP or not _SMALLEST <= n <= _LARGEST for n in size):
        height, width = size
        text = f"{height}" if height == width else f"{height}x{width}"
        raise UsageError(
            f"size {text} is not possible",
            remedy=f"Use multiples of {_STEP} from {_SMALLEST} to {_LARGEST}",
        )
    return size
