"""One clip, scored: baseline and engine against the truth and against each other.

Dice and shares of pixels are in percent here and in every report, so that a difference of two is
in points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput
from pkecho_edge.metrics.ejection_fraction import ejection_fraction, lv_volume
from pkecho_edge.metrics.overlap import dice, disagreement
from pkecho_edge.metrics.surface_distance import SurfaceDistances, surface_distances

__all__ = ["EF_CONVENTION", "EMPTY_MASK_RULE", "MASK_RULE", "ClipRow", "score_clip"]

Masks: TypeAlias = NDArray[np.bool_]

MASK_RULE = "logit > 0 (probability above 0.5); no component is removed, nan is background"
EF_CONVENTION = "single-plane Simpson, 20 discs along the principal axis, ED and ES as labelled"
EMPTY_MASK_RULE = (
    "DSC is 100 where both masks are empty and 0 where one is; HD95 and ASD leave out a frame "
    "where truth, baseline or engine is empty and another is not, on both sides; no EF where the "
    "ED or ES mask is empty"
)


@dataclass(frozen=True)
class ClipRow:
    """What one clip gave. nan: not measured or not defined.

    Attributes:
        identifier, recording, patient, source, quality, view, content_sha256: of the clip.
        n_frames, n_labelled: T, and how many of them have ground truth.
        image_size: (H, W).
        distance_unit: of HD95 and ASD, "mm" where the spacing is known, else "px".
        dsc_baseline, dsc_engine: percent, mean over the labelled frames.
        hd95_baseline, hd95_engine, asd_baseline, asd_engine: mean over the labelled frames on
            which both sides have a distance, so that both are means of the same frames.
        hd95_px_baseline, hd95_px_engine: the same in pixels at the clip's size, whatever is known
            of the spacing.
        undefined_distances: labelled frames left out of them.
        ef_truth, ef_baseline, ef_engine: percent; truth only where ED and ES are labelled.
        agreement_dsc: percent, engine against baseline, mean over all frames.
        pixel_disagreement: percent of all pixels of all frames.
        empty_truth: labelled frames without a ventricle. empty_baseline, empty_engine: frames on
            which that side finds none, labelled or not.
        nonfinite_engine: logits of the engine that are nan or infinite.
        frame_dsc_baseline, frame_dsc_engine: percent, one per labelled frame, in time order.
        frame_phases: "ED", "ES" or "", of the same frames.
    """

    identifier: str
    recording: str
    patient: str
    source: str
    quality: str | None
    view: str | None
    content_sha256: str
    n_frames: int
    n_labelled: int
    image_size: tuple[int, int]
    distance_unit: str
    dsc_baseline: float
    dsc_engine: float
    hd95_baseline: float
    hd95_engine: float
    asd_baseline: float
    asd_engine: float
    hd95_px_baseline: float
    hd95_px_engine: float
    undefined_distances: int
    ef_truth: float
    ef_baseline: float
    ef_engine: float
    agreement_dsc: float
    pixel_disagreement: float
    empty_truth: int
    empty_baseline: int
    empty_engine: int
    nonfinite_engine: int
    frame_dsc_baseline: tuple[float, ...] = ()
    frame_dsc_engine: tuple[float, ...] = ()
    frame_phases: tuple[str, ...] = ()

    @property
    def dsc_drift(self) -> float:
        """Baseline minus engine, in points: above 0 the engine is worse."""
        return self.dsc_baseline - self.dsc_engine

    @property
    def hd95_drift(self) -> float:
        """Baseline minus engine, in `distance_unit`: below 0 the engine is worse."""
        return self.hd95_baseline - self.hd95_engine

    @property
    def hd95_px_drift(self) -> float:
        """Baseline minus engine, in pixels: below 0 the engine is worse."""
        return self.hd95_px_baseline - self.hd95_px_engine

    @property
    def asd_drift(self) -> float:
        """Baseline minus engine, in `distance_unit`: below 0 the engine is worse."""
        return self.asd_baseline - self.asd_engine

    @property
    def ef_drift(self) -> float:
        """|baseline - engine|, in points."""
        return abs(self.ef_baseline - self.ef_engine)

    @property
    def ef_lost(self) -> bool:
        """The baseline gives an EF and the engine does not."""
        return math.isfinite(self.ef_baseline) and not math.isfinite(self.ef_engine)


def score_clip(
    clip: Clip, baseline_logits: NDArray[np.float32], engine_logits: NDArray[np.float32]
) -> ClipRow:
    """Score both sides on one clip.

    Args:
        clip: with or without truth; without, only agreement and, where ED and ES are known, the
            EF of both sides are measured.
        baseline_logits, engine_logits: f32 [T, 1, H, W].

    Raises:
        UnusableInput: the baseline's logits are not finite, or the clip's truth and its
            `labelled` do not fit its frames.
    """
    if not np.isfinite(baseline_logits).all():
        raise UnusableInput(
            f"the baseline returns nan or infinite logits on clip {clip.identifier!r}",
            remedy="Check the baseline checkpoint: nothing can be compared with it",
        )
    baseline: Masks = baseline_logits[:, 0] > 0  # [T, H, W]
    engine: Masks = engine_logits[:, 0] > 0  # [T, H, W]
    truth, frames = _truth(clip)
    distances = _distances(clip, truth, baseline[frames], engine[frames])
    dsc_baseline, dsc_engine = (
        100 * dice(truth, baseline[frames]),
        100 * dice(truth, engine[frames]),
    )
    labelled_ed_es = {clip.ed_index, clip.es_index} <= set(frames.tolist())
    all_truth = clip.truth if labelled_ed_es else None
    phases = {clip.ed_index: "ED", clip.es_index: "ES"}
    return ClipRow(
        identifier=clip.identifier,
        recording=clip.recording,
        patient=clip.patient,
        source=clip.source,
        quality=clip.quality,
        view=clip.view,
        content_sha256=clip.content_sha256,
        n_frames=len(clip.frames),
        n_labelled=len(frames),
        image_size=(clip.frames.shape[2], clip.frames.shape[3]),
        distance_unit="px" if clip.spacing_mm is None else "mm",
        dsc_baseline=_mean(dsc_baseline),
        dsc_engine=_mean(dsc_engine),
        hd95_baseline=_mean(distances.baseline.hd95),
        hd95_engine=_mean(distances.engine.hd95),
        asd_baseline=_mean(distances.baseline.asd),
        asd_engine=_mean(distances.engine.asd),
        hd95_px_baseline=_mean(distances.baseline_px),
        hd95_px_engine=_mean(distances.engine_px),
        undefined_distances=distances.n_undefined,
        ef_truth=math.nan if all_truth is None else _ef(clip, all_truth),
        ef_baseline=_ef(clip, baseline),
        ef_engine=_ef(clip, engine),
        agreement_dsc=_mean(100 * dice(baseline, engine)),
        pixel_disagreement=_mean(100 * disagreement(baseline, engine)),
        empty_truth=_count_empty(truth),
        empty_baseline=_count_empty(baseline),
        empty_engine=_count_empty(engine),
        nonfinite_engine=int(np.count_nonzero(~np.isfinite(engine_logits))),
        frame_dsc_baseline=tuple(float(value) for value in dsc_baseline),
        frame_dsc_engine=tuple(float(value) for value in dsc_engine),
        frame_phases=tuple(phases.get(frame, "") for frame in frames.tolist()),
    )


@dataclass(frozen=True)
class _Distances:
    """Of both sides on the labelled frames where both have one, float64 [m] each.

    `baseline_px` and `engine_px` are HD95 in pixels.
    """

    baseline: SurfaceDistances
    engine: SurfaceDistances
    baseline_px: NDArray[np.float64]
    engine_px: NDArray[np.float64]
    n_undefined: int


def _distances(clip: Clip, truth: Masks, baseline: Masks, engine: Masks) -> _Distances:
    """Distances of masks bool [M, H, W] to the truth; a frame counts for both sides or neither."""
    spacing = clip.spacing_mm or (1.0, 1.0)
    ours = surface_distances(truth, baseline, spacing)
    theirs = surface_distances(truth, engine, spacing)
    both = np.isfinite(ours.hd95) & np.isfinite(theirs.hd95)  # [M]
    return _Distances(
        baseline=SurfaceDistances(hd95=ours.hd95[both], asd=ours.asd[both]),
        engine=SurfaceDistances(hd95=theirs.hd95[both], asd=theirs.asd[both]),
        baseline_px=_hd95_px(ours, truth, baseline, spacing)[both],
        engine_px=_hd95_px(theirs, truth, engine, spacing)[both],
        n_undefined=int(np.count_nonzero(~both)),
    )


def _hd95_px(
    measured: SurfaceDistances, truth: Masks, masks: Masks, spacing: tuple[float, float]
) -> NDArray[np.float64]:
    """HD95 float64 [M] in pixels; measured anew only where a pixel is not square."""
    if math.isclose(*spacing, rel_tol=1e-9):
        return measured.hd95 / spacing[0]
    return surface_distances(truth, masks).hd95


def _truth(clip: Clip) -> tuple[Masks, NDArray[np.intp]]:
    """Truth of the labelled frames bool [M, H, W] and their positions [M]; M = 0 without truth."""
    n, _, height, width = clip.frames.shape
    if clip.truth is None:
        return np.zeros((0, height, width), dtype=np.bool_), np.zeros(0, dtype=np.intp)
    if clip.truth.shape != (n, height, width) or len(clip.labelled) != n:
        raise UnusableInput(
            f"clip {clip.identifier!r}: truth {clip.truth.shape} with {len(clip.labelled)} labels "
            f"does not fit frames {clip.frames.shape}",
            remedy="Build the clip again from its recording",
        )
    positions = np.flatnonzero(np.asarray(clip.labelled))
    return clip.truth[positions], positions


def _ef(clip: Clip, masks: Masks) -> float:
    """EF in percent of masks bool [T, H, W]; nan without ED and ES or with either mask empty."""
    if clip.ed_index is None or clip.es_index is None:
        return math.nan
    ed, es = masks[clip.ed_index], masks[clip.es_index]
    if not (ed.any() and es.any()):  # a missed ventricle is not a contracted one
        return math.nan
    return ejection_fraction(lv_volume(ed, clip.spacing_mm), lv_volume(es, clip.spacing_mm))


def _mean(values: NDArray[np.float64]) -> float:
    """nan for none."""
    return float(values.mean()) if values.size else math.nan


def _count_empty(masks: Masks) -> int:
    return int(np.count_nonzero(~masks.any(axis=(-2, -1))))
