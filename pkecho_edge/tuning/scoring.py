"""How far an engine drifts on the trial clips; the baseline answers each of them once and for all.

Masks are all that a score asks of the baseline, so its answers are kept as bits. Both they and each
engine's score are stages: a search that was interrupted finds them again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.data.clip import Clip
from pkecho_edge.data.sources import ClipSource
from pkecho_edge.errors import CalibrationError, DatasetError, UnusableInput
from pkecho_edge.stages import Observer, StageCache, package_sha256
from pkecho_edge.targets.base import Engine
from pkecho_edge.verify.accuracy import AccuracyResult, segment, summarize_rows
from pkecho_edge.verify.gates import DEFAULT_LIMITS, MIN_PATIENTS, evaluate_gates
from pkecho_edge.verify.scores import score_clip

if TYPE_CHECKING:
    from pkecho_edge.model.network import PKEchoNet

__all__ = ["ANSWERS", "SCORE", "SCORED_CLIPS", "TrialDrift", "TrialSet", "answered"]
__all__ += ["score_engine", "score_scale", "scored_clips", "worst"]

SegmentClip: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""u8 [T, 1, H, W] -> logits f32 [T, 1, H, W]."""

SCORED_CLIPS = 40
"""Trial clips on which every candidate is scored, at most: more than a quantization is chosen on,
because candidates of one network differ by little."""

ANSWERS, SCORE = "answers", "score"
"""Stages: the baseline's masks of the trial clips, and what an engine loses on them."""

_ANSWERS, _SCORE = "answers.npz", "score.json"
_NO_LIMIT = dict.fromkeys(DEFAULT_LIMITS, 1e9)


@dataclass(frozen=True, eq=False)
class TrialSet:
    """Clips, or for live use sequences, and what the baseline makes of them.

    Attributes:
        mode: "clip" or "stream".
        clips: frames u8 [N, 1, H, W] each.
        answers: the baseline's masks, bool [N, H, W] each.
        baseline_sha256: of the checkpoint that answered.
    """

    mode: str
    clips: tuple[Clip, ...]
    answers: tuple[NDArray[np.bool_], ...]
    baseline_sha256: str

    @cached_property
    def sha256(self) -> str:
        """Of all that a score depends on but the engine."""
        return _key(self.mode, self.clips, self.baseline_sha256)


@dataclass(frozen=True)
class TrialDrift:
    """What an engine lost on the trial clips; nan where it cannot be known.

    Attributes:
        dsc_drift, dsc_drift_high: points, mean and the upper end of its 95 % interval.
        ef_drift: points, the upper end of the 95 % interval of its mean.
        hd95_drift: pixels, the end of that interval at which the engine is worse.
        faults: gates that are false whatever their limit.
    """

    dsc_drift: float
    dsc_drift_high: float
    ef_drift: float
    hd95_drift: float
    faults: tuple[str, ...] = ()


def scored_clips(
    mode: str,
    trial: ClipSource,
    calibration: ClipSource,
    used: CalibrationSet,
    observer: Observer,
) -> list[Clip]:
    """Clips to score on, SCORED_CLIPS at most; for mode "stream" they are sequences.

    Of the trial source where it has enough patients for a gate, else of the calibration source's;
    never of patients that gave a calibration clip.

    Raises:
        CalibrationError: none of them has enough patients with ground truth.
    """
    observer.start(f"{mode}: trial clips", SCORED_CLIPS)
    taken = {entry.patient for entry in used.entries}
    for source in (trial, calibration):
        clips: list[Clip] = []
        with suppress(DatasetError):  # no such split
            for clip in replace(source, live=mode == "stream", skipped=[]):
                if clip.patient not in taken:
                    clips.append(clip)
                    observer.advance()
                if len(clips) == SCORED_CLIPS:
                    break
        patients = {clip.patient for clip in clips if clip.truth is not None}
        if len(patients) >= MIN_PATIENTS:
            observer.done(f"{len(clips)} of {len(patients)} patients")
            return clips
    raise CalibrationError(
        f"candidates cannot be scored on fewer than {MIN_PATIENTS} patients with ground truth",
        path=trial.root,
        remedy=f"Give {MIN_PATIENTS} labelled patients at least in VAL or TRAIN, or --phantoms",
    )


