"""The picture of a search, looked at through the figure that is saved."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pkecho_edge.figures import empty_figure
from pkecho_edge.tuning import pareto
from pkecho_edge.tuning.search import Budget, Candidate, Scored, choose, judged

BUDGET = Budget(0.5, 1.0, 60)

Drawn = Callable[..., Figure]


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Draw, and look at the figure."""
    figures: list[Figure] = []

    def keep(width: float, height: float) -> Figure:
        figures.append(empty_figure(width, height))
        return figures[-1]

    monkeypatch.setattr(pareto, "empty_figure", keep)

    def draw(rows: list[Scored], budget: Budget = BUDGET) -> Figure:
        chosen = choose(rows, budget).chosen
        pareto.draw_pareto(rows, budget, chosen and chosen.candidate, tmp_path / "pareto.png")
        assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")
        return figures[-1]

    return draw


def candidates() -> list[Scored]:
    """A dozen, some of them next to each other, one far out, one that failed."""
    found = [Scored(Candidate(0.99), failed="out of reach")]
    for ratio, fps, drift in ((0, 170, 0.05), (0.5, 260, 0.2), (0.8, 430, 0.35), (0.9, 700, 3)):
        for step, kind in enumerate(("int8", "mixed", "float")):
            candidate = Candidate(ratio, quantization=kind)  # type: ignore[arg-type]
            high = drift - 0.01 * step
            found.append(Scored(candidate, 10.0, high, high, 0.1, fps=fps / (1 + 0.02 * step)))
    return [replace(row, breaks=judged(row, BUDGET)) for row in found]


def test_every_measured_candidate_has_its_label_and_none_hides_another(drawn: Drawn) -> None:
    rows = candidates()

    (axis,) = drawn(rows).axes

    assert {text.get_text() for text in axis.texts} == {
        row.candidate.label for row in rows if row.measured
    }
    boxes = [Text.get_window_extent(text) for text in axis.texts]
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)


def test_the_chosen_one_stands_out_and_the_front_leads_through_it(drawn: Drawn) -> None:
    rows = candidates()
    chosen = choose(rows, BUDGET).chosen
    assert chosen is not None

    (axis,) = drawn(rows).axes

    (bold,) = [text.get_text() for text in axis.texts if text.get_weight() == "bold"]
    assert bold == chosen.candidate.label
    (front,) = [line for line in axis.lines if line.get_label() == "Pareto front"]
    assert (chosen.fps, chosen.dsc_drift_high) in zip(*front.get_data(), strict=True)


def test_the_budget_is_in_sight(drawn: Drawn) -> None:
    (axis,) = drawn(candidates()).axes

    low, high = axis.get_ylim()
    assert low < BUDGET.max_dsc_drop < high
    left, right = axis.get_xlim()
    assert BUDGET.min_fps is not None
    assert left < BUDGET.min_fps < right
    assert "DSC drift up to 0.5" in axis.get_title(loc="left")


def test_a_drift_that_is_far_out_does_not_flatten_the_others(drawn: Drawn) -> None:
    rows = candidates()
    rows.append(replace(rows[-1], candidate=Candidate(0.95), dsc_drift_high=60.0))

    (axis,) = drawn(rows).axes

    bottom, limit, top = axis.transData.transform([(60, 0), (60, 0.5), (60, 60)])[:, 1]
    assert limit - bottom > 0.15 * (top - bottom)


@pytest.mark.parametrize("rows", [[], [Scored(Candidate(0.99), math.nan, failed="out of reach")]])
def test_a_search_without_figures_still_has_a_picture(drawn: Drawn, rows: list[Scored]) -> None:
    (axis,) = drawn(rows, Budget()).axes

    assert list(axis.texts) == []
