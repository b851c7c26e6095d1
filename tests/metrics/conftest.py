"""Shapes whose area, overlap and volume are known on paper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Pair = tuple[float, float]


def _ellipse(
    shape: tuple[int, int],
    centre: Pair,
    semi_axes: Pair,
    degrees: float = 0.0,
    spacing: Pair = (1.0, 1.0),
) -> Mask:
    """Bool `shape`: pixels whose centre lies in the ellipse; lengths in the spacing's unit."""
    turn = np.deg2rad(degrees)
    row = np.arange(shape[0])[:, None] * spacing[0] - centre[0]
    column = np.arange(shape[1])[None, :] * spacing[1] - centre[1]
    along = row * np.cos(turn) + column * np.sin(turn)
    across = column * np.cos(turn) - row * np.sin(turn)
    mask: Mask = (along / semi_axes[0]) ** 2 + (across / semi_axes[1]) ** 2 <= 1
    return mask


@pytest.fixture(scope="session")
def ellipse() -> Callable[..., Mask]:
    return _ellipse
