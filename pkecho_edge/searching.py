"""`tune`: the fastest engine inside a budget, among pruned networks and ways to quantize them.

    for every candidate: prune -> build -> score on the trial clips; all engines timed in turns
    the fastest inside the budget -> compile -> verify -> else the next
    -> the bundle, tune.json, pareto.png

Pruning, building and scoring are stages, so a search that was interrupted goes on where it was.
Speed is no stage: timings of different runs must not be compared, so the engines that are there
take turns in one run, and the last run, in which all of them did, decides.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from json import dumps
from pathlib import Path
from typing import Any

from pkecho_edge import pipeline, targets
from pkecho_edge.bundle.engine_entry import MODES
from pkecho_edge.bundle.layout import MANIFEST, enclosing_bundle
from pkecho_edge.bundle.reader import Bundle, read_bundle
from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.calibration.rule import RULES, RangeRule
from pkecho_edge.candidates import ROUNDS, Plan, Pruning, Search, Source, Table
from pkecho_edge.clip_roles import calibration_clips_of, trial_clips_of
from pkecho_edge.data.sources import ClipSource
from pkecho_edge.errors import (
    AccuracyGateFailed,
    CheckpointError,
    MissingDependency,
    UsageError,
)
from pkecho_edge.files import scratch_folder, write_atomically
from pkecho_edge.lesson_source import LessonSource
from pkecho_edge.measuring import VerifyResult
from pkecho_edge.processors import computes_bf16
from pkecho_edge.pruning_stage import Lineaged, check_scope, load_lineaged
from pkecho_edge.records import forget_record
from pkecho_edge.recovering import read_report
from pkecho_edge.stages import Observer, SilentObserver, StageCache, default_cache
from pkecho_edge.targets.base import CompileOptions
from pkecho_edge.training.distillation import DistillationRecipe
from pkecho_edge.tuning.pareto import draw_pareto
from pkecho_edge.tuning.scoring import TrialSet, answered, scored_clips
from pkecho_edge.tuning.search import Budget, Choice, Scored, check_ratios, closest, pareto_front
from pkecho_edge.verify.gates import DEFAULT_LIMITS
from pkecho_edge.verify.machine import machine_facts

__all__ = ["RECORD", "TUNE_SCHEMA", "TuneResult", "tune"]

TUNE_SCHEMA = "pkecho-edge/tune/1"

PICTURE, FIGURES, RECORD = "pareto.png", "tune.json", "tune.toml"

_MODES: Mapping[str, tuple[str, ...]] = {**{mode: (mode,) for mode in MODES}, "both": MODES}
_DEFAULT_RECIPE = DistillationRecipe()


@dataclass(frozen=True)
class TuneResult:
    """What a search found.

    Attributes:
        rows: every candidate, in the order in which they were tried.
        choice: which one was taken, and why.
        bundle: of that one.
        verification: what was measured on the verification clips.
        document: of tune.json.
    """

    rows: tuple[Scored, ...]
    choice: Choice
    bundle: Bundle
    verification: VerifyResult
    document: Mapping[str, Any]


def tune(
    checkpoint: Path,
    out: Path,
    *,
    calibration: ClipSource,
    verification: ClipSource,
    trial: ClipSource,
    target: str = "cpu",
    budget: Budget | None = None,
    ratios: Sequence[float] = (0.0, 0.5, 0.8),
    also: Sequence[Path] = (),
    mode: str = "stream",
    lessons: LessonSource | None = None,
    recipe: DistillationRecipe | None = _DEFAULT_RECIPE,
    scope: str = "global",
    precisions: Sequence[str] = (),
    quantization_scheme: str | None = None,
    rules: tuple[RangeRule, ...] = RULES,
    options: CompileOptions | None = None,
    baseline: Path | None = None,
    calibration_clips: int = 32,
    calibration_set: CalibrationSet | None = None,
    limits: Mapping[str, float] = DEFAULT_LIMITS,
    seed: int = 0,
    overwrite: bool = False,
    cache: Path | None = None,
    observer: Observer | None = None,
    on_scored: Table = len,
) -> TuneResult:
    """Search for the fastest engine inside a budget, and bundle it.

    Args:
        checkpoint: PKEcho-Net weights, what ratios are of; drift is against its baseline, which it
            is itself unless it was pruned before.
        out: folder for NAME-TARGET.pkb, tune.json and, with matplotlib, pareto.png.
        calibration: clips to draw the calibration set from; their size is the engines'.
        verification: clips on which the chosen engine is verified, of other patients.
        trial: clips on which candidates are scored, of neither of the two; 40 at most.
            Where a dataset has no such split, what calibration leaves of its own.
        target: name of a target that is timed on this machine.
        budget: None for the default one.
        ratios: shares of the GMACs to prune away; 0 for the checkpoint as it is.
        also: checkpoints that were pruned from the same baseline before.
        mode: "clip", "stream" or "both": the engines of the bundle, all of which must hold; the
            speed is that of the stream where there is one.
        lessons: the recordings that pruned networks recover on; None for phantoms.
        recipe: of the recovery; None only prunes.
        scope: of pruning, see PruningOrder.
        precisions: float precisions to try; none for every one that the target and, for bfloat16,
            the processor have.
        quantization_scheme: its name; None for the target's.
        rules: of INT8 ranges to choose from, for each network and precision.
        options: threads and device of the engines; None for the target's own.
        baseline: of a checkpoint that was pruned before; None finds it by its hash.
        calibration_clips, calibration_set: as `pipeline.CompileOrder`.
        limits: of the gates; the budget takes the place of those of DSC and EF drift.
        seed: of the choice of calibration clips.
        overwrite: replace an existing bundle.
        cache: of finished stages; None for the user's.
        observer: hears about progress.
        on_scored: hears all rows so far, whenever one of them is new or has other figures.

    Raises:
        AccuracyGateFailed: nothing meets the budget; tune.json and the picture say what there was.
        CheckpointError: unusable, or one of `also` that goes back to another baseline.
        UsageError: an existing bundle, an impossible ratio, mode or precision, or a target whose
            engines are timed elsewhere.
        CalibrationError: too few labelled patients to score on, or one that serves calibration
            and verification.
        and what every candidate failed with, where all did.
    """
    options = options or targets.options_for(target)
    budget, ratios, modes = budget or Budget(), check_ratios(ratios), _modes(mode)
    kinds = _float_precisions(target, options, precisions)
    if any(ratios):
        check_scope(scope, target)
    place = _check_out(out, f"{checkpoint.stem}-{target}.pkb", overwrite)
    observer, stages = observer or SilentObserver(), StageCache(cache or default_cache())
    origin = load_lineaged(checkpoint, baseline, stages)
    others = [_given(path, origin, stages) for path in dict.fromkeys(also)]
    length = origin.network.config.frames
    calibration, verification, trial = (
        replace(source, length=length) for source in (calibration, verification, trial)
    )
    chosen_set, clips, rest = calibration_clips_of(
        calibration, calibration_set, calibration_clips, seed, observer
    )
    pipeline.check_apart(chosen_set, verification)
    plan = Plan(
        origin,
        chosen_set,
        clips,
        trial_clips_of(trial, rest, clips),
        target,
        modes,
        options,
        budget,
        {**limits, "dsc_drift": budget.max_dsc_drop, "ef_drift": budget.max_ef_drift},
        Pruning(lessons or LessonSource(), recipe, scope),
        quantization_scheme,
        rules,
    )
    sets = _trial_sets(plan, trial, calibration, stages, observer)
    with ExitStack() as stack:
        search = Search(plan, sets, stages, observer, on_scored, stack)
        search.score_all(Source(checkpoint, baseline, origin), ratios, others, kinds)
    with scratch_folder(out, place.name) as scratch:
        order = pipeline.CompileOrder(
            checkpoint,
            scratch / place.name,
            calibration,
            verification,
            trial,
            target,
            modes,
            calibration_clips,
            calibration_set,
            limits=plan.limits,
            seed=seed,
        )
        choice, verified = search.verify_best(
            lambda asked, heard: pipeline.compile(asked, cache=cache, observer=heard), order
        )
        _replace(place, scratch, verified is not None)
    document = {
        **_document(search, choice, mode),
        "data": {
            "calibration": calibration.description,
            "trial": trial.description,
            "verification": verification.description,
        },
        "bundle": place.name if verified else None,
    }
    _write(out, document, search.rows, budget, choice)
    if verified is None:
        raise _none(search.rows, budget, choice, out)
    return TuneResult(tuple(search.rows), choice, read_bundle(place), verified, document)


def _modes(mode: str) -> tuple[str, ...]:
    if mode not in _MODES:
        raise UsageError(f"there is no mode {mode!r}", remedy="Use clip, stream or both")
    return _MODES[mode]


def _float_precisions(
    target: str, options: CompileOptions, wanted: Sequence[str]
) -> tuple[str, ...]:
    """Those to try.

    Raises:
        UsageError: one that the target does not have, or its engines are timed elsewhere.
        MissingDependency: its toolchain is not installed.
    """
    for precision in wanted or (options.float_precision,):
        pipeline.check_target(target, replace(options, float_precision=precision))
    capabilities = targets.get(target).capabilities
    if capabilities.device_kit:
        raise UsageError(
            f"engines for {target} are timed on their device, which this is not",
            remedy=f"Prune at several ratios, and compile each with --target {target}",
        )
    if wanted:
        return tuple(dict.fromkeys(wanted))
    found = tuple(p for p in capabilities.precisions if p != "int8")
    return tuple(p for p in found if p != "bf16" or computes_bf16())


def _check_out(out: Path, name: str, overwrite: bool) -> Path:
    """Where the bundle will lie.

    Raises:
        UsageError: something is there, or `out` cannot be a folder of results.
    """
    place = out / name
    if enclosing_bundle(out) is not None:
        raise UsageError("lies in a bundle", path=out, remedy="Choose another --out")
    if out.exists() and not out.is_dir():
        raise UsageError("is not a folder", path=out, remedy="Choose another --out")
    if place.exists() and not (overwrite and (place / MANIFEST).is_file()):
        what = "is no bundle, so it is not replaced" if overwrite else "exists"
        remedy = "Choose another --out" + ("" if overwrite else ", or pass --overwrite")
        raise UsageError(what, path=place, remedy=remedy)
    return place


def _given(path: Path, origin: Lineaged, stages: StageCache) -> Source:
    """A checkpoint that was pruned elsewhere.

    Raises:
        CheckpointError: it was not pruned, or from another baseline.
    """
    report = read_report(path)
    if report is None:
        raise CheckpointError(
            "does not say from which checkpoint it was pruned",
            path=path,
            remedy="Give one that pkecho-edge prune wrote",
        )
    if report["baseline_sha256"] != origin.baseline_sha256:
        raise CheckpointError(
            f"was pruned from another baseline, {str(report['baseline_sha256'])[:12]}...",
            path=path,
            remedy=f"Give one that was pruned from {origin.baseline_sha256[:12]}...",
        )
    return Source(path, None, load_lineaged(path, None, stages))


def _trial_sets(
    plan: Plan,
    trial: ClipSource,
    calibration: ClipSource,
    stages: StageCache,
    observer: Observer,
) -> list[TrialSet]:
    """Of every mode the clips to score on, with the baseline's answers."""
    origin = plan.origin
    return [
        answered(
            mode,
            scored_clips(mode, trial, calibration, plan.calibration, observer),
            origin.baseline,
            origin.baseline_sha256,
            stages,
            observer,
        )
        for mode in plan.modes
    ]


