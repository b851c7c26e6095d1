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
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any

from pkecho_edge import pipeline
from pkecho_edge.bundle.reader import Bundle, read_bundle
from pkecho_edge.candidates import ROUNDS, Plan, Search, Source, Table
from pkecho_edge.clip_roles import calibration_clips_of, note_clips, trial_clips_of
from pkecho_edge.errors import (
    AccuracyGateFailed,
    MissingDependency,
    UsageError,
)
from pkecho_edge.files import scratch_folder, write_atomically
from pkecho_edge.measuring import VerifyResult
from pkecho_edge.pruning_stage import Lineaged, check_pruned_from, load_lineaged
from pkecho_edge.records import forget_record
from pkecho_edge.stages import Observer, SilentObserver, StageCache, default_cache
from pkecho_edge.tune_order import TuneOrder
from pkecho_edge.tuning.pareto import draw_pareto
from pkecho_edge.tuning.scoring import TrialSet, answered, scored_clips
from pkecho_edge.tuning.search import Budget, Choice, Scored, closest, pareto_front
from pkecho_edge.verify.machine import machine_facts

__all__ = ["RECORD", "TUNE_SCHEMA", "TuneResult", "tune"]

TUNE_SCHEMA = "pkecho-edge/tune/1"

PICTURE, FIGURES, RECORD = "pareto.png", "tune.json", "tune.toml"


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
    order: TuneOrder,
    *,
    cache: Path | None = None,
    observer: Observer | None = None,
    on_scored: Table = len,
) -> TuneResult:
    """The fastest engine inside a budget.

    Args:
        order: what is asked.
        cache: of finished stages; None for the user's.
        observer: hears about progress.
        on_scored: hears all rows so far, whenever one of them is new or has other figures.

    Raises:
        AccuracyGateFailed: nothing meets the budget; tune.json and the picture say what there was.
        CheckpointError: unusable, or one of `also` that goes back to another baseline.
        UsageError, MissingDependency: what `TuneOrder.checked` refuses.
        CalibrationError: too few labelled patients to score on, or one that serves calibration
            and verification.
        and what every candidate failed with, where all did.
    """
    observer, stages = observer or SilentObserver(), StageCache(cache or default_cache())
    order = order.checked()
    origin = load_lineaged(order.checkpoint, order.baseline, stages)
    for path in order.also:
        check_pruned_from(path, origin)
    # their baseline is found by its hash: it lies in the cache by now, wherever it was found
    given = {path: Source(path, None, load_lineaged(path, None, stages)) for path in order.also}
    order = order.of_length(origin.network.config.frames)
    plan = _drawn(order, origin, stages, observer)
    sets = _trial_sets(plan, stages, observer)
    with ExitStack() as stack:
        search = Search(plan, sets, stages, observer, on_scored, stack)
        search.score_all(given)
    place = order.bundle
    with scratch_folder(order.out, place.name) as scratch:
        choice, verified = search.verify_best(
            lambda asked, heard: pipeline.compile(asked, cache=cache, observer=heard),
            scratch / place.name,
        )
        _replace(place, scratch, verified is not None)
    document = {**_document(search, choice), "bundle": place.name if verified else None}
    _write(order.out, document, search.rows, order.budget, choice)
    if verified is None:
        raise _none(search.rows, order.budget, choice, order.out)
    return TuneResult(tuple(search.rows), choice, read_bundle(place), verified, document)


def _drawn(order: TuneOrder, origin: Lineaged, stages: StageCache, observer: Observer) -> Plan:
    """Everything that candidates share.

    Raises:
        CalibrationError: a patient serves both calibration and verification.
    """
    chosen, clips, rest = calibration_clips_of(
        order.calibration, order.calibration_set, order.calibration_clips, order.seed, observer
    )
    pipeline.check_apart(chosen, order.verification)
    trial = trial_clips_of(order.trial, rest, clips)
    note_clips(order.clips_wanted, chosen, trial, stages)  # for a dry run
    return Plan(order, origin, chosen, clips, trial)


def _trial_sets(plan: Plan, stages: StageCache, observer: Observer) -> list[TrialSet]:
    """Of every mode the clips to score on, with the baseline's answers."""
    order, origin = plan.order, plan.origin
    return [
        answered(
            mode,
            scored_clips(mode, order.trial, order.calibration, plan.calibration, observer),
            origin.baseline,
            origin.baseline_sha256,
            stages,
            observer,
        )
        for mode in order.modes
    ]


def _document(search: Search, choice: Choice) -> dict[str, Any]:
    """Of tune.json, but for the bundle's name."""
    plan, order = search.plan, search.plan.order
    front = {each.candidate for each in pareto_front(search.rows)}
    return {
        "schema": TUNE_SCHEMA,
        "target": order.target,
        "mode": order.mode,
        "size": list(plan.calibration.size),
        "baseline_sha256": plan.origin.baseline_sha256,
        "trial_clips": {each.mode: len(each.clips) for each in search.sets},
        "budget": vars(order.budget),
        "limits": dict(order.gate_limits),
        "timing": f"{order.timed}, median of {ROUNDS} rounds in which all engines took turns",
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
        "data": {
            "calibration": order.calibration.description,
            "trial": order.trial.description,
            "verification": order.verification.description,
        },
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
