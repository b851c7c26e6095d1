"""Patients that the engine puts on another side of a threshold, counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pkecho_edge.data.clip import Clip
from pkecho_edge.verify.ef_categories import EfCategory, ef_categories
from pkecho_edge.verify.scores import ClipRow, score_clip

MakeRow = Callable[..., ClipRow]


@pytest.fixture
def row(make_clip: Callable[..., Clip]) -> MakeRow:
    clip = make_clip()
    logits = np.where(clip.frames > 128, 5, -5).astype(np.float32)

    def make(patient: str, truth: float, baseline: float, engine: float) -> ClipRow:
        scored = score_clip(clip, logits, logits)
        return replace(
            scored, patient=patient, ef_truth=truth, ef_baseline=baseline, ef_engine=engine
        )

    return make


def test_changes_are_counted_with_their_direction(row: MakeRow) -> None:
    rows = [
        row("a", 41, 40.5, 39.5),  # across 40, downwards, away from the truth
        row("b", 36, 34.0, 36.0),  # across 35, upwards, towards the truth
        row("c", 60, 60.0, 61.0),
        row("d", np.nan, 51.0, 49.0),  # across 50; its truth is not known
    ]

    at_35, at_40, at_50 = ef_categories(rows)

    assert at_35 == EfCategory(35, 4, 1, 0, 0, 1, 3, 1, 0)
    assert at_40 == EfCategory(40, 4, 1, 2, 1, 0, 3, 0, 1)
    assert at_50 == EfCategory(50, 4, 2, 3, 1, 0, 3, 0, 0)
    assert (at_35.flips, at_40.flips, at_50.flips) == (1, 1, 1)


def test_a_patient_counts_once_with_the_mean_of_its_clips(row: MakeRow) -> None:
    rows = [row("a", 38, 39, 38), row("a", 44, 43, 43)]  # means 41, 41 and 40.5

    assert ef_categories(rows)[1] == EfCategory(40, 1, 0, 0, 0, 0, 1, 0, 0)


def test_a_clip_without_an_ef_on_both_sides_does_not_count(row: MakeRow) -> None:
    rows = [row("a", 30, np.nan, 30), row("b", 30, 30, np.nan)]

    for nothing in ([], rows):
        assert [each.n_patients for each in ef_categories(nothing)] == [0, 0, 0]


def test_a_threshold_itself_is_not_below(row: MakeRow) -> None:
    assert ef_categories([row("a", 40, 40, 40)])[1].baseline_below == 0
