"""The overlay and the contact sheet, looked at pixel by pixel where it matters."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pkecho_edge.data.timed_recording import TimedRecording
from pkecho_edge.metrics.beats import Beat
from pkecho_edge.running.drawing import (
    CONTOUR,
    DOUBTFUL,
    ED_COLOUR,
    ES_COLOUR,
    contour_band,
)
from pkecho_edge.running.overlay import UNTIMED_HZ, write_overlay
from pkecho_edge.running.segmentation import Segmentation
from pkecho_edge.running.sheet import TILES, shown_frames, write_sheet
from pkecho_edge.stages import SilentObserver

MakeTimed = Callable[..., TimedRecording]
Found = Callable[..., Segmentation]

BEATS = [Beat(1, 20, 32, 32, 48, 80.0, 40.0, 50.0, ()), Beat(2, 52, 32, 64, 80, 80, 40, 50.0, ())]


def overlay(path: Path, timed: TimedRecording, found: Segmentation) -> Path:
    beats = BEATS if len(found.figures) == 100 else []
    write_overlay(path / "o.mp4", timed, found, beats, SilentObserver())
    return path / "o.mp4"


def decoded(path: Path) -> tuple[list[NDArray[np.uint8]], list[float]]:
    """Frames u8 [H, W, 3] and their times."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in frames], [
        float(frame.time) for frame in frames
    ]


