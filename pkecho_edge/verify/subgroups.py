"""The same figures on parts of the data: a mean can hide that one kind of picture suffers.

Groups are looked at after the fact and many at a time, so a single bad one may be chance: that is
why each has its interval, and none has a gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pkecho_edge.verify.accuracy import Summary, summarize
from pkecho_edge.verify.ef_categories import THRESHOLDS
from pkecho_edge.verify.scores import ClipRow

__all__ = ["SUBGROUP_RULE", "UNKNOWN", "Subgroup", "ef_range", "subgroups"]

UNKNOWN = "unknown"
SUBGROUP_RULE = (
    "chosen beforehand, not corrected for their number; EF range by the truth, where there is none "
    "by the baseline; a phase counts its own frames alone"
)


@dataclass(frozen=True)
class Subgroup:
    """Some of the clips, or one phase of them.

    Attributes:
        n_clips, n_patients: in the group, with truth or without.
        dsc_baseline, dsc_engine: percent, against the truth.
        dsc_drift, ef_drift: points, as `accuracy.Drift`; a phase has no EF of its own.
    """

    n_clips: int
    n_patients: int
    dsc_baseline: Summary
    dsc_engine: Summary
    dsc_drift: Summary
    ef_drift: Summary


def subgroups(rows: Sequence[ClipRow]) -> dict[str, dict[str, Subgroup]]:
    """By image quality, phase, view and EF range; each kind's groups by name.

    Args:
        rows: one per clip; none give no group at all. A kind of which nothing is known in any clip
            is left out, and so is a phase without a labelled frame.
    """
    kinds: dict[str, dict[str, Subgroup]] = {
        "quality": _grouped(rows, lambda row: row.quality or UNKNOWN),
        "phase": _phases(rows),
        "view": _grouped(rows, lambda row: row.view or UNKNOWN),
        "ef": _grouped(rows, ef_range),
    }
    return {kind: groups for kind, groups in kinds.items() if set(groups) - {UNKNOWN}}


def ef_range(row: ClipRow) -> str:
    """For example "40 to 50 %", of the truth, else of the baseline; UNKNOWN without either."""
    ef = row.ef_baseline if math.isnan(row.ef_truth) else row.ef_truth
    if math.isnan(ef):
        return UNKNOWN
    below = [threshold for threshold in THRESHOLDS if ef >= threshold]
    above = [threshold for threshold in THRESHOLDS if ef < threshold]
    if not below:
        return f"below {above[0]} %"
    return f"{below[-1]} to {above[0]} %" if above else f"{below[-1]} % and above"


def _grouped(rows: Sequence[ClipRow], kind: Callable[[ClipRow], str]) -> dict[str, Subgroup]:
    """The clips of each kind, by its name."""
    members: dict[str, list[ClipRow]] = {}
    for row in rows:
        members.setdefault(kind(row), []).append(row)
    return {
        name: _subgroup(
            members[name],
            [row.dsc_baseline for row in members[name]],
            [row.dsc_engine for row in members[name]],
            [row.ef_drift for row in members[name]],
        )
        for name in sorted(members, key=_ascending)
    }


def _ascending(name: str) -> tuple[bool, bool, str]:
    """By name, what lies below everything first, and what is unknown last."""
    return name == UNKNOWN, not name.startswith("below"), name


def _phases(rows: Sequence[ClipRow]) -> dict[str, Subgroup]:
    """Labelled frames at end-diastole, and at end-systole."""
    found = {}
    for phase in ("ED", "ES"):
        scored = [
            (row, row.frame_dsc_baseline[index], row.frame_dsc_engine[index])
            for row in rows
            for index, name in enumerate(row.frame_phases)
            if name == phase
        ]
        if scored:
            members, ours, theirs = (list(column) for column in zip(*scored, strict=True))
            found[phase] = _subgroup(members, ours, theirs, [math.nan] * len(members))
    return found


def _subgroup(
    rows: Sequence[ClipRow],
    dsc_baseline: Sequence[float],
    dsc_engine: Sequence[float],
    ef_drift: Sequence[float],
) -> Subgroup:
    drift = [ours - theirs for ours, theirs in zip(dsc_baseline, dsc_engine, strict=True)]
    return Subgroup(
        n_clips=len(rows),
        n_patients=len({(row.source, row.patient) for row in rows}),
        dsc_baseline=summarize(rows, dsc_baseline, "%", "lowest"),
        dsc_engine=summarize(rows, dsc_engine, "%", "lowest"),
        dsc_drift=summarize(rows, drift, "points", "highest"),
        ef_drift=summarize(rows, ef_drift, "points", "highest"),
    )
