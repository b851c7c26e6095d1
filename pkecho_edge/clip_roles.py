"""Which clips set the INT8 ranges, and on which quantizations are tried."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.calibration.pack import packed_clips
from pkecho_edge.calibration.selection import select_clips
from pkecho_edge.data.clip import Clip
from pkecho_edge.data.sources import ClipSource
from pkecho_edge.errors import DatasetError
from pkecho_edge.stages import Observer
from pkecho_edge.verify.gates import MIN_PATIENTS

__all__ = ["TRIAL_CLIPS", "calibration_clips_of", "trial_clips_of"]

TRIAL_CLIPS = 16
"""On which each quantization is tried."""


def calibration_clips_of(
    source: ClipSource,
    given: CalibrationSet | None,
    count: int,
    seed: int,
    observer: Observer,
) -> tuple[CalibrationSet, list[Clip], list[Clip]]:
    """The calibration set, its clips in its order, and those that it left."""
    observer.start("calibration clips", None)
    if (
        given is not None
        and (packed := packed_clips(given, source.size, source.length)) is not None
    ):
        observer.done(f"{len(packed)} clips from their pack")
        return given, packed, []
    found = []
    for clip in source:
        found.append(clip)
        observer.advance()
    if given is None:
        clips = select_clips(found, count, seed)
        given = CalibrationSet.of(clips, "random", seed)
    else:
        clips = given.pick(found)
    left_out = f", {len(source.skipped)} recordings left out" if source.skipped else ""
    observer.done(f"{len(clips)} clips from {source.description}{left_out}")
    used = {entry.content_sha256 for entry in given.entries}
    return given, clips, [clip for clip in found if clip.content_sha256 not in used]


def trial_clips_of(
    source: ClipSource | None, rest: Sequence[Clip], calibration: Sequence[Clip]
) -> list[Clip]:
    """Clips on which quantizations are tried, TRIAL_CLIPS at most; never those of verification.

    Of the source where it has enough patients for a gate, else of what calibration left, else the
    calibration clips themselves: they have set the ranges, but not yet chosen a rule.
    """
    found: list[Clip] = []
    if source is not None:
        with suppress(DatasetError):  # no such split
            found = list(replace(source, count=min(source.count, TRIAL_CLIPS)))
    for clips in (found, rest, calibration):
        if len({clip.patient for clip in clips}) >= MIN_PATIENTS:
            break
    return [clips[i] for i in sorted({*np.linspace(0, len(clips) - 1, TRIAL_CLIPS).astype(int)})]
