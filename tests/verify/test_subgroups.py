"""Parts of the data: whose clips, which frames, and figures that are known on paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.data.clip import Clip
from pkecho_edge.verify.accuracy import measure_accuracy
from pkecho_edge.verify.scores import ClipRow
from pkecho_edge.verify.subgroups import ef_range, subgroups

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
MakeClip = Callable[..., Clip]


@pytest.fixture
def rows(make_clip: MakeClip, baseline: Network, eroding_engine: Network) -> list[ClipRow]:
    """Of four patients, two clips of the last one: qualities and views differ."""
    described = [("good", "A4C"), ("good", "A2C"), ("poor", "A4C"), (None, None), ("good", "A4C")]
    clips = [
        replace(make_clip(f"p{min(index, 3)}", f"c{index}"), quality=quality, view=view)
        for index, (quality, view) in enumerate(described)
    ]
    return list(measure_accuracy(baseline, eroding_engine, clips).rows)


def test_every_clip_is_in_one_group_of_each_kind(rows: list[ClipRow]) -> None:
    found = subgroups(rows)

    assert {kind: {n: g.n_clips for n, g in groups.items()} for kind, groups in found.items()} == {
        "quality": {"good": 3, "poor": 1, "unknown": 1},
        "phase": {"ED": 5, "ES": 5},
        "view": {"A2C": 1, "A4C": 3, "unknown": 1},
        "ef": {"50 % and above": 5},
    }
    assert found["quality"]["good"].n_patients == 3
    assert found["phase"]["ED"].n_patients == 4


def test_a_phase_counts_its_own_frames_alone(rows: list[ClipRow]) -> None:
    phases = subgroups(rows)["phase"]

    # a square of side n less a pixel all around: Dice is 2 (n-2)^2 / (n^2 + (n-2)^2)
    for name, side in (("ED", 42), ("ES", 30)):
        dice = 200 * (side - 2) ** 2 / (side**2 + (side - 2) ** 2)
        assert phases[name].dsc_engine.mean == pytest.approx(dice)
        assert phases[name].dsc_baseline.mean == 100
        assert phases[name].dsc_drift.mean == pytest.approx(100 - dice)
        assert np.isnan(phases[name].ef_drift.mean)


def test_what_nothing_is_known_of_is_no_kind(make_clip: MakeClip, baseline: Network) -> None:
    clip = replace(make_clip(truth=False), quality=None, ed_index=None, es_index=None)

    assert subgroups(measure_accuracy(baseline, baseline, [clip]).rows) == {}
    assert subgroups([]) == {}


@pytest.mark.parametrize(
    ("truth", "measured", "expected"),
    [
        (34.9, 60, "below 35 %"),
        (35, 60, "35 to 40 %"),
        (40, 60, "40 to 50 %"),
        (50, 60, "50 % and above"),
        (np.nan, 39.9, "35 to 40 %"),
        (np.nan, np.nan, "unknown"),
    ],
)
def test_a_range_is_of_the_truth_else_of_the_baseline(
    rows: list[ClipRow], truth: float, measured: float, expected: str
) -> None:
    assert ef_range(replace(rows[0], ef_truth=truth, ef_baseline=measured)) == expected


def test_ranges_come_in_their_order(rows: list[ClipRow]) -> None:
    ranges = [replace(row, ef_truth=ef) for row, ef in zip(rows, (55, 45, 36, 20), strict=False)]

    assert list(subgroups(ranges)["ef"]) == [
        "below 35 %",
        "35 to 40 %",
        "40 to 50 %",
        "50 % and above",
    ]
