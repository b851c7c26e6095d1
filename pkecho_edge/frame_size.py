"""Which frame sizes a network takes."""

from __future__ import annotations

from pkecho_edge.errors import UsageError

__all__ = ["FRAME_SIZES", "SIZE_STEP", "check_frame_size", "is_frame_size"]

SIZE_STEP = 32
"""What height and width are multiples of."""

_SMALLEST, _LARGEST = 96, 640

FRAME_SIZES = f"multiples of {SIZE_STEP} from {_SMALLEST} to {_LARGEST}"
"""In words."""


def is_frame_size(size: tuple[int, int]) -> bool:
    """Whether (H, W) in pixels is one."""
    return all(n % SIZE_STEP == 0 and _SMALLEST <= n <= _LARGEST for n in size)


def check_frame_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) in pixels, as given.

    Raises:
        UsageError: it is no frame size.
    """
    if not is_frame_size(size):
        height, width = size
        text = f"{height}" if height == width else f"{height}x{width}"
        raise UsageError(
            f"size {text} is not possible",
            remedy=f"Use {FRAME_SIZES}",
        )
    return size
