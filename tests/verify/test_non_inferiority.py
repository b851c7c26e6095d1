"""Shown, not shown, and nothing to say: an interval against a margin."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from pkecho_edge.data.clip import Clip
from pkecho_edge.verify.accuracy import AccuracyResult, measure_accuracy, summarize_rows
from pkecho_edge.verify.gates import DEFAULT_LIMITS
from pkecho_edge.verify.non_inferiority import non_inferiority


def test_an_engine_like_the_baseline_is_not_worse(unchanged: AccuracyResult) -> None:
    found = {each.metric: each for each in non_inferiority(unchanged, DEFAULT_LIMITS)}

    assert list(found) == ["dsc", "hd95", "ef_error"]
    assert [(each.loss, each.shown) for each in found.values()] == [(0, True)] * 3
    assert [each.margin for each in found.values()] == [0.5, 1.0, 1.0]
    assert [each.n_patients for each in found.values()] == [5, 5, 5]


def test_an_engine_that_erodes_is(degraded: AccuracyResult) -> None:
    found = {each.metric: each for each in non_inferiority(degraded, DEFAULT_LIMITS)}

    assert found["dsc"].shown is False
    assert found["dsc"].worst_end == degraded.drift.dsc.high
    assert found["hd95"].loss == -degraded.drift.hd95_px.mean > 0


def test_the_end_must_lie_below_the_margin_itself(degraded: AccuracyResult) -> None:
    end = degraded.drift.dsc.high

    at, above = (
        non_inferiority(degraded, {**DEFAULT_LIMITS, "dsc_drift": margin})[0]
        for margin in (end, end + 1e-9)
    )

    assert (at.shown, above.shown) == (False, True)


def test_an_ef_that_is_off_to_the_other_side_of_the_truth_is_no_loss(
    unchanged: AccuracyResult,
) -> None:
    rows = [
        replace(row, ef_truth=50, ef_baseline=52, ef_engine=48.5 if index else 55)
        for index, row in enumerate(unchanged.rows)
    ]

    ef = non_inferiority(summarize_rows(rows), DEFAULT_LIMITS)[2]

    # 1.5 from the truth instead of 2, and once 5
    assert ef.loss == pytest.approx((3 - 4 * 0.5) / 5)


def test_three_patients_or_no_truth_show_nothing(
    make_clip: Callable[..., Clip], baseline: Callable[..., object]
) -> None:
    few = [make_clip(f"p{index}") for index in range(3)]
    blind = [make_clip(f"p{index}", truth=False) for index in range(5)]

    for clips, counted in ((few, 3), (blind, 0)):
        accuracy = measure_accuracy(baseline, baseline, clips)  # type: ignore[arg-type] # a fixture
        found = non_inferiority(accuracy, DEFAULT_LIMITS)
        assert [(each.shown, each.n_patients) for each in found] == [(None, counted)] * 3


def test_what_the_engine_alone_cannot_give_is_not_shown(unchanged: AccuracyResult) -> None:
    lost = [replace(row, ef_engine=float("nan")) for row in unchanged.rows[:1]]
    blind = [replace(row, empty_engine=1) for row in unchanged.rows[:1]]
    others = list(unchanged.rows[1:])

    without_ef = non_inferiority(summarize_rows([*lost, *others]), DEFAULT_LIMITS)
    without_mask = non_inferiority(summarize_rows([*blind, *others]), DEFAULT_LIMITS)

    assert [each.shown for each in without_ef] == [True, True, False]
    assert [each.shown for each in without_mask] == [True, False, True]


def test_no_loss_is_not_written_as_minus_nothing(unchanged: AccuracyResult) -> None:
    hd95 = non_inferiority(unchanged, DEFAULT_LIMITS)[1]

    assert math.copysign(1, hd95.loss) == 1
