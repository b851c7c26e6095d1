"""`pkecho-edge tune`: the fastest engine inside a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.compile_options import (
    VERIFY_CLIPS,
    CalibrationOption,
    CheckpointArgument,
    ClipSeedOption,
    ClipsOption,
    DataOption,
    RuleOption,
    SchemeOption,
    TargetOption,
    ThreadsOption,
    VerifyClipsOption,
    check_float_precision,
    limits_of,
    parse_modes,
)
from pkecho_edge.cli.console import (
    DebugOption,
    GatesOption,
    JsonOption,
    QuietOption,
    SizeOption,
    attempt,
    check_folder,
    console,
    parse_size,
    plain,
    write_json,
)
from pkecho_edge.cli.dry_run import DryRunOption, show_plan
from pkecho_edge.cli.pruning_options import (
    BaselineOption,
    LessonPhantomsOption,
    ScopeOption,
    StepsOption,
)
from pkecho_edge.cli.settings import Heading, Setting, check_settings
from pkecho_edge.cli.settings_command import settings_command
from pkecho_edge.cli.settings_file import check_record, write_record
from pkecho_edge.errors import AccuracyGateFailed, UsageError

if TYPE_CHECKING:
    from pkecho_edge.searching import TuneResult
    from pkecho_edge.tune_order import TuneOrder

__all__ = ["TuneSettings", "parse_ratios", "tune", "tune_command"]

_AUTO = "auto"


def parse_ratios(text: str) -> list[float]:
    """ "0,0.5,0.8" as numbers.

    Raises:
        UsageError: something in it is no number.
    """
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(
            f"ratios {text!r} are no list of numbers", remedy="Write for example 0,0.5,0.8"
        ) from error


def _check_ratios(text: str) -> None:
    from pkecho_edge.tuning.search import check_ratios

    check_ratios(parse_ratios(text))


def _check_dsc_drop(points: float) -> None:
    from pkecho_edge.tuning.search import Budget

    Budget(max_dsc_drop=points)


def _check_ef_drift(points: float) -> None:
    from pkecho_edge.tuning.search import Budget

    Budget(max_ef_drift=points)


def _check_fps(fps: float) -> None:
    from pkecho_edge.tuning.search import Budget

    Budget(min_fps=fps)


def _check_precision(name: str) -> None:
    if name != _AUTO:
        check_float_precision(name)


@dataclass(frozen=True)
class TuneSettings:
    """What `tune` is told; every field is an option of its command line, but `limits`.

    Attributes:
        limits: as those of CompileSettings.

    Raises:
        UsageError: a value that cannot be, whatever the others are.
    """

    checkpoint: Annotated[CheckpointArgument, Heading("What is searched, and inside what")] = None
    target: TargetOption = "cpu"
    max_dsc_drop: Annotated[
        float,
        typer.Option(help="DSC points that may be lost, upper end of the 95 % interval."),
        Setting(check=_check_dsc_drop),
    ] = 0.5
    max_ef_drift: Annotated[
        float,
        typer.Option(help="EF points by which it may drift, by the same end."),
        Setting(check=_check_ef_drift),
    ] = 1.0
    min_fps: Annotated[
        float | None,
        typer.Option(help="Frames per second that it must reach."),
        Setting(example=60.0, check=_check_fps),
    ] = None
    ratios: Annotated[
        str,
        typer.Option(help="Pruning ratios to try: shares of the GMACs that go; 0: unpruned."),
        Setting(check=_check_ratios),
    ] = "0,0.5,0.8"
    also: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint pruned from it before, to try too.", metavar="CHECKPOINT"),
        Setting(example="small.safetensors"),
    ] = None
    mode: Annotated[
        str,
        typer.Option(help="Engines: clip, stream or both; all of them must hold."),
        Setting(check=parse_modes),
    ] = "stream"
    size: SizeOption = "128"
    threads: ThreadsOption = 0
    float_precision: Annotated[
        str,
        typer.Option(help="Of layers not INT8: f32, bf16, f16, or auto: all that help here."),
        Setting(check=_check_precision),
    ] = _AUTO
    data: Annotated[DataOption, Heading("The clips that calibrate, try and verify")] = None
    phantoms: Annotated[
        bool, typer.Option("--phantoms", help="Calibrate, try and verify on phantoms instead.")
    ] = False
    calibration: CalibrationOption = None
    clips: ClipsOption = 32
    seed: ClipSeedOption = 0
    verify_clips: VerifyClipsOption = VERIFY_CLIPS
    prune_steps: Annotated[StepsOption, Heading("Pruning and quantization")] = None
    prune_scope: ScopeOption = "global"
    lesson_phantoms: LessonPhantomsOption = 400
    baseline: BaselineOption = None
    scheme: SchemeOption = None
    rule: RuleOption = "auto"
    gates: Annotated[GatesOption, Heading("Verification and what is written")] = None
    out: Annotated[
        Path, typer.Option(help="Folder for the bundle, tune.json and pareto.png.", metavar="DIR")
    ] = Path("tuned")
    limits: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_settings(self)


def tune(
    settings: TuneSettings,
    dry_run: DryRunOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Search pruning, INT8 and mixed precision for the fastest engine inside a budget.

    Whatever was pruned, built or scored before is reused: an interrupted search goes on where it
    was when the same command is given again.
    """
    from pkecho_edge import searching
    from pkecho_edge.cli.tune_table import TuneTable
    from pkecho_edge.search_planning import plan_tune
    from pkecho_edge.verify.gates import check_gates

    out, data = settings.out, settings.data
    check_folder(out)
    check_record(out / searching.RECORD, "tune")
    packaged = settings.checkpoint is None and data is None
    limits = limits_of(settings.gates, settings.limits)
    settings = replace(settings, phantoms=settings.phantoms or packaged, gates=None, limits=limits)
    order = _ordered(settings, limits, overwrite)
    if dry_run:
        show_plan(plan_tune(order), json, quiet)
        return
    with _told_all_the_same(json, out), TuneTable(quiet) as table:
        result = searching.tune(order, observer=table, on_scored=table.scored)
        assert result.choice.chosen is not None
        table.mark(result.choice.chosen.candidate)
    if not quiet:
        _tell(result, out, data)
    unwritten = attempt(lambda: write_record(out / searching.RECORD, "tune", _resolved(settings)))
    if json:
        unwritten = attempt(lambda: write_json(json, result.document)) or unwritten
    check_gates(result.verification.gates, path=result.bundle.path / "reports" / "report.json")
    if unwritten:
        raise unwritten


