"""`pkecho-edge compile`: the street from a checkpoint to a verified bundle."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.compile_options import (
    WAYS,
    CompileSettings,
    limits_of,
    parse_modes,
)
from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    JsonOption,
    QuietOption,
    attempt,
    check_place,
    console,
    parse_size,
    plain,
    write_json,
)
from pkecho_edge.cli.dry_run import DryRunOption, show_plan
from pkecho_edge.cli.pruning_options import steps_of
from pkecho_edge.cli.settings_command import settings_command
from pkecho_edge.cli.settings_file import CONFIG, check_record, write_record
from pkecho_edge.cli.verify import print_reports
from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from pkecho_edge.measuring import VerifyResult
    from pkecho_edge.pipeline import CompileOrder, CompileResult

__all__ = ["compile_", "compile_command"]

_PACKAGED = (
    "No checkpoint given: the packaged ResNet-18, trained on phantoms of 128x128 and 320x320, "
    "and phantoms to go with it."
)


def compile_(
    settings: CompileSettings,
    dry_run: DryRunOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Prune if asked, calibrate, quantize, compile, verify and bundle a checkpoint.

    Without CHECKPOINT, what pkecho-edge.toml in the current folder says, where there is one
    (`pkecho-edge init` writes it), else the packaged network on phantoms.
    """
    from pkecho_edge import pipeline, planning
    from pkecho_edge.records import record_path
    from pkecho_edge.verify.gates import check_gates
    from pkecho_edge.verify.report import render_table

    resolved, order = _ordered(settings, overwrite, quiet)
    record = record_path(order.out)
    if os.path.lexists(order.checkpoint):  # else the street says what is wrong, with its name
        _check_output(order.out, record)
    if dry_run:
        show_plan(planning.plan_compile(order, in_place=settings.in_place), json, quiet)
        return
    with Bars(quiet) as bars:
        result = pipeline.compile(order, observer=bars)
    if not quiet:
        console.print(render_table(result.verification.report))
        console.print(f"Bundle:  {plain(order.out)}")
        print_reports(order.out / "reports")
    unwritten = attempt(lambda: write_record(record, "compile", resolved, _facts(result)))
    found, reports = result.verification, order.out / "reports"
    if settings.in_place and (here := _measured_in_place(order, quiet)):
        found, reports = here
    if not quiet:
        if not unwritten:
            console.print(f"Again:   pkecho-edge compile --config {plain(record)}", soft_wrap=True)
        _tell_next(order.out, settings.data, found is not result.verification)
    if json:
        unwritten = attempt(lambda: write_json(json, found.report.to_dict())) or unwritten
    check_gates(found.gates, path=reports / "report.json", allow_incomplete=True)
    if unwritten:  # the last to fail: by now the reader knows that the bundle is there
        raise unwritten


def _check_output(out: Path, record: Path) -> None:
    """Both can be written, as far as one can know before."""
    if not os.path.lexists(out):  # what is there, the bundle's writer judges
        check_place(out)
    check_record(record, "compile")


compile_command = settings_command("compile", CompileSettings, compile_, looks_for=CONFIG)


