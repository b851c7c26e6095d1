"""How good a network is on a dataset: the row of the paper's Table 1, and what lies behind it.

Each clip goes through every network alone (a clip's result would depend on its batch mates), is
scored against its truth and forgotten: only its scores stay. Drift of an engine from its baseline
is another question, answered in `accuracy.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput, UsageError
from pkecho_edge.metrics.agreement import BlandAltman, bland_altman, pearson_r
from pkecho_edge.metrics.significance import TestResult, rank_sum, signed_rank
from pkecho_edge.verify.accuracy import SegmentClip, segment
from pkecho_edge.verify.ef_methods import EF_METHODS, EfPair, StudyEf, biplane_studies
from pkecho_edge.verify.truth_score import ClipScore, FrameMeans, score_against_truth

__all__ = ["COLUMNS", "FRAME_SETS", "TESTS", "EfAgreement", "Evaluation", "MeanSd", "TableRow"]
__all__ += ["compare", "evaluate"]

FrameSet: TypeAlias = Literal["ed_es", "labelled"]
Column: TypeAlias = Literal["dsc", "hd95", "asd", "ef"]

FRAME_SETS: dict[FrameSet, str] = {"ed_es": "ED and ES", "labelled": "all labelled"}
"""Which frames of a clip count -> name in tables. The paper's labels are ED and ES."""

COLUMNS: tuple[Column, ...] = ("dsc", "hd95", "asd", "ef")
"""What two networks are compared on; "ef" is the single-plane EF's absolute error."""

TESTS = {"signed-rank": signed_rank, "rank-sum": rank_sum}


@dataclass(frozen=True)
class MeanSd:
    """Mean and standard deviation (n - 1) over clips; nan for none, and the SD for one.

    Attributes:
        unit: "%", "mm" or "px".
        n: clips that count.
    """

    mean: float
    sd: float
    unit: str
    n: int


@dataclass(frozen=True)
class EfAgreement:
    """Predicted EF against the truth's by one method, one value per patient.

    Attributes:
        method: key of EF_METHODS.
        pearson_r: -1 to 1; nan with fewer than two patients or where either side is constant.
        bland_altman: bias (predicted minus truth), SD and limits of agreement, in points.
        mean_absolute_error: points; nan for no patient.
        n_lost: clips (biplane: patients) of known EF whose predicted masks give none.
    """

    method: str
    pearson_r: float
    bland_altman: BlandAltman
    mean_absolute_error: float
    n_lost: int


@dataclass(frozen=True)
class TableRow:
    """The row of Table 1, but for its P-value.

    Attributes:
        frames: key of FRAME_SETS.
        dsc, hd95, asd: over clips, each the mean over the clip's frames.
        ef: by single-plane Simpson, the paper's; the same whatever the frames.
        n_frames: that count. n_undefined: of these, without HD95 and ASD.
    """

    frames: FrameSet
    dsc: MeanSd
    hd95: MeanSd
    asd: MeanSd
    ef: EfAgreement
    n_frames: int
    n_undefined: int


@dataclass(frozen=True)
class Evaluation:
    """One network on one dataset.

    Attributes:
        clips: scores in the order the clips were given, with or without truth.
    """

    clips: tuple[ClipScore, ...]

    @cached_property
    def studies(self) -> tuple[StudyEf, ...]:
        """Biplane EF of the patients with both views."""
        return biplane_studies(clip.plane for clip in self.clips if clip.plane is not None)

    @property
    def n_patients(self) -> int:
        """With or without truth."""
        return len({clip.patient for clip in self.clips})

    @property
    def distance_unit(self) -> str:
        """Of HD95 and ASD: mm, over the clips of known spacing, if there is one; else px.

        The two are never mixed.
        """
        return "mm" if any(clip.distance_unit == "mm" for clip in self.clips) else "px"

    def row(self, frames: FrameSet) -> TableRow:
        """Of these frames; nan where no clip has them."""
        means = [_frames_of(clip, frames) for clip in self.clips]
        unit = self.distance_unit
        return TableRow(
            frames=frames,
            dsc=_mean_sd(self._values("dsc", frames), "%"),
            hd95=_mean_sd(self._values("hd95", frames), unit),
            asd=_mean_sd(self._values("asd", frames), unit),
            ef=self.ef("single_plane"),
            n_frames=sum(mean.n_frames for mean in means),
            n_undefined=sum(mean.n_undefined for mean in means),
        )

    def ef(self, method: str) -> EfAgreement:
        """By one method of EF_METHODS.

        A patient with several clips counts once, with the means over them: what comes from one
        heart is not independent.
        """
        pairs = self._ef_pairs(method)
        known = [(p, e) for p, e in pairs if not math.isnan(e.reference)]
        found = [(p, e) for p, e in known if not math.isnan(e.measured)]
        patients = [patient for patient, _ in found]
        truth = list(_per_patient(patients, [e.reference for _, e in found]).values())
        measured = list(_per_patient(patients, [e.measured for _, e in found]).values())
        return EfAgreement(
            method=method,
            pearson_r=pearson_r(truth, measured),
            bland_altman=bland_altman(truth, measured),
            mean_absolute_error=_mean([abs(m - t) for t, m in zip(truth, measured, strict=True)]),
            n_lost=len(known) - len(found),
        )

    def per_patient(self, column: Column, frames: FrameSet) -> dict[str, float]:
        """Patient -> mean of a column over the patient's clips that have it; no nan."""
        patients = [clip.patient for clip in self.clips]
        return _per_patient(patients, self._values(column, frames))

    def _values(self, column: Column, frames: FrameSet) -> list[float]:
        """One per clip; nan where a clip has none in this evaluation's unit."""
        if column == "ef":
            pairs = [clip.ef.get("single_plane") for clip in self.clips]
            return [math.nan if p is None else abs(p.measured - p.reference) for p in pairs]
        values = [getattr(_frames_of(clip, frames), column) for clip in self.clips]
        if column == "dsc":
            return values
        unit = self.distance_unit
        return [
            value if clip.distance_unit == unit else math.nan
            for clip, value in zip(self.clips, values, strict=True)
        ]

    def _ef_pairs(self, method: str) -> list[tuple[str, EfPair]]:
        """(patient, EF), one per clip or, for biplane, per patient."""
        if method not in EF_METHODS:
            raise UsageError(f"{method!r} is not an EF method", remedy=", ".join(EF_METHODS))
        rows: Sequence[ClipScore | StudyEf] = (*self.clips, *self.studies)
        return [(row.patient, row.ef[method]) for row in rows if method in row.ef]