def distance(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """Of each pixel's colour from this one, grey levels."""
    apart: NDArray[np.float64] = np.abs(picture.astype(float) - colour).max(axis=2)
    return apart


def test_a_band_follows_the_border_on_both_sides() -> None:
    mask = np.zeros((20, 20), dtype=np.bool_)
    mask[5:15, 5:15] = True

    band = contour_band(mask, (20, 20))

    expected = np.zeros_like(mask)
    expected[4:16, 5:15] = expected[5:15, 4:16] = True
    expected[6:14, 6:14] = False
    np.testing.assert_array_equal(band, expected)
    assert not contour_band(np.zeros_like(mask), (40, 40)).any()


def test_an_enlarged_band_is_smooth_and_closed() -> None:
    rows, columns = np.indices((40, 40)) - 19.5
    disc = rows**2 + columns**2 < 12**2

    band = contour_band(disc, (200, 200))

    rows, columns = (np.indices((200, 200)) - 99.5) / 5
    radius = np.hypot(rows, columns)
    assert band.any()
    assert np.abs(radius[band] - 12).max() < 0.8  # of the small picture's pixels
    angles = np.degrees(np.arctan2(rows, columns))[band].round()
    assert len(np.unique(angles)) > 355


def test_the_overlay_shows_every_frame_at_its_time(
    tmp_path: Path, make_timed: MakeTimed, found: Found
) -> None:
    times = np.cumsum(np.r_[0.0, np.tile([0.02, 0.05], 20)])[:40]
    timed = make_timed(40, times_s=times)

    pictures, shown_at = decoded(overlay(tmp_path, timed, found(timed)))

    assert len(pictures) == 40
    assert shown_at == pytest.approx(times, abs=1e-4)


def test_without_times_the_overlay_plays_steadily(
    tmp_path: Path, make_timed: MakeTimed, found: Found
) -> None:
    timed = make_timed(10, times_s=None)

    _, shown_at = decoded(overlay(tmp_path, timed, found(timed)))

    assert shown_at == pytest.approx(np.arange(10) / UNTIMED_HZ, abs=1e-3)


@pytest.mark.parametrize("sides", [(96, 96), (97, 131), (131, 97), (16, 300), (1300, 64)])
def test_any_sides_become_even_and_the_picture_is_whole(
    tmp_path: Path, make_timed: MakeTimed, found: Found, sides: tuple[int, int]
) -> None:
    timed = make_timed(2, sides)

    pictures, _ = decoded(overlay(tmp_path, timed, found(timed)))

    height, width = pictures[0].shape[:2]
    assert (height % 2, width % 2) == (0, 0)
    assert width >= 320
    assert 480 <= max(height - 108, width) <= 1290


def test_the_outline_lies_on_the_border_in_its_colour(
    tmp_path: Path, make_timed: MakeTimed, found: Found
) -> None:
    timed = make_timed(30)  # 96 pixels, enlarged to 480

    pictures, _ = decoded(overlay(tmp_path, timed, found(timed)))

    for index, colour, other in ((3, DOUBTFUL, CONTOUR), (25, CONTOUR, DOUBTFUL)):
        picture = pictures[index][:480]
        border = contour_band(timed.recording.frames[index] > 100, (480, 480))
        near = distance(picture, colour) < 60
        assert near[border].mean() > 0.8
        assert (distance(picture, other) < 30).mean() < 0.001
        coloured = np.ptp(picture.astype(int), axis=2) > 60
        rows, columns = np.nonzero(border)
        box = np.s_[rows.min() - 6 : rows.max() + 7, columns.min() - 6 : columns.max() + 7]
        coloured[box] = False
        assert not coloured.any()  # no earlier outline is left
        inside = picture[230:250, 230:250].astype(int)
        assert np.ptp(inside, axis=2).max() < 12  # the rest stays grey
        assert np.abs(inside - 200).max() < 12


def test_the_footer_has_words_and_a_cursor_that_moves(
    tmp_path: Path, make_timed: MakeTimed, found: Found
) -> None:
    timed = make_timed(100)

    pictures, _ = decoded(overlay(tmp_path, timed, found(timed)))

    footers = [picture[484:].max(axis=2) for picture in pictures]
    assert footers[32][:48].max() > 200
    assert (footers[32][:48] != footers[33][:48]).any()  # ED of beat 1 is told there
    strips = [footer[60:92].astype(int) for footer in footers]
    cursors = [int(strip.mean(axis=0).argmax()) for strip in strips]
    assert cursors[0] == 8
    assert cursors[99] == 480 - 9
    assert (np.diff(cursors) > 0).all()


def test_the_sheet_has_ed_and_es_in_their_colours(
    tmp_path: Path, make_timed: MakeTimed, found: Found
) -> None:
    timed = make_timed(100)

    write_sheet(tmp_path / "s.png", timed, found(timed), BEATS, ("heart", "what was found"))

    with Image.open(tmp_path / "s.png") as image:
        picture = np.asarray(image)
    assert picture.shape[1] == 6 * 212 + 12
    for colour in (ED_COLOUR, ES_COLOUR):
        borders = (picture == colour).all(axis=2)
        assert borders[180:].sum() == pytest.approx(2 * 4 * 3 * 203, rel=0.05)  # two tiles each
    assert (picture == CONTOUR).all(axis=2).sum() > 1000
    assert (picture == DOUBTFUL).all(axis=2).sum() > 100


@pytest.mark.parametrize(("count", "tiles"), [(1, 1), (5, 5), (24, 24), (25, 24), (1000, 24)])
def test_a_sheet_shows_so_many_frames(count: int, tiles: int) -> None:
    assert len(shown_frames(count, [])) == tiles


def test_a_sheet_shows_ed_and_es_and_leaves_no_long_stretch_out() -> None:
    beats = [Beat(n, 0, 30, 100 * n, 100 * n + 40, 1, 1, 0, ()) for n in range(9)]

    shown = shown_frames(1000, beats)

    assert {beat.ed_index for beat in beats[:6]} | {beat.es_index for beat in beats[:6]} <= {*shown}
    assert shown == sorted(set(shown))
    assert len(shown) == TILES
    assert (shown[0], shown[-1]) == (0, 999)
    assert max(np.diff(shown)) < 100


def test_a_single_frame_has_a_sheet_and_an_overlay(
    tmp_path: Path, make_timed: MakeTimed, found: Found
) -> None:
    timed = make_timed(1, times_s=None)
    segmentation = found(timed)

    write_sheet(tmp_path / "s.png", timed, segmentation, [], ("heart", ""))
    write_overlay(tmp_path / "o.mp4", timed, segmentation, [], SilentObserver())

    with Image.open(tmp_path / "s.png") as image:
        assert image.size[0] > 0
    assert len(decoded(tmp_path / "o.mp4")[0]) == 1


def test_the_rate_of_the_overlay_is_that_of_the_recording(
    tmp_path: Path, make_timed: MakeTimed, found: Found
) -> None:
    timed = make_timed(40)

    with av.open(str(overlay(tmp_path, timed, found(timed)))) as container:
        rate = container.streams.video[0].average_rate

    assert rate is not None
    assert abs(rate - Fraction(40)) < 1.1