def _ordered(
    settings: CompileSettings, overwrite: bool, quiet: bool
) -> tuple[CompileSettings, CompileOrder]:
    """The settings with what stands where nothing was said, and the order that they give.

    Everything that can be refused before any work is done, has been when this returns.

    Raises:
        UsageError, MissingDependency: settings that do not go together, or with this machine.
        UnusableInput: a calibration set that cannot be read.
    """
    from pkecho_edge import targets
    from pkecho_edge.calibration.calibration_set import CalibrationSet
    from pkecho_edge.clip_roles import clip_sources
    from pkecho_edge.lesson_source import LessonSource
    from pkecho_edge.model.checkpoint import default_checkpoint_path
    from pkecho_edge.pipeline import CompileOrder, check_target
    from pkecho_edge.recovering import PruningOrder, recipe_of
    from pkecho_edge.tuning.choose import QuantizationOrder, rules_of

    s = settings
    target = _by_way_of(s.target, s.via)
    pruning = None
    if s.prune is not None:
        round_to = targets.get(target).capabilities.round_to
        recipe = recipe_of(s.prune, s.prune_steps)
        pruning = PruningOrder(s.prune, s.prune_scope, round_to=round_to, recipe=recipe)
    options = targets.options_for(target, s.float_precision, s.threads, s.profile)
    check_target(target, options)
    phantoms = s.phantoms
    if s.checkpoint is None and s.data is None:
        phantoms = True
        if not quiet:
            console.print(_PACKAGED)
    checkpoint = s.checkpoint or default_checkpoint_path()
    out = s.out or Path(f"{checkpoint.stem}-{target}.pkb")
    limits = limits_of(s.gates, s.limits)
    clips = clip_sources(s.data, phantoms, parse_size(s.size), s.clips, s.verify_clips)
    capabilities = targets.get(target).capabilities
    resolved = replace(
        s,
        phantoms=phantoms,
        out=out,
        gates=None,
        limits=limits,
        profile=s.profile or capabilities.profile,
        float_precision=options.float_precision,
        prune_steps=s.prune_steps if pruning is None else steps_of(pruning.recipe),
        scheme=s.scheme or capabilities.scheme or None,
    )
    order = CompileOrder(
        checkpoint,
        out,
        *clips,
        target=target,
        modes=parse_modes(s.mode),
        calibration_clips=s.clips,
        calibration_set=CalibrationSet.load(s.calibration) if s.calibration else None,
        pruning=pruning,
        lessons=LessonSource(s.data, s.lesson_phantoms),
        baseline=s.baseline,
        quantization=QuantizationOrder(
            s.scheme, rules_of(s.rule), s.restore, tuple(s.keep_float or ())
        ),
        options=options,
        limits=limits,
        seed=s.seed,
        security_version=s.security_version,
        overwrite=overwrite,
    )
    return resolved, order


def _facts(result: CompileResult) -> tuple[str, ...]:
    """What the record says of the bundle; nothing that was measured."""
    manifest = result.bundle.manifest
    return (
        f"Bundle {manifest.bundle_id}, from the baseline with SHA-256",
        f"{manifest.lineage.checkpoint_sha256}.",
    )


def _measured_in_place(order: CompileOrder, quiet: bool) -> tuple[VerifyResult, Path] | None:
    """Where this machine is the device, what its plans gave and where the report lies."""
    from pkecho_edge import verifying
    from pkecho_edge.verify.report import render_table

    with Bars(quiet) as bars:  # what fails here leaves a whole bundle, which was told
        here = verifying.measure_in_place(
            order.out,
            order.verification,
            baseline=order.baseline,
            limits=order.limits,
            observer=bars,
            say=lambda line: bars.describe(plain(line)),
        )
    if here is None:
        return None
    reports = verifying.report_folder(order.out)
    if not quiet:
        console.print(render_table(here.report))
        print_reports(reports)
    return here, reports


def _tell_next(out: Path, data: Path | None, in_place: bool) -> None:
    """The command to go on with."""
    from pkecho_edge.verifying import result_file

    on = "" if data is None else f" --data {plain(data)}"
    kit = out / "device" / "pkecho_device.py"
    after = f"pkecho-edge verify {plain(out)}{on}"
    if kit.is_file():
        after = f"python3 {plain(kit)}, on the device"
    if in_place:
        merged = plain(result_file(out).name)
        after = f"pkecho-edge verify {plain(out)}{on} --merge {merged}"
    console.print(f"Next:    {after}", soft_wrap=True)


def _by_way_of(target: str, via: str | None) -> str:
    """The target that builds the same by the way that is asked for.

    Raises:
        UsageError: another target than `tensorrt`.
    """
    if via is None:
        return target
    if target != "tensorrt":
        raise UsageError(f"target {target} is built in one way only", remedy="Leave out --via")
    return WAYS[via]
