"""`pkecho-edge tune`: the fastest engine inside a budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.compile import (
    CalibrationOption,
    CheckpointArgument,
    ClipSeedOption,
    ClipsOption,
    DataOption,
    RuleOption,
    clip_sources,
)
from pkecho_edge.cli.console import (
    DebugOption,
    GatesOption,
    JsonOption,
    QuietOption,
    SizeOption,
    check_folder,
    console,
    parse_size,
    plain,
    write_json,
)
from pkecho_edge.cli.pruning_options import (
    BaselineOption,
    LessonPhantomsOption,
    ScopeOption,
    StepsOption,
    recovery_recipe,
)
from pkecho_edge.errors import AccuracyGateFailed, UsageError

if TYPE_CHECKING:
    from pkecho_edge.searching import TuneResult

__all__ = ["parse_ratios", "tune"]

_VERIFY_CLIPS = 40
_AUTO = "auto"


def tune(
    checkpoint: CheckpointArgument = None,
    target: Annotated[str, typer.Option(help="See `pkecho-edge targets`.")] = "cpu",
    max_dsc_drop: Annotated[
        float, typer.Option(help="DSC points that may be lost, upper end of the 95 % interval.")
    ] = 0.5,
    max_ef_drift: Annotated[
        float, typer.Option(help="EF points by which it may drift, by the same end.")
    ] = 1.0,
    min_fps: Annotated[
        float | None, typer.Option(help="Frames per second that it must reach.")
    ] = None,
    ratios: Annotated[
        str, typer.Option(help="Pruning ratios to try: shares of the GMACs that go; 0: unpruned.")
    ] = "0,0.5,0.8",
    also: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint pruned from it before, to try too.", metavar="CHECKPOINT"),
    ] = None,
    data: DataOption = None,
    phantoms: Annotated[
        bool, typer.Option("--phantoms", help="Calibrate, try and verify on phantoms instead.")
    ] = False,
    calibration: CalibrationOption = None,
    clips: ClipsOption = 32,
    verify_clips: Annotated[
        int, typer.Option(help="Phantoms that are verified on; fewer are quicker.", min=1, max=200)
    ] = _VERIFY_CLIPS,
    size: SizeOption = "128",
    mode: Annotated[
        str, typer.Option(help="Engines: clip, stream or both; all of them must hold.")
    ] = "stream",
    threads: Annotated[int, typer.Option(help="At run time; 0: every core.", min=0)] = 0,
    float_precision: Annotated[
        str, typer.Option(help="Of layers not INT8: f32, bf16, f16, or auto: all that help here.")
    ] = _AUTO,
    scheme: Annotated[
        str | None, typer.Option(help="Quantization scheme; default: the target's.")
    ] = None,
    rule: RuleOption = "auto",
    prune_steps: StepsOption = None,
    prune_scope: ScopeOption = "global",
    lesson_phantoms: LessonPhantomsOption = 400,
    baseline: BaselineOption = None,
    gates: GatesOption = None,
    seed: ClipSeedOption = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for the bundle, tune.json and pareto.png.", metavar="DIR")
    ] = Path("tuned"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Search pruning, INT8 and mixed precision for the fastest engine inside a budget.

    Whatever was pruned, built or scored before is reused: an interrupted search goes on where it
    was when the same command is given again.
    """
    from pkecho_edge import searching, targets
    from pkecho_edge.calibration.calibration_set import CalibrationSet
    from pkecho_edge.cli.tune_table import TuneTable
    from pkecho_edge.data import sources
    from pkecho_edge.data.standard import TUNING_SEEDS
    from pkecho_edge.lesson_source import LessonSource
    from pkecho_edge.model.checkpoint import default_checkpoint_path
    from pkecho_edge.tuning import scoring
    from pkecho_edge.tuning.choose import rules_of
    from pkecho_edge.tuning.search import Budget, check_ratios
    from pkecho_edge.verify.gates import DEFAULT_LIMITS, check_gates, load_gates

    budget = Budget(max_dsc_drop, max_ef_drift, min_fps)
    tried = check_ratios(parse_ratios(ratios))
    auto = float_precision == _AUTO
    options = targets.options_for(target, None if auto else float_precision, threads)
    check_folder(out)
    phantoms = phantoms or (checkpoint is None and data is None)
    shape = parse_size(size)
    calibrating, verifying, trial = clip_sources(data, phantoms, shape, clips, verify_clips)
    if data is None:  # more than a quantization is chosen on: candidates differ by less
        trial = sources.phantoms(TUNING_SEEDS[: scoring.SCORED_CLIPS], shape)
    with _told_all_the_same(json, out), TuneTable(quiet) as table:
        result = searching.tune(
            checkpoint or default_checkpoint_path(),
            out,
            calibration=calibrating,
            verification=verifying,
            trial=trial,
            target=target,
            budget=budget,
            ratios=tried,
            also=also or (),
            mode=mode,
            lessons=LessonSource(data, lesson_phantoms),
            recipe=recovery_recipe(prune_steps),
            scope=prune_scope,
            precisions=() if auto else (float_precision,),
            quantization_scheme=scheme,
            rules=rules_of(rule),
            options=options,
            baseline=baseline,
            calibration_clips=clips,
            calibration_set=CalibrationSet.load(calibration) if calibration else None,
            limits=load_gates(gates) if gates else DEFAULT_LIMITS,
            seed=seed,
            overwrite=overwrite,
            observer=table,
            on_scored=table.scored,
        )
        assert result.choice.chosen is not None
        table.mark(result.choice.chosen.candidate)
    if not quiet:
        _tell(result, out, data)
    if json:
        write_json(json, result.document)
    check_gates(result.verification.gates, path=result.bundle.path / "reports" / "report.json")


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
