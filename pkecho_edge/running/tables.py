"""The figures of a run as CSV, and as one document for machines."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pkecho_edge.metrics.area_curve import BEAT_RULE, ED_ES_RULE
from pkecho_edge.metrics.beats import BEAT_METHOD, Beat
from pkecho_edge.running.drawing import beats_by_frame, phases
from pkecho_edge.running.segmentation import Segmentation

__all__ = ["beats_csv", "beats_document", "frames_csv", "mean_ejection_fraction"]

_FRAME_COLUMNS = (
    *("frame", "time_s", "area_px", "area_cm2", "long_axis_mm", "valid", "warming_up", "flags"),
    *("restarted", "phase", "beat", "latency_ms"),
)
_BEAT_COLUMNS = (
    *("beat", "first_frame", "frames", "ed_frame", "ed_time_s", "es_frame", "es_time_s"),
    *("ed_volume", "es_volume", "volume_unit", "ejection_fraction", "valid", "flags", "method"),
)


def frames_csv(found: Segmentation, beats: list[Beat]) -> str:
    """One row per frame; what is not known is empty."""
    marked = phases(beats)
    beat_of = beats_by_frame(beats)
    return _csv(
        _FRAME_COLUMNS,
        (
            (
                f.index,
                _number(f.time_s, 6),
                f.area_px,
                _number(f.area_cm2, 4),
                _number(f.long_axis_mm, 3),
                _truth(f.valid),
                _truth("warming_up" in f.flags),
                " ".join(f.flags),
                f.restarted,
                marked[f.index][0] if f.index in marked else "",
                beat_of[f.index].number if f.index in beat_of else "",
                _number(f.latency_ms, 3),
            )
            for f in found.figures
        ),
    )


def beats_csv(found: Segmentation, beats: list[Beat]) -> str:
    """One row per beat; no beats yield the header alone."""
    return _csv(
        _BEAT_COLUMNS,
        (
            (
                beat.number,
                beat.first,
                beat.frames,
                beat.ed_index,
                _number(found.figures[beat.ed_index].time_s, 6),
                beat.es_index,
                _number(found.figures[beat.es_index].time_s, 6),
                _number(beat.ed_volume, 3),
                _number(beat.es_volume, 3),
                _unit(beat),
                _number(beat.ejection_fraction, 3),
                _truth(beat.valid),
                " ".join(beat.flags),
                BEAT_METHOD,
            )
            for beat in beats
        ),
    )


def beats_document(found: Segmentation, beats: list[Beat]) -> dict[str, Any]:
    """The beats and their mean, for JSON: what is not known is None."""
    mean, counted = mean_ejection_fraction(beats)
    return {
        "ejection_fraction": {
            "mean": _finite(mean),
            "beats": counted,
            "flagged": len(beats) - counted,
            "method": BEAT_METHOD,
            "beat_rule": BEAT_RULE,
            "ed_es_rule": ED_ES_RULE,
        },
        "beats": [
            {
                "beat": beat.number,
                "first_frame": beat.first,
                "frames": beat.frames,
                "ed_frame": beat.ed_index,
                "ed_time_s": found.figures[beat.ed_index].time_s,
                "es_frame": beat.es_index,
                "es_time_s": found.figures[beat.es_index].time_s,
                "ed_volume": _finite(beat.ed_volume),
                "es_volume": _finite(beat.es_volume),
                "volume_unit": _unit(beat),
                "ejection_fraction": _finite(beat.ejection_fraction),
                "valid": beat.valid,
                "flags": list(beat.flags),
            }
            for beat in beats
        ],
    }


def mean_ejection_fraction(beats: Sequence[Beat]) -> tuple[float, int]:
    """Percent over the beats that count, and how many those are; nan and 0 where none does."""
    counted = [beat.ejection_fraction for beat in beats if beat.counts]
    return (float(np.mean(counted)) if counted else math.nan), len(counted)


def _unit(beat: Beat) -> str:
    return "cubic px" if "spacing" in beat.flags else "ml"


def _csv(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{decimals}f}"


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
