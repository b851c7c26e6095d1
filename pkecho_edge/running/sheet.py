"""The contact sheet: one PNG with frames in time, outlines, ED and ES, and the area's curve."""

from __future__ import annotations

from bisect import insort
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.timed_recording import TimedRecording
from pkecho_edge.metrics.beats import Beat
from pkecho_edge.running.drawing import (
    CONTOUR,
    DOUBTFUL,
    ED_COLOUR,
    ES_COLOUR,
    Curve,
    contour_band,
    figures_line,
    font,
    phases,
    resized,
)
from pkecho_edge.running.segmentation import Segmentation

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = ["TILES", "shown_frames", "write_sheet"]

TILES = 24
"""Frames of a sheet, at most."""

_COLUMNS, _TILE, _GAP, _BORDER = 6, 200, 12, 3
_CAPTION, _TITLE, _CURVE, _LEGEND = 22, 26, 90, 24
_PAPER, _INK, _FAINT = (24, 24, 27), (235, 235, 235), (150, 150, 150)
_PHASE_COLOURS = {"ED": ED_COLOUR, "ES": ES_COLOUR}


def shown_frames(count: int, beats: list[Beat], tiles: int = TILES) -> list[int]:
    """The numbers of the frames on a sheet, ascending, at most `tiles` of `count`.

    The first and the last one, ED and ES of the first beats in up to half of the tiles, and then
    always the middle of the longest stretch that shows nothing.
    """
    if count <= tiles:
        return list(range(count))
    marked = [index for beat in beats for index in (beat.ed_index, beat.es_index)][: tiles // 2]
    chosen = sorted({0, count - 1, *marked})
    while len(chosen) < tiles:
        before, after = max(pairwise(chosen), key=lambda pair: pair[1] - pair[0])
        insort(chosen, (before + after) // 2)
    return chosen


def write_sheet(
    path: Path,
    timed: TimedRecording,
    found: Segmentation,
    beats: list[Beat],
    lines: tuple[str, str],
) -> None:
    """Draw the sheet.

    Args:
        path: the PNG to write.
        timed, found, beats: what is shown.
        lines: the title, and what is said below it.

    Raises:
        OSError: it cannot be written.
    """
    from PIL import Image, ImageDraw

    frames = timed.recording.frames
    chosen, marked = shown_frames(len(frames), beats), phases(beats)
    high, wide = _tile_size(frames.shape[1], frames.shape[2])
    columns = min(_COLUMNS, len(chosen))
    width = max(_COLUMNS * (_TILE + _GAP), columns * (wide + _GAP)) + _GAP
    top = 2 * _TITLE + _CURVE + _LEGEND + 4 * _GAP
    rows = -(-len(chosen) // columns)
    image = Image.new("RGB", (width, top + rows * (high + _CAPTION + _GAP)), _PAPER)
    draw = ImageDraw.Draw(image)
    small = font(14)
    draw.text((_GAP, _GAP), _fitting(lines[0], width, 20), _INK, font(20))
    draw.text((_GAP, _GAP + _TITLE), lines[1], _FAINT, small)
    _draw_curve(draw, found, beats, chosen, 2 * _TITLE + 2 * _GAP, width)
    for number, index in enumerate(chosen):
        row, column = divmod(number, columns)
        x, y = _GAP + column * (wide + _GAP), top + row * (high + _CAPTION + _GAP)
        phase = marked[index][0] if index in marked else ""
        if phase:
            box = (x - _BORDER, y - _BORDER, x + wide + _BORDER - 1, y + high + _BORDER - 1)
            draw.rectangle(box, _PHASE_COLOURS[phase])
        image.paste(Image.fromarray(_tile(timed, found, index, (high, wide))), (x, y))
        if phase:
            label = f"{phase} {marked[index][1].number}"
            draw.text(
                (x + 5, y + 3),
                label,
                _PHASE_COLOURS[phase],
                small,
                stroke_width=1,
                stroke_fill=(0, 0, 0),
            )
        draw.text((x, y + high + 4), figures_line(found.figures[index]), _INK, small)
    image.save(path, format="PNG", optimize=False)


def _tile_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of a picture that fits the tile, at least a pixel each."""
    scale = _TILE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _fitting(text: str, width: int, size: int) -> str:
    """A title that is too long loses its middle."""
    most = int(width / (0.62 * size))
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 + 2 :]}"


def _tile(
    timed: TimedRecording, found: Segmentation, index: int, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """u8 [h, w, 3]: the frame with its outline."""
    grey = resized(timed.recording.frames[index], size)
    picture = np.repeat(grey[..., None], 3, axis=2)
    band = contour_band(found.masks[index], size)
    picture[band] = CONTOUR if found.figures[index].valid else DOUBTFUL
    return picture


def _draw_curve(
    draw: ImageDraw,
    found: Segmentation,
    beats: list[Beat],
    chosen: list[int],
    top: int,
    width: int,
) -> None:
    """The area over time; shown frames as ticks below it, ED and ES as coloured dots."""
    small = font(13)
    figures = found.figures
    points = Curve.of(figures, width - 2 * _GAP, _CURVE).shifted(_GAP, top)
    if len(points) > 1:
        draw.line(points, fill=_FAINT, width=2)
    for index in chosen:
        x = points[index][0]
        draw.line([(x, top + _CURVE + 4), (x, top + _CURVE + 9)], fill=_FAINT)
    for index, (phase, _) in phases(beats).items():
        x, y = points[index]
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), _PHASE_COLOURS[phase])
    y = top + _CURVE + 12
    x = _GAP
    words = [("area over time", _FAINT), ("ED", ED_COLOUR), ("ES", ES_COLOUR)]
    words += [("outline", CONTOUR), ("outline of a frame that is not valid", DOUBTFUL)]
    for word, colour in words:
        draw.text((x, y), word, colour, small)
        x += round(draw.textlength(word, small)) + 18