def evaluate(
    networks: Sequence[SegmentClip],
    clips: Iterable[Clip],
    progress: Callable[[], None] = lambda: None,
) -> tuple[Evaluation, ...]:
    """Run networks on the same clips and score each against the truth.

    Args:
        networks: u8 [T, 1, H, W] -> logits f32 [T, 1, H, W] each, one clip per call.
        clips: drawn one at a time and not kept, so a generator over a large dataset is fine.
        progress: called after each clip.

    Returns:
        One per network, in their order.

    Raises:
        EnvironmentMismatch: a network returns another shape than the clip has.
        UnusableInput: no clip has ground truth, one comes twice, or its truth does not fit it.
    """
    scores: list[list[ClipScore]] = [[] for _ in networks]
    seen: set[str] = set()
    n_labelled = 0
    for clip in clips:
        if clip.identifier in seen:
            raise UnusableInput(
                f"clip {clip.identifier!r} is given twice", remedy="Give each clip once"
            )
        seen.add(clip.identifier)
        n_labelled += any(clip.labelled)
        for network, found in zip(networks, scores, strict=True):
            found.append(score_against_truth(clip, segment(network, "network", clip)))
        progress()
    if not n_labelled:
        raise UnusableInput(
            f"none of {len(seen)} clips has ground truth",
            remedy="Evaluate on labelled data; without labels `verify` measures agreement",
        )
    return tuple(Evaluation(tuple(found)) for found in scores)


def compare(
    one: Evaluation, other: Evaluation, frames: FrameSet, test: str = "signed-rank"
) -> dict[Column, TestResult]:
    """P-values of two networks on the same clips, column by column, one value per patient.

    Only patients on whom both have the figure count, under either test. An empty mask has no HD95
    and no ASD, so a network that gives none on a hard patient is spared that patient there; it pays
    in DSC. `TableRow.n_undefined` says how often.

    Args:
        one, other: of the same clips.
        frames: which the DSC, HD95 and ASD are means of.
        test: key of TESTS.

    Raises:
        UsageError: no such test, or the clips differ.
    """
    if test not in TESTS:
        raise UsageError(f"{test!r} is not a test", remedy=f"Use {' or '.join(TESTS)}")
    if [clip.identifier for clip in one.clips] != [clip.identifier for clip in other.clips]:
        raise UsageError("the two were evaluated on different clips", remedy="Use the same data")
    results = {}
    for column in COLUMNS:
        a, b = one.per_patient(column, frames), other.per_patient(column, frames)
        both = [patient for patient in a if patient in b]
        results[column] = TESTS[test]([a[p] for p in both], [b[p] for p in both])
    return results


def _frames_of(clip: ClipScore, frames: FrameSet) -> FrameMeans:
    return clip.ed_es if frames == "ed_es" else clip.labelled


def _per_patient(patients: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Patient -> mean of the values that are not nan, in the order of their first."""
    found: dict[str, list[float]] = {}
    for patient, value in zip(patients, values, strict=True):
        if not math.isnan(value):
            found.setdefault(patient, []).append(value)
    return {patient: _mean(values) for patient, values in found.items()}


def _mean_sd(values: Sequence[float], unit: str) -> MeanSd:
    """Of the values that are not nan."""
    known = [value for value in values if not math.isnan(value)]
    sd = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
    return MeanSd(_mean(known), sd, unit, len(known))


def _mean(values: Sequence[float]) -> float:
    """nan for none."""
    return float(np.mean(values)) if values else math.nan
