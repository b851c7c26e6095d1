"""Which clips set the INT8 ranges, and on which quantizations are tried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.calibration.pack import packed_clips
from pkecho_edge.calibration.selection import select_clips
from pkecho_edge.data import sources
from pkecho_edge.data.clip import Clip
from pkecho_edge.data.sources import ClipSource
from pkecho_edge.data.standard import CALIBRATION_SEEDS, STANDARD_COUNT, TUNING_SEEDS
from pkecho_edge.errors import DatasetError, UsageError
from pkecho_edge.stages import Observer, StageCache, StageResult, package_sha256
from pkecho_edge.verify.gates import MIN_PATIENTS
from pkecho_edge.verify.machine import package_versions

__all__ = ["TRIAL_CLIPS", "ClipsWanted", "NotedClips", "calibration_clips_of"]
__all__ += ["clip_sources", "find_noted_clips", "note_clips", "trial_clips_of"]

TRIAL_CLIPS = 16
"""On which each quantization is tried."""


def clip_sources(
    data: Path | None,
    phantoms: bool,
    size: tuple[int, int],
    clips: int,
    verify_clips: int = STANDARD_COUNT,
) -> tuple[ClipSource, ClipSource, ClipSource]:
    """Where the clips of calibration, of verification and of trials come from.

    Args:
        data: recordings; None for phantoms.
        phantoms: whether they are wanted: one of the two must be.
        size: (H, W) of the clips.
        clips: of calibration, where they are phantoms. verify_clips: the same, of verification.

    Raises:
        UsageError: both or neither of recordings and phantoms.
    """
    if (data is None) == (not phantoms):
        raise UsageError(
            "give either --data DIR or --phantoms",
            remedy="An engine is verified on clips: name the folder that holds yours",
        )
    if data is None:
        return (
            sources.phantoms(CALIBRATION_SEEDS[:clips], size),
            sources.standard_set(size, verify_clips),
            sources.phantoms(TUNING_SEEDS[:TRIAL_CLIPS], size),
        )
    return (
        sources.dataset(data, size, split="TRAIN"),
        sources.dataset(data, size, split="TEST"),
        sources.dataset(data, size, split="VAL"),
    )


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


@dataclass(frozen=True)
class ClipsWanted:
    """What decides which clips `calibration_clips_of` and `trial_clips_of` give."""

    calibration: ClipSource
    trial: ClipSource | None
    given: CalibrationSet | None
    count: int
    seed: int

    def inputs(self) -> dict[str, Any]:
        """Of the note; it reads no recording, see ClipSource.signature."""
        return {
            "calibration": self.calibration.signature(),
            "trial": None if self.trial is None else self.trial.signature(),
            "given": None if self.given is None else self.given.sha256,
            "count": self.count,
            "seed": self.seed,
            "code": package_sha256("calibration", "data", "clip_roles.py", "verify/gates.py"),
            "tools": package_versions(("av", "numpy", "scipy", "nibabel")),
        }

    @property
    def scale(self) -> str:
        """What drawing them takes depends on."""
        height, width = self.calibration.size
        return f"{height}x{width}, {self.calibration.description}"


@dataclass(frozen=True)
class NotedClips:
    """What a run found out about its clips, for the keys of its stages."""

    calibration_sha256: str
    trial_sha256: tuple[str, ...]


def note_clips(
    wanted: ClipsWanted, chosen: CalibrationSet, trial: Sequence[Clip], stages: StageCache
) -> None:
    """Note which clips were drawn, so that a forecast need not draw them; see `ClipsWanted`.

    A note that says otherwise is replaced: what this run drew is what the next one will.

    Raises:
        UsageError: the cache cannot be written.
    """
    found = {"calibration": chosen.sha256, "trial": [clip.content_sha256 for clip in trial]}

    def work(folder: Path) -> None:
        (folder / _NOTE).write_text(json.dumps(found), encoding="utf-8")

    inputs = wanted.inputs()
    noted = _read(stages.run(_CLIPS, inputs, work))
    if noted != found:
        stages.forget(_CLIPS, inputs)
        stages.run(_CLIPS, inputs, work)


def find_noted_clips(wanted: ClipsWanted, stages: StageCache) -> NotedClips | None:
    """What `note_clips` noted; None where no run drew these clips before."""
    kept = stages.find(_CLIPS, wanted.inputs())
    if kept is None:
        return None
    found = _read(kept)
    return NotedClips(found["calibration"], tuple(found["trial"]))


def _read(kept: StageResult) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((kept.folder / _NOTE).read_text(encoding="utf-8"))
    return found


_CLIPS, _NOTE = "clips", "clips.json"
