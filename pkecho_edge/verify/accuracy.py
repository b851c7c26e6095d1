"""How far the engine has drifted from the baseline, on the same clips.

Each clip goes through both, alone (a clip's result would depend on its batch mates), is scored
and forgotten: only its row stays. Figures over clips carry a 95 % interval from a bootstrap over
patients, never over frames or clips, which resemble each other within a patient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import EnvironmentMismatch, UnusableInput
from pkecho_edge.metrics.agreement import (
    BlandAltman,
    bland_altman,
    bootstrap_mean_interval,
    pearson_r,
)
from pkecho_edge.verify.gallery import N_WORST, Gallery, how_bad
from pkecho_edge.verify.scores import ClipRow, score_clip

__all__ = ["INTERVAL_CONVENTION", "AccuracyResult", "Agreement", "ClipRow", "Drift"]
__all__ += ["Scored", "SideAccuracy", "Summary", "measure_accuracy", "segment", "summarize"]
__all__ += ["summarize_rows"]

SegmentClip: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""u8 [T, 1, H, W] -> logits f32 [T, 1, H, W]."""

INTERVAL_CONVENTION = "95 % percentile cluster bootstrap over patients, 2000 resamples, seed 0"

Watch: TypeAlias = Callable[[Clip, NDArray[np.float32], NDArray[np.float32]], None]
"""Sees a clip with the baseline's and the engine's logits, f32 [T, 1, H, W] each."""


class Scored(Protocol):
    """A row of figures: of what, and of whom."""

    @property
    def identifier(self) -> str: ...
    @property
    def patient(self) -> str: ...
    @property
    def source(self) -> str: ...


@dataclass(frozen=True)
class Summary:
    """One figure over the clips that have it.

    Attributes:
        mean: over clips; nan for none.
        low, high: 95 % interval of the mean; nan with fewer than two patients.
        unit: of all values here.
        worst, worst_clip: the value that speaks most against the side or engine, and its clip.
        n_clips, n_patients: that count.
    """

    mean: float
    low: float
    high: float
    unit: str
    worst: float
    worst_clip: str | None
    n_clips: int
    n_patients: int


@dataclass(frozen=True)
class SideAccuracy:
    """Baseline or engine against the truth.

    Attributes:
        dsc: percent. hd95, asd: mm or pixels. ef_error: |EF - truth| in points.
        ef_bias: EF minus truth in points, one value per patient (mean of the patient's clips),
            with limits of agreement. ef_pearson_r: of the same values.
        empty_frames: frames, labelled or not, on which it finds no ventricle.
    """

    dsc: Summary
    hd95: Summary
    asd: Summary
    ef_error: Summary
    ef_bias: BlandAltman
    ef_pearson_r: float
    empty_frames: int


@dataclass(frozen=True)
class Drift:
    """Baseline minus engine, clip by clip.

    Attributes:
        dsc: points; above 0 the engine is worse. hd95, asd: mm or pixels; below 0 the engine is
            worse. hd95_px: in pixels at the clips' size, over all of them. ef: |baseline - engine|
            in points, truth or not.
    """

    dsc: Summary
    hd95: Summary
    asd: Summary
    hd95_px: Summary
    ef: Summary

    @property
    def hd95_px_worse_end(self) -> float:
        """How far the engine's border is off more than the baseline's, at the end of the 95 %
        interval at which it is worse; above 0 it is worse."""
        return 0.0 - self.hd95_px.low


@dataclass(frozen=True)
class Agreement:
    """Engine against baseline on all frames, in percent; needs no truth."""

    dsc: Summary
    pixel_disagreement: Summary


@dataclass(frozen=True)
class AccuracyResult:
    """Rows, one per clip in the order given, and what they say together."""

    rows: tuple[ClipRow, ...]
    baseline: SideAccuracy
    engine: SideAccuracy
    drift: Drift
    agreement: Agreement

    @property
    def n_clips(self) -> int:
        """Clips, with or without truth; each Summary counts those it rests on."""
        return len(self.rows)

    @property
    def n_patients(self) -> int:
        """Patients, with or without truth."""
        return len(set(_patients(self.rows)))

    @property
    def n_ef_lost(self) -> int:
        """Clips on which the baseline gives an EF and the engine does not."""
        return sum(row.ef_lost for row in self.rows)

    @property
    def ef_agreement(self) -> BlandAltman:
        """Engine's EF minus the baseline's in points, one value per patient; needs no truth."""
        baseline = [row.ef_baseline for row in self.rows]
        engine = [row.ef_engine for row in self.rows]
        return bland_altman(*_ef_per_patient(self.rows, baseline, engine))

    def worst_clips(self, n: int = N_WORST) -> tuple[ClipRow, ...]:
        """The n clips that lose most DSC; those without truth follow, by pixels that differ."""
        return tuple(sorted(self.rows, key=how_bad, reverse=True)[:n])


