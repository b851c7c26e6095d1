"""Whether it is shown that the engine is not worse than the baseline by more than a margin.

The absence of a significant difference shows nothing: a small study finds none either. What shows
it is an interval that ends before the margin, and the margin is set beforehand: it is the gate's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pkecho_edge.verify.accuracy import AccuracyResult, summarize
from pkecho_edge.verify.gates import MIN_PATIENTS

__all__ = ["NON_INFERIORITY_RULE", "NonInferiority", "non_inferiority"]

NON_INFERIORITY_RULE = (
    "shown where the interval's end at which the engine is worse lies below the margin: one-sided, "
    "2.5 %; the margin is the gate's limit. EF: by how much the engine is farther from the truth. "
    "Not shown where the engine alone has no mask or no EF"
)


@dataclass(frozen=True)
class NonInferiority:
    """One metric against the truth.

    Attributes:
        metric: "dsc", "hd95" or "ef_error". margin, unit: of the loss.
        loss: how much worse the engine is on average, below 0 better; worst_end: end of the 95 %
            interval at which it is worse. nan without truth.
        n_clips, n_patients: that count.
        shown: None where there are too few patients for an interval; False where the engine alone
            has no mask on a frame (HD95) or no EF.
    """

    metric: str
    margin: float
    unit: str
    loss: float
    worst_end: float
    n_clips: int
    n_patients: int
    shown: bool | None


def non_inferiority(
    accuracy: AccuracyResult, limits: Mapping[str, float]
) -> tuple[NonInferiority, ...]:
    """DSC, HD95 in pixels, and error of EF, in this order.

    Args:
        accuracy: of one mode.
        limits: of the gates `dsc_drift`, `hd95_drift` and `ef_drift`: the margins.
    """
    drift, rows = accuracy.drift, accuracy.rows
    further = [abs(r.ef_engine - r.ef_truth) - abs(r.ef_baseline - r.ef_truth) for r in rows]
    ef = summarize(rows, further, "points", "highest")
    # what only the engine cannot give is a loss that no mean over the others shows
    border_lost = any(row.empty_engine > row.empty_baseline for row in rows)
    ef_lost = bool(accuracy.n_ef_lost)
    found = (
        ("dsc", "dsc_drift", drift.dsc, drift.dsc.mean, drift.dsc.high, False),
        (
            *("hd95", "hd95_drift", drift.hd95_px, 0.0 - drift.hd95_px.mean),
            *(drift.hd95_px_worse_end, border_lost),
        ),
        ("ef_error", "ef_drift", ef, ef.mean, ef.high, ef_lost),
    )
    return tuple(
        NonInferiority(
            metric=metric,
            margin=limits[gate],
            unit=summary.unit,
            loss=loss,
            worst_end=end,
            n_clips=summary.n_clips,
            n_patients=summary.n_patients,
            shown=False if lost else _shown(end, limits[gate], summary.n_patients),
        )
        for metric, gate, summary, loss, end, lost in found
    )


def _shown(end: float, margin: float, n_patients: int) -> bool | None:
    """None where nothing can be said."""
    return None if n_patients < MIN_PATIENTS or math.isnan(end) else end < margin