def _document(search: Search, choice: Choice, mode: str) -> dict[str, Any]:
    """Of tune.json, but for what it was made from."""
    plan = search.plan
    front = {each.candidate for each in pareto_front(search.rows)}
    return {
        "schema": TUNE_SCHEMA,
        "target": plan.target,
        "mode": mode,
        "size": list(plan.calibration.size),
        "baseline_sha256": plan.origin.baseline_sha256,
        "trial_clips": {each.mode: len(each.clips) for each in search.sets},
        "budget": vars(plan.budget),
        "limits": dict(plan.limits),
        "timing": f"{plan.timed}, median of {ROUNDS} rounds in which all engines took turns",
        "candidates": [
            {
                **row.as_dict(),
                "checkpoint_sha256": search.checkpoint_sha256(row),
                "pareto": row.candidate in front,
                "chosen": row == choice.chosen,
            }
            for row in search.rows
        ],
        "chosen": None if choice.chosen is None else choice.chosen.candidate.label,
        "reason": choice.reason,
        "machine": machine_facts(),
    }


def _replace(place: Path, scratch: Path, verified: bool) -> None:
    """The new bundle in place of an old one; an old one does not stay where nothing was found."""
    forget_record(place.parent / RECORD)  # it tells of the old one
    if place.exists():
        place.rename(scratch / "old")
    if verified:
        (scratch / place.name).rename(place)
    shutil.rmtree(scratch / "old", ignore_errors=True)


def _write(
    out: Path,
    document: Mapping[str, Any],
    rows: Sequence[Scored],
    budget: Budget,
    choice: Choice,
) -> None:
    """tune.json and the picture; without matplotlib no picture, nor one of an earlier run."""
    text = dumps(document, indent=1, allow_nan=False) + "\n"
    picture = out / PICTURE
    try:
        write_atomically(out / FIGURES, text.encode())
        picture.unlink(missing_ok=True)
        with suppress(MissingDependency):
            chosen = None if choice.chosen is None else choice.chosen.candidate
            draw_pareto(rows, budget, chosen, picture)
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", path=out, remedy="Choose another --out"
        ) from error


def _none(rows: Sequence[Scored], budget: Budget, choice: Choice, out: Path) -> AccuracyGateFailed:
    """What came closest, and what to do about it."""
    best = closest(rows, budget)
    slow = best is not None and any("frames/s" in line for line in best.breaks)
    remedy = (
        "Lower --min-fps, or prune further with --ratios"
        if slow
        else (
            "Raise the line that it breaks, recover for longer with --prune-steps, or try gentler "
            "--ratios"
        )
    )
    return AccuracyGateFailed(choice.reason, path=out / FIGURES, remedy=remedy)
