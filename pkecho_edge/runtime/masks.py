"""From logits to a mask, and from a mask to its outline. NumPy only: a device has no SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.bundle.manifest import Postprocessing

__all__ = ["largest_component", "outline", "to_mask"]


def to_mask(logits: NDArray[np.float32], rule: Postprocessing) -> NDArray[np.bool_]:
    """f32 [H, W] -> bool [H, W] by the manifest's rule; NaN is background."""
    mask: NDArray[np.bool_] = logits > np.float32(rule.threshold)
    return largest_component(mask) if rule.component == "largest" else mask


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Only the 8-connected component with most pixels, bool [H, W].

    Of several equally large ones, the one whose first pixel comes first in row order. An empty mask
    stays empty. The result is a new array.
    """
    height, width = mask.shape
    pitch = width + 1  # a spare pixel ends each row's last run; one more begins the first row's
    flat = np.zeros(1 + height * pitch, dtype=np.bool_)
    flat[1:].reshape(height, pitch)[:, :width] = mask
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    starts, ends = edges[::2], edges[1::2]  # of runs, in row order
    labels = _label_runs(starts, ends, pitch)
    if not labels.any():  # one component, or none
        return mask.copy()
    kept = labels == np.bincount(labels, weights=ends - starts).argmax()
    steps = np.zeros(height * pitch, dtype=np.int8)
    steps[starts[kept]], steps[ends[kept]] = 1, -1
    image = np.cumsum(steps, dtype=np.int8).reshape(height, pitch)
    return image[:, :width].astype(np.bool_)


def _label_runs(starts: NDArray[np.intp], ends: NDArray[np.intp], pitch: int) -> NDArray[np.intp]:
    """The index of the first run of each run's component, intp [R].

    Args:
        starts, ends: of the runs in an image whose rows, one spare pixel included, are laid end to
            end; `ends` is exclusive.
        pitch: pixels of a row, the spare one included.
    """
    # run i, moved one row down, touches the runs from first[i] to before last[i], corners included
    first = np.searchsorted(ends, starts + pitch, side="left")
    last = np.searchsorted(starts, ends + pitch, side="right")
    counts = np.maximum(last - first, 0)
    above = np.repeat(np.arange(len(starts)), counts)
    offsets = np.arange(len(above)) - np.repeat(np.cumsum(counts) - counts, counts)
    below = first[above] + offsets
    labels = np.arange(len(starts))
    while True:
        a, b = labels[above], labels[below]
        if np.array_equal(a, b):
            return labels
        smaller = np.minimum(a, b)
        np.minimum.at(labels, a, smaller)  # a label is the index of a run that bears it
        np.minimum.at(labels, b, smaller)
        while not np.array_equal(labels, labels[labels]):
            labels = labels[labels]


def outline(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The outer boundary of the largest 8-connected component, f32 [N, 2], (x, y).

    Pixel (x, y) is the square from x - 0.5 to x + 0.5 and y - 0.5 to y + 0.5; the polygon runs
    along the edges of these squares and holds its corners only, clockwise as seen on a screen. Its
    last point joins its first, which is not repeated. Its area is the component's, holes included.
    An empty mask yields [0, 2].
    """
    component = largest_component(mask)
    if not component.any():
        return np.empty((0, 2), dtype=np.float32)
    padded = np.pad(component, 1)
    pitch = padded.shape[1]
    corners = _walk(padded.tobytes(), pitch, int(padded.argmax()))
    rows, columns = np.divmod(np.array(corners), pitch)
    # corner k is the upper left one of padded pixel k, and padding moved every pixel by one
    return np.stack([columns - 1.5, rows - 1.5], axis=1).astype(np.float32)


def _walk(pixels: bytes, pitch: int, start: int) -> list[int]:
    """The corners of a boundary, followed with the component on the right hand.

    Args:
        pixels: 0 or 1, rows of `pitch` laid end to end, with a border of zeros.
        start: the component's first pixel; its upper left corner is passed only once.
    """
    step = (1, pitch, -1, -pitch)  # east, south, west, north
    # pixels ahead of a corner, left and right of the way, relative to its lower right pixel
    left = (-pitch, 0, -1, -pitch - 1)
    right = (0, -1, -pitch - 1, -pitch)
    corners, here, heading = [start], start + 1, 0
    while here != start:
        if pixels[here + left[heading]]:  # also where only corners touch: 8-connected
            corners.append(here)
            heading = (heading - 1) % 4
        elif not pixels[here + right[heading]]:
            corners.append(here)
            heading = (heading + 1) % 4
        here += step[heading]
    return corners
