"""`pkecho-edge compile`: the street from a checkpoint to a verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.console import (
    Bars,
    DebugOption,
    GatesOption,
    JsonOption,
    QuietOption,
    SizeOption,
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
from pkecho_edge.cli.verify import print_reports
from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from pkecho_edge.data.sources import ClipSource

__all__ = ["CalibrationOption", "CheckpointArgument", "ClipSeedOption", "ClipsOption"]
__all__ += ["DataOption", "KeepFloatOption", "RestoreOption", "RuleOption", "clip_sources"]
__all__ += ["compile_", "parse_modes"]

VERIFY_CLIPS = 40
_PACKAGED = (
    "No checkpoint given: the packaged ResNet-18, trained on phantoms of 128x128 and 320x320, "
    "and phantoms to go with it."
)

CheckpointArgument = Annotated[
    Path | None,
    typer.Argument(
        help="Trained PKEcho-Net; default: the packaged ResNet-18.", metavar="CHECKPOINT"
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(help="Recordings: TRAIN calibrates, TEST verifies.", metavar="DIR"),
]
CalibrationOption = Annotated[
    Path | None, typer.Option(help="A file of `pkecho-edge calibrate`.", metavar="FILE")
]
ClipsOption = Annotated[int, typer.Option(help="Clips that set the INT8 ranges.", min=1)]
RuleOption = Annotated[str, typer.Option(help="Range rule, or auto: the one that drifts least.")]
RestoreOption = Annotated[
    bool, typer.Option("--restore/--no-restore", help="Layers back to float until the gates pass.")
]
KeepFloatOption = Annotated[
    list[str] | None, typer.Option(help="A layer that stays in float.", metavar="LAYER")
]
ClipSeedOption = Annotated[int, typer.Option(help="Of the choice of clips.", min=0)]


def compile_(
    checkpoint: CheckpointArgument = None,
    target: Annotated[str, typer.Option(help="See `pkecho-edge targets`.")] = "cpu",
    data: DataOption = None,
    phantoms: Annotated[
        bool, typer.Option("--phantoms", help="Calibrate and verify on phantoms instead.")
    ] = False,
    calibration: CalibrationOption = None,
    clips: ClipsOption = 32,
    prune: Annotated[
        float | None,
        typer.Option(help="Prune first: share of the GMACs that goes.", metavar="RATIO"),
    ] = None,
    prune_steps: StepsOption = None,
    prune_scope: ScopeOption = "global",
    lesson_phantoms: LessonPhantomsOption = 400,
    baseline: BaselineOption = None,
    verify_clips: Annotated[
        int, typer.Option(help="Phantoms that are verified on; fewer are quicker.", min=1, max=200)
    ] = VERIFY_CLIPS,
    size: SizeOption = "128",
    mode: Annotated[str, typer.Option(help="Engines: clip, stream or both.")] = "both",
    threads: Annotated[int, typer.Option(help="At run time; 0: every core.", min=0)] = 0,
    float_precision: Annotated[
        str | None, typer.Option(help="Of layers not INT8: f32, bf16, f16; default: the target's.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="The device: a name of `pkecho-edge targets`, or a TOML file."),
    ] = None,
    via: Annotated[
        str | None,
        typer.Option(help="How --target tensorrt builds: onnx (default) or torch-tensorrt."),
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="Quantization scheme; default: the target's.")
    ] = None,
    rule: RuleOption = "auto",
    restore: RestoreOption = True,
    keep_float: KeepFloatOption = None,
    gates: GatesOption = None,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place/--no-in-place",
            help="Where this machine is the device: build, score and time its plans as well.",
        ),
    ] = True,
    seed: ClipSeedOption = 0,
    security_version: Annotated[
        int,
        typer.Option(help="Raise it when devices must refuse older bundles.", metavar="N"),
    ] = 1,
    out: Annotated[
        Path | None, typer.Option(help="The bundle; default: NAME-TARGET.pkb here.", metavar="PKB")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Prune if asked, calibrate, quantize, compile, verify and bundle a checkpoint."""
    from pkecho_edge import pipeline, targets
    from pkecho_edge.calibration.calibration_set import CalibrationSet
    from pkecho_edge.lesson_source import LessonSource
    from pkecho_edge.model.checkpoint import default_checkpoint_path
    from pkecho_edge.recovering import PruningOrder
    from pkecho_edge.tuning.choose import QuantizationOrder, rules_of
    from pkecho_edge.verify.gates import DEFAULT_LIMITS, check_gates, load_gates
    from pkecho_edge.verify.report import render_table

    target = _by_way_of(target, via)
    pruning = (
        None
        if prune is None
        else PruningOrder(
            prune,
            prune_scope,
            round_to=targets.get(target).capabilities.round_to,
            recipe=recovery_recipe(prune_steps),
        )
    )
    options = targets.options_for(target, float_precision, threads, profile)
    pipeline.check_target(target, options)
    if checkpoint is None and data is None:
        phantoms = True
        if not quiet:
            console.print(_PACKAGED)
    source = checkpoint or default_checkpoint_path()
    limits = load_gates(gates) if gates else DEFAULT_LIMITS
    calibration_source, verification, trial = clip_sources(
        data, phantoms, parse_size(size), clips, verify_clips
    )
    out = out or Path(f"{source.stem}-{target}.pkb")
    with Bars(quiet) as bars:
        result = pipeline.compile(
            source,
            out,
            calibration=calibration_source,
            verification=verification,
            trial=trial,
            target=target,
            modes=parse_modes(mode),
            calibration_clips=clips,
            calibration_set=CalibrationSet.load(calibration) if calibration else None,
            pruning=pruning,
            lessons=LessonSource(data, lesson_phantoms),
            baseline=baseline,
            quantization=QuantizationOrder(
                scheme, rules_of(rule), restore, tuple(keep_float or ())
            ),
            options=options,
            limits=limits,
            seed=seed,
            security_version=security_version,
            overwrite=overwrite,
            observer=bars,
        )
    if not quiet:
        console.print(render_table(result.verification.report))
        console.print(f"Bundle:  {plain(out)}")
        print_reports(out / "reports")
    found, reports = result.verification, out / "reports"
    if in_place:  # what fails here leaves a whole bundle, which was told
        with Bars(quiet) as bars:
            here = pipeline.measure_in_place(
                out,
                verification,
                baseline=baseline,
                limits=limits,
                observer=bars,
                say=lambda line: bars.describe(plain(line)),
            )
        if here is not None:
            found, reports = here, pipeline.report_folder(out)
            if not quiet:
                console.print(render_table(found.report))
                print_reports(reports)
    if not quiet:
        on = "" if data is None else f" --data {plain(data)}"
        kit = out / "device" / "pkecho_device.py"
        after = f"pkecho-edge verify {plain(out)}{on}"
        if kit.is_file():
            after = f"python3 {plain(kit)}, on the device"
        if found is not result.verification:
            merged = plain(pipeline.result_file(out).name)
            after = f"pkecho-edge verify {plain(out)}{on} --merge {merged}"
        console.print(f"Next:    {after}", soft_wrap=True)
    if json:  # the last to fail: by now the reader knows that the bundle is there
        write_json(json, found.report.to_dict())
    check_gates(found.gates, path=reports / "report.json", allow_incomplete=True)