def answered(
    mode: str,
    clips: Sequence[Clip],
    baseline: PKEchoNet,
    baseline_sha256: str,
    stages: StageCache,
    observer: Observer,
) -> TrialSet:
    """The clips with the baseline's answers, which are a stage.

    Raises:
        UnusableInput: its logits are nan or infinite.
    """
    from pkecho_edge.model.baseline import baseline_runner, baseline_stream_runner

    run = baseline_stream_runner(baseline) if mode == "stream" else baseline_runner(baseline)

    def work(folder: Path) -> None:
        bits: dict[str, Any] = {}
        for index, clip in enumerate(clips):
            logits = run(clip.frames)
            if not np.isfinite(logits).all():
                raise UnusableInput(
                    f"the baseline returns nan or infinite logits on clip {clip.identifier!r}",
                    remedy="Check the checkpoint: nothing can be compared with it",
                )
            bits[str(index)] = np.packbits(logits[:, 0] > 0, axis=-1)
            observer.advance()
        np.savez(folder / _ANSWERS, **bits)

    observer.start(f"{mode}: the baseline's answers", len(clips))
    done = stages.run(
        ANSWERS,
        {"trial": _key(mode, clips, baseline_sha256), "code": package_sha256("model")},
        work,
        _scale_of(mode, clips),
    )
    with np.load(done.folder / _ANSWERS, allow_pickle=False) as found:
        answers = tuple(
            np.unpackbits(found[str(i)], axis=-1, count=clip.frames.shape[-1]).astype(bool)
            for i, clip in enumerate(clips)
        )
    frames = sum(len(clip.frames) for clip in clips)
    observer.done(f"{len(clips)} clips, {frames} frames{' (reused)' if done.reused else ''}")
    return TrialSet(mode, tuple(clips), answers, baseline_sha256)


def score_engine(
    trial: TrialSet,
    engine: Engine,
    run: SegmentClip,
    stages: StageCache,
    observer: Observer,
) -> TrialDrift:
    """What an engine loses; found again by its files, what it is told, and the clips.

    Args:
        trial: of the engine's mode.
        engine: whose files name it. run: the same, loaded.
        stages: where scores are kept.
        observer: hears about progress.
    """

    def work(folder: Path) -> None:
        rows = []
        for clip, answer in zip(trial.clips, trial.answers, strict=True):
            stands_for = np.where(answer, np.float32(1), np.float32(-1))[:, None]
            rows.append(score_clip(clip, stands_for, segment(run, "engine", clip)))
            observer.advance()
        text = json.dumps(asdict(_drift(trial.mode, summarize_rows(rows))))
        (folder / _SCORE).write_text(text, encoding="utf-8")

    observer.start(f"{trial.mode}: drift", len(trial.clips))
    done = stages.run(
        SCORE,
        {
            "trial": trial.sha256,
            "engine": _engine_sha256(engine),
            "toolchain": dict(engine.toolchain),
            "options": dict(engine.options),
            "code": package_sha256("metrics", "runtime", "targets", "verify", "tuning/scoring.py"),
        },
        work,
        _scale_of(trial.mode, trial.clips),
    )
    raw = json.loads((done.folder / _SCORE).read_text(encoding="utf-8"))
    found = TrialDrift(**{**raw, "faults": tuple(raw["faults"])})
    reused = " (reused)" if done.reused else ""
    observer.done(f"DSC drift {found.dsc_drift:.3f}, up to {found.dsc_drift_high:.3f}{reused}")
    return found


def score_scale(mode: str, size: tuple[int, int]) -> str:
    """What the durations of both stages depend on most."""
    return f"{mode}, {size[0]}x{size[1]}"


def _scale_of(mode: str, clips: Sequence[Clip]) -> str:
    return score_scale(mode, clips[0].frames.shape[-2:])


def worst(drifts: Sequence[TrialDrift]) -> TrialDrift:
    """The worst figure of several modes, each on its own; what is unknown in one is unknown.

    Args:
        drifts: at least one.
    """

    def highest(values: Sequence[float]) -> float:
        return math.nan if any(map(math.isnan, values)) else max(values)

    return TrialDrift(
        highest([d.dsc_drift for d in drifts]),
        highest([d.dsc_drift_high for d in drifts]),
        highest([d.ef_drift for d in drifts]),
        highest([d.hd95_drift for d in drifts]),
        tuple(fault for d in drifts for fault in d.faults),
    )


def _drift(mode: str, accuracy: AccuracyResult) -> TrialDrift:
    gates = evaluate_gates(mode, accuracy, None, _NO_LIMIT)
    faults = tuple(gate.reason or str(gate) for gate in gates if gate.passed is False)
    drift = accuracy.drift
    return TrialDrift(
        drift.dsc.mean, drift.dsc.high, drift.ef.high, drift.hd95_px_worse_end, faults
    )


def _key(mode: str, clips: Sequence[Clip], baseline_sha256: str) -> str:
    named = [mode, baseline_sha256, *map(_clip_key, clips)]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _clip_key(clip: Clip) -> list[object]:
    """The frames, and what is known of them: labels may be corrected."""
    truth = b"" if clip.truth is None else np.packbits(clip.truth).tobytes()
    known = [clip.labelled, clip.ed_index, clip.es_index, clip.spacing_mm]
    named = (clip.identifier, clip.patient, clip.source)
    return [clip.content_sha256, hashlib.sha256(truth).hexdigest(), *known, *named]


def _engine_sha256(engine: Engine) -> str:
    digest = hashlib.sha256()
    for name in engine.files:
        digest.update(f"{name}\0".encode())
        digest.update(hashlib.sha256((engine.directory / name).read_bytes()).digest())
    return digest.hexdigest()
