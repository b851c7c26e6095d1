"""Who would be told something else: ejection fractions that the engine puts on another side of a
threshold that treatment hangs on.

A drift of half a point is nothing, except where it carries a patient across 40 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pkecho_edge.verify.scores import ClipRow

__all__ = ["EF_CATEGORY_RULE", "THRESHOLDS", "EfCategory", "ef_categories"]

THRESHOLDS = (35, 40, 50)
"""Percent: implantable defibrillators are considered up to 35, and heart failure is called reduced
up to 40 and mildly reduced below 50 (ESC guidelines on heart failure, 2021). One rule for all:
smaller than. A measured EF is hardly ever the threshold itself."""

EF_CATEGORY_RULE = (
    "one EF per patient, the mean of the clips that have one on both sides; below means smaller "
    "than the threshold"
)


@dataclass(frozen=True)
class EfCategory:
    """One threshold.

    Attributes:
        threshold: percent.
        n_patients: with an EF on both sides.
        baseline_below, engine_below: of these, below it.
        to_below, to_above: whom the engine puts on the other side than the baseline does.
        n_truth: patients whose true EF is known too. baseline_wrong, engine_wrong: of these, on
            the other side than the truth.
    """

    threshold: int
    n_patients: int
    baseline_below: int
    engine_below: int
    to_below: int
    to_above: int
    n_truth: int
    baseline_wrong: int
    engine_wrong: int

    @property
    def flips(self) -> int:
        """Patients whose category changes."""
        return self.to_below + self.to_above


def ef_categories(rows: Sequence[ClipRow]) -> tuple[EfCategory, ...]:
    """Category changes at every threshold; all counts are 0 where no clip has an EF."""
    patients: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for row in rows:
        if math.isfinite(row.ef_baseline) and math.isfinite(row.ef_engine):
            efs = (row.ef_truth, row.ef_baseline, row.ef_engine)
            patients.setdefault((row.source, row.patient), []).append(efs)
    # a truth that is known for some of a patient's clips only is not that patient's
    means = np.array([np.mean(efs, axis=0) for efs in patients.values()]).reshape(-1, 3)
    return tuple(_at(threshold, *means.T) for threshold in THRESHOLDS)


def _at(threshold: int, truth: np.ndarray, baseline: np.ndarray, engine: np.ndarray) -> EfCategory:
    """EFs in percent [P] each; the truth nan where it is not known."""
    known = ~np.isnan(truth)
    ours, theirs, true = (ef < threshold for ef in (baseline, engine, truth))
    return EfCategory(
        threshold=threshold,
        n_patients=len(baseline),
        baseline_below=int(ours.sum()),
        engine_below=int(theirs.sum()),
        to_below=int((theirs & ~ours).sum()),
        to_above=int((ours & ~theirs).sum()),
        n_truth=int(known.sum()),
        baseline_wrong=int((ours != true)[known].sum()),
        engine_wrong=int((theirs != true)[known].sum()),
    )
