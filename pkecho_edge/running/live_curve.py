"""How a segmentation goes, as words for a progress bar: frames per second and the area's curve."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

from pkecho_edge.stages import Observer

__all__ = ["LiveCurve", "sparkline"]

_BLOCKS = "▁▂▃▄▅▆▇█"
_PERIOD_S = 0.1
_WIDTH = 16


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve of at most `width` blocks: means of as many equal pieces, from least to most.

    No values, or no width, yield ""; a curve that does not move lies at the bottom.
    """
    if not values or width < 1:
        return ""
    count = min(width, len(values))
    edges = [len(values) * i // count for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round(top * (mean - low) / span) if span else 0] for mean in means)


class LiveCurve:
    """Describes the last seconds of areas to an observer, ten times a second at most."""

    def __init__(self, observer: Observer, total: int) -> None:
        self._observer = observer
        self._areas: list[float] = []
        self._shown = max(_WIDTH, min(total, 6 * _WIDTH))  # frames of the curve
        self._began = self._told = time.perf_counter()

    def add(self, area_px: int) -> None:
        """The next frame's area."""
        self._areas.append(area_px)
        now = time.perf_counter()
        if now - self._told < _PERIOD_S:
            return
        self._told = now
        speed = len(self._areas) / (now - self._began)
        curve = sparkline(self._areas[-self._shown :], _WIDTH)
        self._observer.describe(f"{speed:.0f} frames/s  {curve}")
