"""Live behaviour on sequences whose every figure is known on paper."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.data.sequence import LongSequence
from pkecho_edge.errors import UnusableInput
from pkecho_edge.verify.live import (
    CURVE_POINTS,
    LiveResult,
    LiveRow,
    follow_sequence,
    measure_live,
    summarize_live,
)

Mask = NDArray[np.bool_]
Frame = NDArray[np.uint8]
Logits = NDArray[np.float32]

T = 4
BEAT = [60, 70, 72, 66, 52, 42, 40, 42, 50]
"""Areas of one beat of nine frames: ED at 2, ES at 6."""
EARLY_ES = [60, 70, 72, 66, 52, 40, 41, 42, 50]
"""The same with ES at 5."""


def mask(pixels: int) -> Mask:
    """bool [10, 100], the first pixels set: ten of them are 1 % of all."""
    return np.arange(1000).reshape(10, 100) < pixels


def follow(ours: Sequence[int], theirs: Sequence[int], patient: str = "p") -> LiveRow:
    pairs = ((mask(a), mask(b)) for a, b in zip(ours, theirs, strict=True))
    return follow_sequence(f"{patient}-sequence", patient, "test", pairs, T)


def of_patients(*sides: tuple[Sequence[int], Sequence[int]]) -> LiveResult:
    """One sequence of each patient."""
    rows = [follow(*areas, patient=f"p{index}") for index, areas in enumerate(sides)]
    return summarize_live(rows, T)


def test_masks_that_are_alike_have_nothing_to_report() -> None:
    found = of_patients((BEAT * 3, BEAT * 3))

    row = found.rows[0]
    assert not row.pixel_disagreement.any()
    assert (row.agreement_dsc == 100).all()
    assert (row.slope, row.flicker, row.ed_shift, row.es_shift) == (0, 0, 0, 0)
    assert row.jitter == 0
    assert row.area_change_engine == row.area_change_baseline > 0
    assert found.unshifted == 100
    assert (found.n_beats, found.n_beats_lost, found.n_without_beat) == (1, 0, 0)


def test_disagreement_by_time() -> None:
    # 3 frames warm up, 4 fill the next window, 5 are left: 2, 1 and 0.5 % of pixels differ
    ours = [100] * 12
    theirs = [120] * 3 + [110] * 4 + [105] * 5

    found = of_patients((ours, theirs))

    assert found.warming_up.pixel_disagreement.mean == pytest.approx(2)
    assert found.next_window.pixel_disagreement.mean == pytest.approx(1)
    assert found.later.pixel_disagreement.mean == pytest.approx(0.5)
    assert found.warming_up.agreement_dsc.mean == pytest.approx(100 * 200 / 220)
    assert found.later.agreement_dsc.mean == pytest.approx(100 * 200 / 205)


def test_a_difference_that_grows_evenly() -> None:
    # warming up it is wild; then one more pixel, 0.1 %, differs at every frame
    theirs = [500] * 3 + [100 + index for index in range(40)]

    row = follow([100] * 43, theirs)

    assert row.slope == pytest.approx(0.1 * 1000)
    assert row.first_quarter == pytest.approx(0.1 * np.mean(range(10)))
    assert row.last_quarter == pytest.approx(0.1 * np.mean(range(30, 40)))
    assert row.quarter_change == pytest.approx(3)


def test_the_slope_has_an_interval_over_patients() -> None:
    growing = [100] * 20, [100 + index for index in range(20)]
    shrinking = [100] * 20, [120 - index for index in range(20)]

    found = of_patients(growing, shrinking, growing, shrinking)

    assert found.slope.mean == pytest.approx(0)
    assert found.slope.low < -50
    assert found.slope.high > 50
    assert found.slope.worst == pytest.approx(100)
    assert found.slope.n_patients == 4
    assert found.slope.unit == "% of pixels per 1000 frames"


def test_flicker_and_jitter_of_a_mask_that_alternates() -> None:
    row = follow([100] * 6, [100, 104] * 3)

    assert row.flicker == pytest.approx(0.4)  # 4 of 1,000 pixels come or go at every frame
    assert row.jitter == pytest.approx(4 * math.sqrt(6 / 5))  # changes +4 -4 +4 -4 +4, n - 1
    assert row.area_change_baseline == 0
    assert row.area_change_engine == pytest.approx(row.jitter)


def test_a_shifted_area_curve_shifts_ed_and_es() -> None:
    areas = BEAT * 6
    late = areas[:2] + areas[:-2]

    row = follow(areas, late)

    assert row.n_beats == 4
    assert (row.ed_shift, row.es_shift, row.ed_es_shift) == (2, 2, 2)


def test_the_shift_is_absolute_and_ed_and_es_are_apart() -> None:
    row = follow(BEAT, EARLY_ES)

    assert (row.ed_shift, row.es_shift) == (0, 1)
    assert row.ed_es_shift == 0.5


def test_the_share_of_sequences_without_a_shift() -> None:
    late = BEAT[:1] + BEAT[:-1]

    found = of_patients(
        (BEAT, BEAT), (BEAT, BEAT), (BEAT, late), (BEAT, EARLY_ES), ([50] * 9, [50] * 9)
    )

    assert found.unshifted == pytest.approx(50)  # of those with a beat
    assert found.ed_es_shift.mean == pytest.approx((1 + 0.5) / 4)
    assert (found.n_beats, found.n_without_beat) == (4, 1)
    assert found.ed_es_shift.n_clips == 4


def test_a_beat_that_only_the_engine_misses_is_lost() -> None:
    found = of_patients((BEAT, [50] * 9), (BEAT, [0] * 9), (BEAT, BEAT))

    assert (found.n_beats, found.n_beats_lost, found.n_without_beat) == (3, 2, 0)
    assert found.ed_es_shift.n_clips == 1
    assert math.isnan(found.rows[0].ed_shift)


def test_a_beat_that_only_the_engine_sees_does_not_count() -> None:
    row = follow([50] * 9, BEAT)

    assert (row.n_beats, row.n_beats_lost) == (0, 0)


def test_empty_masks() -> None:
    both = follow([0] * 10, [0] * 10)
    one = follow([100] * 10, [0] * 10)

    assert (both.agreement_dsc == 100).all()
    assert both.flicker == both.slope == 0
    assert math.isnan(both.jitter)  # no area that points could relate to
    assert both.n_beats == 0
    assert (one.agreement_dsc == 0).all()
    assert one.pixel_disagreement == pytest.approx(np.full(10, 10.0))
    assert one.flicker == 0  # it is missing, and steadily so


def test_a_sequence_shorter_than_a_window_has_no_later() -> None:
    found = of_patients(([100] * 3, [110] * 3))

    assert found.warming_up.pixel_disagreement.mean == pytest.approx(1)
    assert found.next_window.pixel_disagreement.n_clips == 0
    assert math.isnan(found.later.agreement_dsc.mean)
    assert math.isnan(found.slope.mean)
    assert [point.first for point in found.curve] == [0, 1, 2]


def test_a_trend_needs_another_window() -> None:
    assert math.isnan(follow([100] * (2 * T - 2), [100] * (2 * T - 2)).slope)
    assert follow([100] * (2 * T - 1), [100] * (2 * T - 1)).slope == 0


def test_one_frame() -> None:
    found = of_patients(([100], [150]))

    row = found.rows[0]
    assert row.pixel_disagreement.tolist() == [5]
    assert math.isnan(row.flicker)
    assert math.isnan(row.jitter)
    assert row.n_beats == 0
    assert [(p.first, p.last, p.mean) for p in found.curve] == [(0, 0, 5)]


@pytest.mark.parametrize("rows", [0, 1])
def test_no_frames_give_no_figures(rows: int) -> None:
    found = summarize_live([follow([], []) for _ in range(rows)], T)

    assert found.n_frames == 0
    assert math.isnan(found.flicker.mean)
    assert math.isnan(found.unshifted)
    assert found.curve == ()


def test_the_curve_holds_every_frame_once() -> None:
    found = of_patients(([100] * 503, [110] * 503), ([100] * 20, [130] * 20))

    assert len(found.curve) <= CURVE_POINTS + T - 1
    covered = [frame for p in found.curve for frame in range(p.first, p.last + 1)]
    assert covered == list(range(503))
    assert found.curve[0].mean == pytest.approx(2)
    assert found.curve[0].n_sequences == 2
    assert found.curve[0].low == pytest.approx(1)
    assert found.curve[-1].mean == pytest.approx(1)  # of the only one that goes so far
    assert found.curve[-1].n_sequences == 1
    assert math.isnan(found.curve[-1].low)


def sequence(frames: int, size: tuple[int, int] = (10, 100), patient: str = "p") -> LongSequence:
    """Frames that show their own number as a grey."""

    def draw() -> Iterator[Frame]:
        for index in range(frames):
            yield np.full(size, index % 256, dtype=np.uint8)

    return LongSequence(f"{patient}@{frames}", patient, "test", frames, draw)


def grows(step: int) -> object:
    """Segments 100 pixels, and `step` more with every frame it has seen."""

    def run(frames: Iterable[Frame]) -> Iterator[Logits]:
        for index, _ in enumerate(frames):
            yield np.where(mask(100 + step * index), 5, -5).astype(np.float32)

    return run


def test_both_sides_see_every_frame_of_a_long_sequence() -> None:
    seen: list[int] = []
    steps: list[None] = []

    def engine(frames: Iterable[Frame]) -> Iterator[Logits]:
        for frame in frames:
            seen.append(int(frame[0, 0]))
            yield np.where(mask(100), 5, -5).astype(np.float32)

    found = measure_live(
        grows(1),  # type: ignore[arg-type]
        engine,
        [sequence(200, patient="a"), sequence(100, patient="b")],
        T,
        progress=lambda: steps.append(None),
    )

    assert seen == [*range(200), *range(100)]
    assert len(steps) == found.n_frames == 300
    assert [row.n_frames for row in found.rows] == [200, 100]
    assert found.slope.mean == pytest.approx(100)
    assert [row.patient for row in found.rows] == ["a", "b"]


def test_logits_of_the_engine_that_are_no_numbers_are_background() -> None:
    def nan(frames: Iterable[Frame]) -> Iterator[Logits]:
        for frame in frames:
            yield np.full(frame.shape, np.nan, dtype=np.float32)

    found = measure_live(grows(0), nan, [sequence(5)], T)  # type: ignore[arg-type]

    assert found.rows[0].agreement_dsc.tolist() == [0] * 5
    with pytest.raises(UnusableInput, match="baseline returns nan"):
        measure_live(nan, grows(0), [sequence(5)], T)  # type: ignore[arg-type]


def test_a_side_that_drops_frames_is_not_compared() -> None:
    def short(frames: Iterable[Frame]) -> Iterator[Logits]:
        for index, frame in enumerate(frames):
            if index < 3:
                yield np.zeros(frame.shape, dtype=np.float32)

    with pytest.raises(ValueError, match="shorter"):
        measure_live(grows(0), short, [sequence(5)], T)  # type: ignore[arg-type]


def test_memory_does_not_grow_with_the_sequence() -> None:
    size = (160, 160)

    def side(frames: Iterable[Frame]) -> Iterator[Logits]:
        for frame in frames:
            yield frame.astype(np.float32) - 100

    def peak(n_frames: int) -> int:
        tracemalloc.start()
        measure_live(side, side, [sequence(n_frames, size)], T)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)

    # 280 more frames are 7 MB, their logits 28 MB on either side
    assert peak(300) - peak(20) < 1e6
