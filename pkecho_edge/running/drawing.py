"""What the overlay and the contact sheet share: colours, outlines, lettering, the area's curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import MissingDependency
from pkecho_edge.metrics.beats import Beat
from pkecho_edge.running.segmentation import FrameFigures

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

__all__ = [
    "CONTOUR",
    "DOUBTFUL",
    "ED_COLOUR",
    "ES_COLOUR",
    "Curve",
    "beats_by_frame",
    "check_pillow",
    "contour_band",
]
__all__ += ["figures_line", "font", "phases", "resized"]

CONTOUR, DOUBTFUL = (240, 228, 66), (213, 94, 0)
ED_COLOUR, ES_COLOUR = (86, 180, 233), (204, 121, 167)
"""Yellow; vermilion, of a frame that is not valid; sky blue; reddish purple. Of Okabe and Ito, so
that who does not tell red from green still tells them apart."""

Mask = NDArray[np.bool_]
Picture = NDArray[np.uint8]


def check_pillow() -> None:
    """Raises MissingDependency where the pictures cannot be drawn."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "Pillow is not installed", remedy="Run: pip install 'pkecho-edge[data]'"
        ) from error


def font(size: int) -> FreeTypeFont:
    """Pillow's own font, so that pictures look the same everywhere."""
    from PIL import ImageFont

    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


def resized(frame: Picture, size: tuple[int, int]) -> Picture:
    """u8 [H, W] -> u8 [size], smooth when enlarged, averaged when reduced."""
    from PIL import Image

    if frame.shape == size:
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.uint8)


def contour_band(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask's outline as a line of two pixels in a picture of `size`.

    The mask is enlarged smoothly before it is outlined: its own pixels would be stairs. An empty
    mask has none; along the picture's edge there is none either.

    Args:
        mask: bool [H, W].
        size: (height, width) of the picture.
    """
    if not mask.any():
        return np.zeros(size, dtype=np.bool_)
    inside = resized(mask.view(np.uint8) * np.uint8(255), size) > 127
    grown, shrunk = inside.copy(), inside.copy()
    for ahead, behind in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        grown[ahead] |= inside[behind]
        grown[behind] |= inside[ahead]
        shrunk[ahead] &= inside[behind]
        shrunk[behind] &= inside[ahead]
    band: Mask = grown & ~shrunk
    return band


def phases(beats: list[Beat]) -> dict[int, tuple[str, Beat]]:
    """Frame number -> "ED" or "ES" and its beat."""
    marked = {beat.ed_index: ("ED", beat) for beat in beats}
    return marked | {beat.es_index: ("ES", beat) for beat in beats}


def beats_by_frame(beats: list[Beat]) -> dict[int, Beat]:
    """Frame number -> the beat that it is part of; frames of none are left out."""
    return {index: beat for beat in beats for index in range(beat.first, beat.first + beat.frames)}


def figures_line(figures: FrameFigures) -> str:
    """Frame, time and area in one short line."""
    words = [f"#{figures.index}"]
    if figures.time_s is not None:
        words.append(f"{figures.time_s:.2f} s")
    if figures.area_cm2 is None:
        words.append(f"{figures.area_px} px")
    else:
        words.append(f"{figures.area_cm2:.1f} cm2")  # the font has no raised 2
    return "  ".join(words)


@dataclass(frozen=True, eq=False)
class Curve:
    """The area over time, laid out in a box of pixels.

    Attributes:
        points: i64 [N, 2], (x, y) of each frame, y downwards.
        empty: numbers of the frames without a mask, which lie at the bottom.
    """

    points: NDArray[np.int64]
    empty: tuple[int, ...]

    @classmethod
    def of(cls, figures: tuple[FrameFigures, ...], width: int, height: int) -> Curve:
        """From the least area at the bottom to the largest at the top; a level one lies between."""
        areas = np.array([f.area_px for f in figures], dtype=np.float64)
        known = areas[areas > 0]
        low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
        share = (areas - low) / (high - low) if high > low else np.full(len(areas), 0.5)
        share[areas == 0] = 0
        at = np.array([f.index if f.time_s is None else f.time_s for f in figures])
        x = at / at[-1] if at[-1] > 0 else np.zeros(len(at))
        points = np.stack([x * (width - 1), (1 - share) * (height - 1)], axis=1)
        return cls(np.rint(points).astype(np.int64), tuple(np.flatnonzero(areas == 0).tolist()))

    def shifted(self, x: int, y: int) -> list[tuple[int, int]]:
        """The points of a box that begins at (x, y)."""
        return [(int(px) + x, int(py) + y) for px, py in self.points]
