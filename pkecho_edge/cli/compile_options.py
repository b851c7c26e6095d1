"""The settings of `compile`, and the options that it shares with other verbs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pkecho_edge.cli.console import GatesOption, SizeOption
from pkecho_edge.cli.pruning_options import (
    BaselineOption,
    LessonPhantomsOption,
    ScopeOption,
    StepsOption,
    check_ratio,
)
from pkecho_edge.cli.settings import Heading, Setting, check_settings
from pkecho_edge.errors import UsageError

__all__ = ["CalibrationOption", "CheckpointArgument", "ClipSeedOption", "ClipsOption"]
__all__ += ["CompileSettings", "DataOption", "KeepFloatOption", "RestoreOption", "RuleOption"]
__all__ += ["VERIFY_CLIPS", "SchemeOption", "TargetOption", "ThreadsOption", "VerifyClipsOption"]
__all__ += [
    "WAYS",
    "check_float_precision",
    "check_target_name",
    "limits_of",
    "parse_modes",
]

VERIFY_CLIPS = 40


def parse_modes(text: str) -> tuple[str, ...]:
    """ "clip", "stream" or "both" as the modes of a bundle.

    Raises:
        UsageError: anything else.
    """
    modes = {"clip": ("clip",), "stream": ("stream",), "both": ("clip", "stream")}
    if text not in modes:
        raise UsageError(f"there is no mode {text!r}", remedy="Use clip, stream or both")
    return modes[text]


def check_target_name(name: str) -> None:
    """UsageError where there is no such target."""
    from pkecho_edge import targets

    targets.get(name)


def _check_threads(threads: int) -> None:
    from pkecho_edge.targets.base import CompileOptions

    CompileOptions(threads=threads)


def check_float_precision(name: str) -> None:
    """UsageError where no target at all has such a float precision."""
    from pkecho_edge.targets.base import CompileOptions

    CompileOptions(float_precision=name)


def _check_scheme(name: str) -> None:
    from pkecho_edge.calibration.scheme import load_scheme

    load_scheme(name)


def _check_rule(name: str) -> None:
    from pkecho_edge.calibration.rule import RangeRule

    if name != "auto":
        RangeRule.parse(name)


def _check_security_version(number: int) -> None:
    from pkecho_edge.pipeline import check_security_version

    check_security_version(number)


def _check_way(name: str) -> None:
    if name not in WAYS:
        raise UsageError(f"there is no way {name!r} to TensorRT", remedy=f"Use {' or '.join(WAYS)}")


WAYS: Mapping[str, str] = {"onnx": "tensorrt", "torch-tensorrt": "torch-tensorrt"}
"""Ways to build for TensorRT -> the target that goes it."""

CheckpointArgument = Annotated[
    Path | None,
    typer.Argument(
        help="Trained PKEcho-Net; default: the packaged ResNet-18.", metavar="CHECKPOINT"
    ),
    Setting(example="run/best.safetensors"),
]
TargetOption = Annotated[
    str,
    typer.Option(help="See `pkecho-edge targets`."),
    Setting(
        check=check_target_name,
        more="cpu, onnxruntime, jetson, tensorrt, cuda or torch-tensorrt.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(help="Recordings: TRAIN calibrates, TEST verifies.", metavar="DIR"),
    Setting(example="recordings"),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(help="A file of `pkecho-edge calibrate`.", metavar="FILE"),
    Setting(example="calibration.json"),
]
ClipsOption = Annotated[int, typer.Option(help="Clips that set the INT8 ranges.", min=1)]
VerifyClipsOption = Annotated[
    int, typer.Option(help="Phantoms that are verified on; fewer are quicker.", min=1, max=200)
]
ThreadsOption = Annotated[
    int,
    typer.Option(help="Of the engine at run time; 0: every core.", min=0),
    Setting(check=_check_threads, more="At most 256."),
]
SchemeOption = Annotated[
    str | None,
    typer.Option(help="Quantization scheme; default: the target's."),
    Setting(
        example="cpu",
        check=_check_scheme,
        more="cpu, cpu-avx2, onnxruntime or tensorrt: docs/quantization.md.",
    ),
]
RuleOption = Annotated[
    str,
    typer.Option(help="Range rule, or auto: the one that drifts least."),
    Setting(check=_check_rule, more="For example minmax/minmax+bias: docs/quantization.md."),
]
RestoreOption = Annotated[
    bool, typer.Option("--restore/--no-restore", help="Layers back to float until the gates pass.")
]
KeepFloatOption = Annotated[
    list[str] | None,
    typer.Option(help="A layer that stays in float.", metavar="LAYER"),
    Setting(example="upsamplers.0.scores"),
]
ClipSeedOption = Annotated[int, typer.Option(help="Of the choice of clips.", min=0)]
ModeOption = Annotated[
    str, typer.Option(help="Engines: clip, stream or both."), Setting(check=parse_modes)
]


@dataclass(frozen=True)
class CompileSettings:
    """What `compile` is told; every field is an option of its command line, but `limits`.

    Attributes:
        limits: of the gates, all of them, as a file's table [gates] says; None for those of
            `gates`, and where that is None, too, the default ones.

    Raises:
        UsageError: a value that cannot be, whatever the others are.
    """

    checkpoint: Annotated[CheckpointArgument, Heading("What is compiled, and for what")] = None
    target: TargetOption = "cpu"
    profile: Annotated[
        str | None,
        typer.Option(help="The device: a name of `pkecho-edge targets`, or a TOML file."),
        Setting(example="orin-nano", may_be_file=True, more="Of targets jetson and tensorrt."),
    ] = None
    via: Annotated[
        str | None,
        typer.Option(help="How --target tensorrt builds: onnx (default) or torch-tensorrt."),
        Setting(example="onnx", check=_check_way),
    ] = None
    mode: ModeOption = "both"
    size: SizeOption = "128"
    threads: ThreadsOption = 0
    float_precision: Annotated[
        str | None,
        typer.Option(help="Of layers not INT8: f32, bf16, f16; default: the target's."),
        Setting(example="f32", check=check_float_precision),
    ] = None
    data: Annotated[DataOption, Heading("The clips that calibrate and verify")] = None
    phantoms: Annotated[
        bool, typer.Option("--phantoms", help="Calibrate and verify on phantoms instead.")
    ] = False
    calibration: CalibrationOption = None
    clips: ClipsOption = 32
    seed: ClipSeedOption = 0
    verify_clips: VerifyClipsOption = VERIFY_CLIPS
    prune: Annotated[
        float | None,
        typer.Option(help="Prune first: share of the GMACs that goes.", metavar="RATIO"),
        Setting(example=0.5, check=check_ratio, more="Between 0 and 1: 0.8 leaves a fifth."),
        Heading("Pruning"),
    ] = None
    prune_steps: StepsOption = None
    prune_scope: ScopeOption = "global"
    lesson_phantoms: LessonPhantomsOption = 400
    baseline: BaselineOption = None
    scheme: Annotated[SchemeOption, Heading("Quantization")] = None
    rule: RuleOption = "auto"
    restore: RestoreOption = True
    keep_float: KeepFloatOption = None
    gates: Annotated[GatesOption, Heading("Verification and the bundle")] = None
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place/--no-in-place",
            help="Where this machine is the device: build, score and time its plans as well.",
        ),
    ] = True
    security_version: Annotated[
        int,
        typer.Option(help="Raise it when devices must refuse older bundles.", metavar="N"),
        Setting(check=_check_security_version, more="1 or more."),
    ] = 1
    out: Annotated[
        Path | None,
        typer.Option(help="The bundle; default: NAME-TARGET.pkb here.", metavar="PKB"),
        Setting(example="heart.pkb"),
    ] = None
    limits: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_settings(self)


def limits_of(gates: Path | None, limits: Mapping[str, float] | None) -> Mapping[str, float]:
    """Of the gates file, else of the settings' own table [gates], else the default ones."""
    from pkecho_edge.verify.gates import DEFAULT_LIMITS, load_gates

    if gates is not None:
        return load_gates(gates)
    return DEFAULT_LIMITS if limits is None else limits
