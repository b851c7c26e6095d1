"""What is chosen inside a budget, and what is said where nothing is."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkecho_edge.errors import UsageError
from pkecho_edge.tuning.search import (
    Budget,
    Candidate,
    Scored,
    check_ratios,
    choose,
    closest,
    judged,
    pareto_front,
    shortfall,
)

BUDGET = Budget(max_dsc_drop=0.5, max_ef_drift=1.0)


def scored(
    ratio: float, fps: float | None, dsc: float, ef: float = 0.1, budget: Budget = BUDGET
) -> Scored:
    row = Scored(Candidate(ratio), 10.0, dsc - 0.1, dsc, ef, fps=fps)
    return replace(row, breaks=judged(row, budget))


def test_the_fastest_inside_the_budget_is_chosen_and_the_reason_says_what_was_not() -> None:
    rows = [scored(0, 100, 0.1), scored(0.5, 200, 0.4), scored(0.8, 400, 0.7)]

    choice = choose(rows, BUDGET)

    assert choice.chosen == rows[1]
    assert "-50 % INT8/f32 is the fastest of 2 inside the budget" in choice.reason
    assert "the next, unpruned INT8/f32, gives 100 frames/s" in choice.reason
    assert "-80 % INT8/f32 is faster but out: DSC drift 0.7 > 0.5 points" in choice.reason


def test_of_equally_fast_ones_the_one_that_drifts_less_is_chosen() -> None:
    rows = [scored(0.5, 200, 0.4), scored(0.6, 200, 0.2)]

    assert choose(rows, BUDGET).chosen == rows[1]


def test_on_the_limit_is_inside() -> None:
    assert scored(0.5, 60, 0.5, 1.0, Budget(0.5, 1.0, 60)).inside


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (scored(0, 100, 0.51), "DSC drift 0.51 > 0.5 points"),
        (scored(0, 100, 0.1, 1.25), "EF drift 1.25 > 1 points"),
        (scored(0, 100, math.nan), "DSC drift not measured"),
        (scored(0, 100, 0.1, math.nan), "EF drift not measured"),
        (scored(0, 50, 0.1, budget=Budget(min_fps=60)), "50 < 60 frames/s"),
    ],
)
def test_each_line_of_the_budget_is_named_where_it_is_broken(row: Scored, line: str) -> None:
    assert row.breaks == (line,)
    assert choose([row], BUDGET).chosen is None


def test_what_verification_ruled_out_is_not_chosen_again() -> None:
    rows = [
        scored(0, 100, 0.1),
        replace(scored(0.5, 200, 0.4), ruled_out="dsc_drift (stream) 0.6 points, limit <= 0.5"),
    ]

    choice = choose(rows, BUDGET)

    assert choice.chosen == rows[0]
    assert "-50 % INT8/f32 is faster but out: verification: dsc_drift (stream)" in choice.reason


def test_a_fault_keeps_an_engine_out_whatever_its_drift() -> None:
    row = replace(scored(0, 100, 0.1), faults=("the engine gives no EF on 2 clips",))
    row = replace(row, breaks=judged(row, BUDGET))

    assert choose([row], BUDGET).chosen is None
    assert shortfall(row, BUDGET) == math.inf


def test_where_nothing_fits_the_closest_is_named_with_what_it_breaks() -> None:
    rows = [
        scored(0.9, 900, 5.0),
        scored(0.5, 200, 0.6),  # a fifth beyond
        scored(0.6, 220, 0.1, 1.5),  # half beyond
        Scored(Candidate(0.99), failed="ratio 0.99 is out of reach"),
    ]

    choice = choose(rows, BUDGET)

    assert choice.chosen is None
    assert closest(rows, BUDGET) == rows[1]
    assert "closest came -50 % INT8/f32 with 200 frames/s" in choice.reason
    assert choice.reason.endswith("DSC drift 0.6 > 0.5 points")


def test_the_closest_may_be_one_that_is_only_too_slow() -> None:
    budget = Budget(min_fps=110)
    rows = [scored(0, 100, 0.1, budget=budget), scored(0.8, 400, 0.7, budget=budget)]

    assert closest(rows, budget) == rows[0]


def test_nothing_comes_of_nothing() -> None:
    failed = Scored(Candidate(0.99), failed="ratio 0.99 is out of reach")
    for rows in ([], [failed]):
        assert choose(rows, BUDGET).chosen is None
        assert "no candidate could be measured" in choose(rows, BUDGET).reason
        assert closest(rows, BUDGET) is None
        assert pareto_front(rows) == ()


def test_the_front_holds_those_than_which_none_is_better_in_both() -> None:
    slow, dominated, middle, fast = (
        scored(0, 100, 0.1),
        scored(0.2, 150, 0.4),
        scored(0.5, 200, 0.3),
        scored(0.8, 400, 0.7),
    )

    assert pareto_front([fast, dominated, slow, middle]) == (slow, middle, fast)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(-3, 9)), max_size=12))
def test_no_candidate_beats_the_front(points: list[tuple[int, int]]) -> None:
    rows = [scored(i / 100, fps, dsc) for i, (fps, dsc) in enumerate(points)]

    front = pareto_front(rows)

    for fps, dsc in points:
        assert any((f.fps or 0) >= fps and f.dsc_drift_high <= dsc for f in front)
    for one, other in pairwise(front):
        assert (one.fps or 0) < (other.fps or 0)
        assert one.dsc_drift_high < other.dsc_drift_high


@pytest.mark.parametrize("limits", [(0.0, 1.0, None), (0.5, -1.0, None), (0.5, 1.0, 0.0)])
def test_a_budget_of_nothing_is_refused(limits: tuple[float, float, float | None]) -> None:
    with pytest.raises(UsageError, match="Give a number above 0"):
        Budget(*limits)


def test_ratios_are_tried_once_each_from_the_mildest() -> None:
    assert check_ratios([0.8, 0.0, 0.8]) == (0.0, 0.8)


@pytest.mark.parametrize("ratios", [[], [1.0], [-0.1], [math.nan]])
def test_impossible_ratios_are_refused(ratios: list[float]) -> None:
    with pytest.raises(UsageError, match="ratio"):
        check_ratios(ratios)


def test_a_row_is_json_with_null_where_nothing_was_measured() -> None:
    candidate = Candidate(given=Path("elsewhere/small.safetensors"), float_precision="bf16")

    document = Scored(candidate, failed="it is damaged").as_dict()

    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["label"] == "small INT8/bf16"
    assert document["ratio"] is document["fps"] is document["dsc_drift_high"] is None
