"""What was measured in one mode, and how report.json writes it down: strict JSON values only."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pkecho_edge.data.sequence import LONG_RULE
from pkecho_edge.metrics.area_curve import BEAT_RULE, ED_ES_RULE
from pkecho_edge.metrics.flicker import FLICKER_RULE, JITTER_RULE
from pkecho_edge.metrics.surface_distance import ASD_CONVENTION, HD95_CONVENTION
from pkecho_edge.verify.accuracy import INTERVAL_CONVENTION, AccuracyResult
from pkecho_edge.verify.ef_categories import EF_CATEGORY_RULE, ef_categories
from pkecho_edge.verify.live import SLOPE_RULE, LiveResult, LiveRow
from pkecho_edge.verify.non_inferiority import NON_INFERIORITY_RULE, non_inferiority
from pkecho_edge.verify.scores import EF_CONVENTION, EMPTY_MASK_RULE, MASK_RULE, ClipRow
from pkecho_edge.verify.speed import (
    AGAINST_SPEEDUP_RULE,
    PEAK_MEMORY_LABEL,
    SPEEDUP_RULE,
    SpeedResult,
)
from pkecho_edge.verify.subgroups import SUBGROUP_RULE, UNKNOWN, subgroups

__all__ = ["ModeResult", "conventions", "mode_document", "strict_json"]


@dataclass(frozen=True)
class ModeResult:
    """What was measured in one mode; None for a part that was not.

    Attributes:
        accuracy, speed: of either mode.
        live: of the stream mode, on the sequences that accuracy was measured on.
        live_long: the same on long sequences, where they were asked for.
        not_timed: why there is no speed, where there is none.
    """

    accuracy: AccuracyResult | None
    speed: SpeedResult | None
    live: LiveResult | None = None
    live_long: LiveResult | None = None
    not_timed: str = "not timed"


def conventions(*, against: bool) -> dict[str, str]:
    """The rules behind the figures, in words.

    Args:
        against: whether another bundle stands where the baseline does.
    """
    return {
        "drift": "baseline minus engine per clip; DSC above 0, HD95 and ASD below 0: engine worse",
        "mask": MASK_RULE,
        "dsc": "percent, mean over a clip's labelled frames, then over clips",
        "hd95": HD95_CONVENTION,
        "hd95_drift": "the gate's value is minus the lower end of the interval of hd95_px",
        "asd": ASD_CONVENTION,
        "ef": EF_CONVENTION,
        "ef_drift": "mean absolute difference between baseline and engine, in points of EF",
        "ef_agreement": "engine minus baseline, one value per patient, bias -+ 1.96 sd",
        "flicker": FLICKER_RULE,
        "jitter": JITTER_RULE,
        "ed_es_shift": f"ED and ES of each beat: {ED_ES_RULE}; a beat: {BEAT_RULE}",
        "slope": SLOPE_RULE,
        "non_inferiority": NON_INFERIORITY_RULE,
        "ef_categories": EF_CATEGORY_RULE,
        "subgroups": SUBGROUP_RULE,
        "long_sequences": LONG_RULE,
        "empty_masks": EMPTY_MASK_RULE,
        "interval": INTERVAL_CONVENTION,
        "speedup": AGAINST_SPEEDUP_RULE if against else SPEEDUP_RULE,
        "fps": "frames that a call gives a result for / median latency",
        "peak_memory_mb": PEAK_MEMORY_LABEL,
    }


def mode_document(mode: ModeResult, limits: Mapping[str, float]) -> dict[str, object]:
    accuracy = mode.accuracy
    return {
        "data": None if accuracy is None else _data_document(accuracy),
        "accuracy": None if accuracy is None else _accuracy_document(accuracy, limits),
        "area_curves": [] if accuracy is None else _area_curves(accuracy, mode.live),
        "speed": mode.speed,
        "live": None if mode.live is None else _live_document(mode.live),
        "live_long": None if mode.live_long is None else _live_document(mode.live_long),
    }


def _data_document(accuracy: AccuracyResult) -> dict[str, object]:
    """On what accuracy was measured."""
    rows = accuracy.rows
    return {
        "sources": sorted({row.source for row in rows}),
        "n_recordings": len({(row.source, row.recording) for row in rows}),
        "n_patients": accuracy.n_patients,
        "n_clips": accuracy.n_clips,
        "n_frames": sum(row.n_frames for row in rows),
        "n_labelled_frames": sum(row.n_labelled for row in rows),
        "image_sizes": sorted({row.image_size for row in rows}),
        "quality": dict(sorted(Counter(row.quality or UNKNOWN for row in rows).items())),
        "empty_masks": {
            "truth_labelled_frames": sum(row.empty_truth for row in rows),
            "baseline_frames": accuracy.baseline.empty_frames,
            "engine_frames": accuracy.engine.empty_frames,
            "undefined_distances": sum(row.undefined_distances for row in rows),
        },
    }


def _accuracy_document(accuracy: AccuracyResult, limits: Mapping[str, float]) -> dict[str, object]:
    return {
        "n_clips": accuracy.n_clips,
        "n_patients": accuracy.n_patients,
        "baseline": accuracy.baseline,
        "engine": accuracy.engine,
        "drift": accuracy.drift,
        "agreement": accuracy.agreement,
        "ef_agreement": accuracy.ef_agreement,
        "n_ef_lost": accuracy.n_ef_lost,
        "non_inferiority": non_inferiority(accuracy, limits),
        "ef_categories": [
            {**dataclasses.asdict(each), "flips": each.flips}
            for each in ef_categories(accuracy.rows)
        ],
        "subgroups": subgroups(accuracy.rows),
        "worst_clips": [row.identifier for row in accuracy.worst_clips()],
        "clips": [_row_document(row) for row in accuracy.rows],
    }


def _area_curves(accuracy: AccuracyResult, live: LiveResult | None) -> list[dict[str, object]]:
    """Of the worst sequences the area of both sides, frame by frame; none of single clips."""
    rows = {row.identifier: row for row in live.rows} if live is not None else {}
    return [
        {
            "identifier": worst.identifier,
            "ef_baseline": worst.ef_baseline,
            "ef_engine": worst.ef_engine,
            "areas_baseline": row.areas_baseline.tolist(),
            "areas_engine": row.areas_engine.tolist(),
            "beats": row.beats,
        }
        for worst in accuracy.worst_clips()
        if (row := rows.get(worst.identifier)) is not None
    ]


def _row_document(row: ClipRow) -> dict[str, object]:
    """A row with its drift."""
    return {
        **dataclasses.asdict(row),
        "dsc_drift": row.dsc_drift,
        "hd95_drift": row.hd95_drift,
        "hd95_px_drift": row.hd95_px_drift,
        "asd_drift": row.asd_drift,
        "ef_drift": row.ef_drift,
    }


_LIVE_COUNTS = (
    "n_sequences",
    "n_patients",
    "n_frames",
    "n_beats",
    "n_beats_lost",
    "n_without_beat",
    "unshifted",
)
_LIVE_FRAMES = frozenset(
    {"pixel_disagreement", "agreement_dsc", "areas_baseline", "areas_engine", "beats"}
)
"""Of a row: one figure per frame, too many for a report; a curve shows some."""


def _live_document(live: LiveResult) -> dict[str, object]:
    """Counts first, then the figures, then a row per sequence."""
    figures = {f.name: getattr(live, f.name) for f in dataclasses.fields(live) if f.name != "rows"}
    counts = {name: getattr(live, name) for name in _LIVE_COUNTS}
    return {**counts, **figures, "sequences": [_live_row_document(row) for row in live.rows]}


def _live_row_document(row: LiveRow) -> dict[str, object]:
    names = [f.name for f in dataclasses.fields(row) if f.name not in _LIVE_FRAMES]
    names += ["n_beats", "n_beats_lost", "quarter_change", "ed_es_shift"]
    return {name: getattr(row, name) for name in names}


def strict_json(value: object) -> Any:
    """JSON values only: dataclasses and mappings to dicts, nan and infinity to None."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.generic):
        return strict_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value):
        return {f.name: strict_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): strict_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a report cannot hold {type(value).__name__}")