tune_command = settings_command("tune", TuneSettings, tune)


def _resolved(settings: TuneSettings) -> TuneSettings:
    """With what the target, this machine and this version stand for where nothing was said."""
    from pkecho_edge import targets

    return replace(
        settings,
        scheme=settings.scheme or targets.get(settings.target).capabilities.scheme or None,
    )


def _ordered(settings: TuneSettings, limits: Mapping[str, float], overwrite: bool) -> TuneOrder:
    """The settings in the search's own terms."""
    from pkecho_edge import targets
    from pkecho_edge.calibration.calibration_set import CalibrationSet
    from pkecho_edge.clip_roles import clip_sources
    from pkecho_edge.data import sources
    from pkecho_edge.data.standard import TUNING_SEEDS
    from pkecho_edge.lesson_source import LessonSource
    from pkecho_edge.model.checkpoint import default_checkpoint_path
    from pkecho_edge.tune_order import TuneOrder
    from pkecho_edge.tuning import scoring
    from pkecho_edge.tuning.choose import rules_of
    from pkecho_edge.tuning.search import Budget

    s = settings
    auto = s.float_precision == _AUTO
    options = targets.options_for(s.target, None if auto else s.float_precision, s.threads)
    shape = parse_size(s.size)
    calibrating, verifying, trial = clip_sources(s.data, s.phantoms, shape, s.clips, s.verify_clips)
    if s.data is None:  # more than a quantization is chosen on: candidates differ by less
        trial = sources.phantoms(TUNING_SEEDS[: scoring.SCORED_CLIPS], shape)
    return TuneOrder(
        s.checkpoint or default_checkpoint_path(),
        s.out,
        calibrating,
        verifying,
        trial,
        s.target,
        Budget(s.max_dsc_drop, s.max_ef_drift, s.min_fps),
        ratios=parse_ratios(s.ratios),
        also=s.also or (),
        mode=s.mode,
        lessons=LessonSource(s.data, s.lesson_phantoms),
        prune_steps=s.prune_steps,
        scope=s.prune_scope,
        precisions=() if auto else (s.float_precision,),
        scheme=s.scheme,
        rules=rules_of(s.rule),
        options=options,
        baseline=s.baseline,
        calibration_clips=s.clips,
        calibration_set=CalibrationSet.load(s.calibration) if s.calibration else None,
        limits=limits,
        seed=s.seed,
        overwrite=overwrite,
    )


@contextmanager
def _told_all_the_same(json: Path | None, out: Path) -> Iterator[None]:
    """Writes --json where nothing fits, too: what came closest is what one wants to see then."""
    from json import loads

    try:
        yield
    except AccuracyGateFailed:
        if json:
            write_json(json, loads((out / "tune.json").read_text(encoding="utf-8")))
        raise


def _tell(result: TuneResult, out: Path, data: Path | None) -> None:
    """The reason, what verification measured, what was written."""
    from pkecho_edge.verify.report import render_table

    console.print(render_table(result.verification.report))
    console.print(f"Chosen:  {plain(result.choice.reason)}", soft_wrap=True)
    console.print(f"Bundle:  {plain(result.bundle.path)}", soft_wrap=True)
    console.print(f"Figures: {plain(out / 'tune.json')}", soft_wrap=True)
    picture = out / "pareto.png"
    console.print(
        f"Picture: {plain(picture)}"
        if picture.is_file()
        else "No picture: pip install 'pkecho-edge\\[report]'",
        soft_wrap=True,
    )
    on = "" if data is None else f" --data {plain(data)}"
    console.print(f"Next:    pkecho-edge verify {plain(result.bundle.path)}{on}", soft_wrap=True)