def _by_way_of(target: str, via: str | None) -> str:
    """The target that builds the same by the way that is asked for.

    Raises:
        UsageError: another target than `tensorrt`, or a way that there is not.
    """
    if via is None:
        return target
    if target != "tensorrt":
        raise UsageError(f"target {target} is built in one way only", remedy="Leave out --via")
    ways = {"onnx": "tensorrt", "torch-tensorrt": "torch-tensorrt"}
    if via not in ways:
        raise UsageError(f"there is no way {via!r} to TensorRT", remedy=f"Use {' or '.join(ways)}")
    return ways[via]


def parse_modes(text: str) -> tuple[str, ...]:
    """ "clip", "stream" or "both" as the modes of a bundle.

    Raises:
        UsageError: anything else.
    """
    modes = {"clip": ("clip",), "stream": ("stream",), "both": ("clip", "stream")}
    if text not in modes:
        raise UsageError(f"there is no mode {text!r}", remedy="Use clip, stream or both")
    return modes[text]


def clip_sources(
    data: Path | None,
    phantoms: bool,
    size: tuple[int, int],
    clips: int,
    verify_clips: int = VERIFY_CLIPS,
) -> tuple[ClipSource, ClipSource, ClipSource]:
    """Where the clips of calibration, of verification and of trials come from."""
    from pkecho_edge.clip_roles import TRIAL_CLIPS
    from pkecho_edge.data import sources
    from pkecho_edge.data.standard import CALIBRATION_SEEDS, TUNING_SEEDS

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
