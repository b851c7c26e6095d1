"""An empty figure to draw a picture file in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkecho_edge.errors import MissingDependency

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["empty_figure"]


def empty_figure(width: float, height: float) -> Figure:
    """Of this size in inches; it keeps what is drawn in it from overlapping.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency(
            "matplotlib is not installed", remedy="Run: pip install 'pkecho-edge[report]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")
