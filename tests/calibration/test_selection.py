"""Which clips a rule chooses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkecho_edge.calibration.selection import cover, coverage, select_clips
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CalibrationError, UsageError


def clip(number: int, patient: str, grey: int = 100, **more: object) -> Clip:
    frames = np.full((2, 1, 32, 32), grey, dtype=np.uint8)
    frames[:, :, number % 32] = 0
    made = Clip(f"c{number}", f"r{number}", patient, "test", frames, (0, 1))
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["random", "stratified"])
def test_every_patient_before_a_second_clip_of_any(rule: str) -> None:
    clips = [clip(i, f"p{i // 5}") for i in range(20)]  # 4 patients with 5 clips each

    for seed in range(5):
        chosen = select_clips(clips, 4, seed, rule)
        assert len({c.patient for c in chosen}) == 4


@given(st.integers(1, 25), st.integers(0, 3), st.sampled_from(["random", "stratified"]))
def test_a_choice_is_of_the_clips_each_once_and_the_same_again(
    count: int, seed: int, rule: str
) -> None:
    clips = [clip(i, f"p{i % 7}", grey=10 * i) for i in range(20)]

    chosen = select_clips(clips, count, seed, rule)

    assert len(chosen) == min(count, 20) == len({c.identifier for c in chosen})
    assert [c.identifier for c in chosen] == [
        c.identifier for c in select_clips(clips, count, seed, rule)
    ]


def test_strata_take_turns() -> None:
    """30 good clips and 3 poor ones: six clips hold as many of both."""
    good = [clip(i, f"p{i}", quality="good") for i in range(30)]
    poor = [clip(i, f"p{i}", quality="poor") for i in range(30, 33)]

    chosen = select_clips([*good, *poor], 6, 0, "stratified")

    assert sum(c.quality == "poor" for c in chosen) == 3


def test_phase_and_brightness_are_strata_too() -> None:
    dark = [clip(i, f"p{i}", grey=20, ed_index=0, es_index=1) for i in range(20)]
    bright = [clip(i, f"p{i}", grey=200, ed_index=1, es_index=0) for i in range(20, 22)]

    chosen = select_clips([*dark, *bright], 4, 0, "stratified")

    assert sum(c.frames.max() == 200 for c in chosen) == 2


def test_coverage_takes_the_clip_that_adds_most() -> None:
    ranges = np.array(
        [[[0, 1], [0, 1]], [[0, 5], [0, 1]], [[0, 1], [0, 9]], [[-4, 5], [0, 2]]], dtype=np.float32
    )
    patients = ["a", "b", "c", "d"]

    # widths are 9 and 9: clip 3 reaches 9/9 + 2/9, clip 2 then adds 7/9
    assert cover(ranges, patients, 2) == [3, 2]
    assert coverage(ranges, [3, 2]) == pytest.approx(1)
    assert coverage(ranges, [0]) == pytest.approx(1 / 9)
    assert coverage(ranges, []) == 0


def test_coverage_prefers_a_new_patient() -> None:
    ranges = np.array([[[0, 9]], [[-9, 9]], [[0, 1]]], dtype=np.float32)

    assert cover(ranges, ["a", "a", "b"], 2) == [1, 2]


def test_dead_channels_count_for_nothing() -> None:
    ranges = np.zeros((3, 2, 2), dtype=np.float32)

    assert sorted(cover(ranges, ["a", "b", "c"], 9)) == [0, 1, 2]
    assert coverage(ranges, [0]) == 1


def test_bad_rules_and_empty_sets() -> None:
    clips = [clip(0, "p")]
    with pytest.raises(UsageError, match="unknown rule 'best'"):
        select_clips(clips, 1, 0, "best")
    with pytest.raises(UsageError, match="ranges"):
        select_clips(clips, 1, 0, "coverage")
    with pytest.raises(CalibrationError, match="empty"):
        select_clips([], 1, 0)
