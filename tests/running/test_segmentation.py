"""Masks and figures of a recording, by either engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pkecho_edge.data.timed_recording import TimedRecording
from pkecho_edge.running.live_curve import sparkline
from pkecho_edge.running.segmentation import segment
from pkecho_edge.stages import SilentObserver

MakeTimed = Callable[..., TimedRecording]


class Hears(SilentObserver):
    """Counts the steps, and keeps what was said."""

    def __init__(self) -> None:
        self.steps, self.said = 0, list[str]()

    def advance(self) -> None:
        self.steps += 1

    def describe(self, text: str) -> None:
        self.said.append(text)


def test_the_stream_engine_is_taken_where_there_is_one(make_timed: MakeTimed, engine: Any) -> None:
    timed, observer = make_timed(30), Hears()

    found = segment(engine("clip", "stream"), timed, observer)

    assert found.mode == "stream"
    assert observer.steps == 30
    assert [f.index for f in found.figures] == list(range(30))
    assert [f.flags for f in found.figures] == [("warming_up",)] * 9 + [()] * 21
    assert found.figures[0].restarted == "first"
    for index, frame in enumerate(timed.recording.frames):
        np.testing.assert_array_equal(found.masks[index], frame > 100)


def test_figures_of_a_known_mask(make_timed: MakeTimed, engine: Any) -> None:
    timed = make_timed(12, spacing_mm=(0.5, 0.25))
    frame = timed.recording.frames[11]
    frame[:] = 30
    frame[20:60, 40:56] = 200  # 20 mm by 4 mm

    figures = segment(engine("stream"), timed, SilentObserver()).figures[11]

    assert (figures.area_px, figures.valid) == (640, True)
    assert figures.area_cm2 == pytest.approx(0.8)
    assert figures.long_axis_mm == pytest.approx(20)
    assert figures.time_s == pytest.approx(11 / 40)
    assert figures.latency_ms == 1.5


def test_what_makes_a_frame_doubtful(make_timed: MakeTimed, engine: Any) -> None:
    timed = make_timed(14)
    frames = timed.recording.frames
    frames[10:] = 30
    frames[11, 0:20, 40:60] = 200  # at the edge
    frames[12, 10:30, 10:30] = frames[12, 50:60, 50:60] = 200  # in two pieces, 80 % in one
    frames[13, 10:30, 10:30] = frames[13, 50:53, 50:53] = 200  # 98 % in one

    figures = segment(engine("stream"), timed, SilentObserver()).figures

    assert [f.flags for f in figures[10:]] == [
        ("empty",),
        ("touches_border",),
        ("fragmented",),
        (),
    ]
    assert (figures[10].area_cm2, figures[10].long_axis_mm) == (0, 0)


def test_without_a_spacing_nothing_is_in_millimetres(make_timed: MakeTimed, engine: Any) -> None:
    (figures,) = segment(engine("stream"), make_timed(1, spacing_mm=None), Hears()).figures

    assert (figures.area_cm2, figures.long_axis_mm) == (None, None)


@pytest.mark.parametrize(
    "edge", [np.s_[:1, 40:50], np.s_[-1:, 40:50], np.s_[40:50, :1], np.s_[40:50, -1:]]
)
def test_each_edge_of_the_image_counts(make_timed: MakeTimed, engine: Any, edge: Any) -> None:
    timed = make_timed(10)
    timed.recording.frames[9][edge] = 200

    figures = segment(engine("stream"), timed, Hears()).figures[9]

    assert "touches_border" in figures.flags


@pytest.mark.parametrize("count", [10, 20, 23, 29])
def test_the_clip_engine_goes_in_windows(make_timed: MakeTimed, engine: Any, count: int) -> None:
    timed, bright = make_timed(count), engine("clip")

    found = segment(bright, timed, SilentObserver())

    assert found.mode == "clip"
    assert len(found.figures) == count
    assert all(f.valid for f in found.figures)
    for index, frame in enumerate(timed.recording.frames):
        np.testing.assert_array_equal(found.masks[index], frame > 100)
    assert len(bright.windows) == -(-count // 10)
    np.testing.assert_array_equal(bright.windows[-1], timed.recording.frames[-10:])


def test_no_window_of_the_clip_engine_reaches_across_a_gap(
    make_timed: MakeTimed, engine: Any
) -> None:
    times = np.arange(36) / 40 + np.where(np.arange(36) < 23, 0, 1.0)
    timed, bright = make_timed(36, times_s=times), engine("clip")

    found = segment(bright, timed, SilentObserver())

    assert [(f.index, f.restarted) for f in found.figures if f.restarted] == [(23, "gap")]
    frames = timed.recording.frames
    for window, first in zip(bright.windows, [0, 10, 13, 23, 26], strict=True):
        np.testing.assert_array_equal(window, frames[first : first + 10])
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(found.masks[index], frame > 100)


def test_fewer_frames_than_a_window_are_warming_up(make_timed: MakeTimed, engine: Any) -> None:
    timed, bright = make_timed(4), engine("clip")

    found = segment(bright, timed, SilentObserver())

    assert [f.flags for f in found.figures] == [("warming_up",)] * 4
    np.testing.assert_array_equal(bright.windows[0][4:], timed.recording.frames[[3] * 6])


@pytest.mark.parametrize(("step_s", "gap_s"), [(0.02, 0.5), (1.0, 3.0)])
def test_a_slow_recording_has_no_gaps(
    make_timed: MakeTimed, engine: Any, step_s: float, gap_s: float
) -> None:
    bright = engine("stream")

    segment(bright, make_timed(5, times_s=np.arange(5) * step_s), SilentObserver())

    assert bright.gaps_s == [pytest.approx(gap_s)]


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 5, ""),
        ([1, 2], 0, ""),
        ([3, 3, 3], 5, "▁▁▁"),
        ([0, 7], 5, "▁█"),
        (range(8), 8, "▁▂▃▄▅▆▇█"),
        ([0, 0, 7, 7], 2, "▁█"),
    ],
)
def test_a_line_of_blocks(values: Any, width: int, line: str) -> None:
    assert sparkline(values, width) == line


def test_the_curve_is_told_while_it_is_drawn(
    make_timed: MakeTimed, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pkecho_edge.running import live_curve

    monkeypatch.setattr(live_curve, "_PERIOD_S", 0.0)
    observer = Hears()

    segment(engine("stream"), make_timed(40), observer)

    assert len(observer.said) == 40
    assert "frames/s" in observer.said[-1]
    assert {"▁", "█"} <= set(observer.said[-1])