def measure_accuracy(
    baseline: SegmentClip,
    engine: SegmentClip,
    clips: Iterable[Clip],
    progress: Callable[[ClipRow], None] | None = None,
    gallery: Gallery | None = None,
    watch: Watch | None = None,
) -> AccuracyResult:
    """Run both on every clip and compare.

    Args:
        baseline, engine: u8 [T, 1, H, W] -> logits f32 [T, 1, H, W], one clip per call.
        clips: drawn one at a time and not kept, so a generator over a large dataset is fine.
            No clips at all: every figure is nan and every count 0.
        progress: called with each clip's row once it is there.
        gallery: keeps one frame of each of the worst clips; it changes no figure.
        watch: called with each clip and both sides' logits before they are forgotten.

    Raises:
        EnvironmentMismatch: one of them returns another shape than the clip has.
        UnusableInput: a clip comes twice, its truth does not fit its frames, or the baseline's
            logits are not finite. The engine's may be: that is a finding, and fails a gate.
    """
    rows: list[ClipRow] = []
    seen: set[str] = set()
    for clip in clips:
        if clip.identifier in seen:
            raise UnusableInput(
                f"clip {clip.identifier!r} is given twice", remedy="Give each clip once"
            )
        seen.add(clip.identifier)
        logits = segment(baseline, "baseline", clip), segment(engine, "engine", clip)
        row = score_clip(clip, *logits)
        rows.append(row)
        if gallery is not None:
            gallery.offer(clip, row, *logits)
        if watch is not None:
            watch(clip, *logits)
        if progress is not None:
            progress(row)
    return summarize_rows(rows)


def segment(network: SegmentClip, name: str, clip: Clip) -> NDArray[np.float32]:
    """Logits f32 [T, 1, H, W] of one clip.

    Raises:
        EnvironmentMismatch: they have another shape than the clip; `name` says whose they are.
    """
    logits = np.asarray(network(clip.frames))
    if logits.shape != clip.frames.shape:
        raise EnvironmentMismatch(
            f"the {name} returns {logits.shape} for clip {clip.identifier!r} of "
            f"{clip.frames.shape}",
            remedy="Prepare the clips at the size and length it was built for",
        )
    return logits


def summarize_rows(rows: Sequence[ClipRow]) -> AccuracyResult:
    """What the rows say together.

    HD95 and ASD are in mm over the clips whose spacing is known; only where it is known for none
    are they in pixels, over all. The two are never mixed.
    """
    unit = "mm" if any(row.distance_unit == "mm" for row in rows) else "px"
    return AccuracyResult(
        rows=tuple(rows),
        baseline=_side(rows, "baseline", unit),
        engine=_side(rows, "engine", unit),
        drift=Drift(
            dsc=summarize(rows, [r.dsc_drift for r in rows], "points", "highest"),
            hd95=_distance(rows, [r.hd95_drift for r in rows], unit, "lowest"),
            asd=_distance(rows, [r.asd_drift for r in rows], unit, "lowest"),
            hd95_px=summarize(rows, [r.hd95_px_drift for r in rows], "px", "lowest"),
            ef=summarize(rows, [r.ef_drift for r in rows], "points", "highest"),
        ),
        agreement=Agreement(
            dsc=summarize(rows, [r.agreement_dsc for r in rows], "%", "lowest"),
            pixel_disagreement=summarize(
                rows, [r.pixel_disagreement for r in rows], "% of pixels", "highest"
            ),
        ),
    )


def _side(rows: Sequence[ClipRow], side: Literal["baseline", "engine"], unit: str) -> SideAccuracy:
    """One side against the truth."""

    def column(name: str) -> list[float]:
        return [float(getattr(row, f"{name}_{side}")) for row in rows]

    truth = [row.ef_truth for row in rows]
    errors = [abs(ef - true) for ef, true in zip(column("ef"), truth, strict=True)]
    per_patient = _ef_per_patient(rows, truth, column("ef"))
    return SideAccuracy(
        dsc=summarize(rows, column("dsc"), "%", "lowest"),
        hd95=_distance(rows, column("hd95"), unit, "highest"),
        asd=_distance(rows, column("asd"), unit, "highest"),
        ef_error=summarize(rows, errors, "points", "highest"),
        ef_bias=bland_altman(*per_patient),
        ef_pearson_r=pearson_r(*per_patient),
        empty_frames=int(sum(column("empty"))),
    )


def _ef_per_patient(
    rows: Sequence[ClipRow], reference: Sequence[float], ef: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Mean EF of each patient's clips that have both, as (reference, ef)."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for patient, *pair in zip(_patients(rows), reference, ef, strict=True):
        if all(math.isfinite(value) for value in pair):
            pairs.setdefault(patient, []).append((pair[0], pair[1]))
    means = [np.mean(values, axis=0) for values in pairs.values()]
    return [float(mean[0]) for mean in means], [float(mean[1]) for mean in means]


def _distance(
    rows: Sequence[ClipRow], values: Sequence[float], unit: str, worst: Literal["lowest", "highest"]
) -> Summary:
    """A summary over the clips whose distances are in this unit."""
    kept = [
        value if row.distance_unit == unit else math.nan
        for row, value in zip(rows, values, strict=True)
    ]
    return summarize(rows, kept, unit, worst)


def summarize(
    rows: Sequence[Scored],
    values: Sequence[float],
    unit: str,
    worst: Literal["lowest", "highest"],
) -> Summary:
    """Mean, interval over patients and worst clip of one value per row; nan ones do not count."""
    interval = bootstrap_mean_interval(list(values), _patients(rows))
    counted = [
        (v, row.identifier) for v, row in zip(values, rows, strict=True) if not math.isnan(v)
    ]
    pick = min if worst == "lowest" else max
    extreme, clip = pick(counted, key=lambda pair: pair[0]) if counted else (math.nan, None)
    return Summary(
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        unit=unit,
        worst=extreme,
        worst_clip=clip,
        n_clips=interval.n,
        n_patients=interval.n_groups,
    )


def _patients(rows: Sequence[Scored]) -> list[str]:
    """Who was scanned; two datasets may number their patients alike."""
    return [f"{row.source}/{row.patient}" for row in rows]
