"""What `import pkecho_edge as pk` offers to notebooks and scripts: the main verbs as functions.

    import pkecho_edge as pk

    made = pk.compile("run/best.safetensors", "heart.pkb", data="recordings")
    checked = pk.verify("heart.pkb", data="recordings")
    checked.report.verdict, checked.modes["stream"].accuracy.drift.ef.mean

They take the words of the command line and its defaults, raise the errors of `pkecho_edge.errors`
instead of ending, and say on stderr what they are doing unless `progress` is False. A gate that
fails is no error: it stands in what is returned.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pkecho_edge import pipeline, targets, verifying
from pkecho_edge.bundle.reader import read_bundle
from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.clip_roles import clip_sources
from pkecho_edge.data import sources
from pkecho_edge.data.standard import STANDARD_COUNT
from pkecho_edge.frame_size import check_frame_size
from pkecho_edge.lesson_source import LessonSource
from pkecho_edge.measuring import VerifyResult
from pkecho_edge.pipeline import CompileOrder, CompileResult
from pkecho_edge.recovering import PruningOrder, recipe_of
from pkecho_edge.stages import LineObserver, Observer, SilentObserver
from pkecho_edge.tuning.choose import QuantizationOrder, rules_of
from pkecho_edge.verify.gates import AGAINST_LIMITS, DEFAULT_LIMITS

if TYPE_CHECKING:
    from pkecho_edge.running.run import RunResult

__all__ = ["compile", "run", "verify"]

PathLike: TypeAlias = "str | os.PathLike[str]"


def compile(
    checkpoint: PathLike | None = None,
    out: PathLike | None = None,
    *,
    data: PathLike | None = None,
    phantoms: bool = False,
    target: str = "cpu",
    modes: Sequence[str] = ("clip", "stream"),
    size: int | tuple[int, int] = 128,
    clips: int = 32,
    calibration: PathLike | None = None,
    verify_clips: int = 40,
    prune: float | None = None,
    baseline: PathLike | None = None,
    rule: str = "auto",
    float_precision: str | None = None,
    threads: int = 0,
    profile: str | None = None,
    gates: Mapping[str, float] | None = None,
    seed: int = 0,
    security_version: int = 1,
    overwrite: bool = False,
    progress: bool | Observer = True,
) -> CompileResult:
    """From a checkpoint to a verified bundle, as `pkecho-edge compile`.

    Args:
        checkpoint: None for the packaged ResNet-18.
        out: the bundle's folder; None for NAME-TARGET.pkb in the current one.
        data: recordings, TRAIN calibrates and TEST verifies.
        phantoms: calibrate and verify on phantoms instead; so it is for the packaged network where
            there are no recordings.
        target: a name of `pkecho-edge targets`.
        modes: "clip", "stream" or both.
        size: of frames in pixels, N or (H, W): multiples of 32 from 96 to 640.
        clips: how many set the INT8 ranges. calibration: a file of `pkecho-edge calibrate` instead.
        verify_clips: phantoms that are verified on, at most 200.
        prune: share of the GMACs that goes first, between 0 and 1; None for none.
        baseline: of a checkpoint that was pruned before; None finds it by its hash.
        rule: range rules, ACTIVATIONS/WEIGHTS, or "auto".
        float_precision: of layers that are not INT8; None for the target's.
        threads: of the engine; 0 for every core.
        profile: the device, of targets jetson and tensorrt.
        gates: gate -> limit, over the default ones.
        seed: of the choice of clips.
        security_version: of the bundle, at least 1.
        overwrite: replace an existing bundle.
        progress: True for a line per stage on stderr, False for none, or an observer of your own.

    Returns:
        The bundle, what verification measured, and the stages that were there already.

    Raises:
        UsageError: arguments that do not go together, or `out` exists.
        UnusableInput: a checkpoint, dataset or calibration set that cannot be used.
        MissingDependency: a toolchain is not installed.
    """
    from pkecho_edge.model.checkpoint import default_checkpoint_path

    weights = default_checkpoint_path() if checkpoint is None else Path(checkpoint)
    folder = Path(f"{weights.stem}-{target}.pkb") if out is None else Path(out)
    recordings = None if data is None else Path(data)
    shape = check_frame_size((size, size) if isinstance(size, int) else size)
    clips_of = clip_sources(
        recordings,
        phantoms or (checkpoint is None and recordings is None),
        shape,
        clips,
        verify_clips,
    )
    round_to = targets.get(target).capabilities.round_to
    order = CompileOrder(
        weights,
        folder,
        *clips_of,
        target=target,
        modes=modes,
        calibration_clips=clips,
        calibration_set=None if calibration is None else CalibrationSet.load(Path(calibration)),
        pruning=None
        if prune is None
        else PruningOrder(prune, round_to=round_to, recipe=recipe_of(prune, None)),
        lessons=LessonSource(recordings),
        baseline=None if baseline is None else Path(baseline),
        quantization=QuantizationOrder(rules=rules_of(rule)),
        options=targets.options_for(target, float_precision, threads, profile),
        limits={**DEFAULT_LIMITS, **(gates or {})},
        seed=seed,
        security_version=security_version,
        overwrite=overwrite,
    )
    return pipeline.compile(order, observer=_observer(progress))


def verify(
    bundle: PathLike,
    *,
    data: PathLike | None = None,
    split: str | None = "TEST",
    clips: int | None = None,
    long: int | None = None,
    baseline: PathLike | None = None,
    against: PathLike | None = None,
    gates: Mapping[str, float] | None = None,
    out: PathLike | None = None,
    progress: bool | Observer = True,
) -> VerifyResult:
    """Accuracy drift and speed of a bundle, as `pkecho-edge verify`; it is not touched.

    Args:
        bundle: its folder.
        data: recordings, with truth or without; None for the standard phantom set.
        split: "TRAIN", "VAL" or "TEST" of them; None for all.
        clips: at most this many; None for all.
        long: also follow long sequences of so many frames; None for none.
        baseline: the checkpoint, where it cannot be found by its hash.
        against: another bundle, in the baseline's place.
        gates: gate -> limit, over the default ones.
        out: folder of report.json and report.html; None for NAME.report beside the bundle.
        progress: as `compile`.

    Returns:
        What was measured: `.report.verdict`, `.gates`, `.modes`.

    Raises:
        IntegrityError: the bundle's bytes are not the ones its manifest lists.
        UnusableInput: a dataset or checkpoint that cannot be used.
        UsageError: arguments that do not go together.
    """
    folder = Path(bundle)
    size = read_bundle(folder).manifest.preprocessing.size
    if data is None:
        source = sources.standard_set(size, STANDARD_COUNT if clips is None else clips)
    else:
        source = sources.dataset(Path(data), size, split=split, count=clips)
    if long is not None:
        source = replace(source, long=sources.LongRun(long))
    return verifying.verify(
        folder,
        source,
        baseline=None if baseline is None else Path(baseline),
        against=None if against is None else Path(against),
        limits={**(DEFAULT_LIMITS if against is None else AGAINST_LIMITS), **(gates or {})},
        out=None if out is None else Path(out),
        observer=_observer(progress),
    )


def run(
    bundle: PathLike,
    recording: PathLike,
    out: PathLike | None = None,
    *,
    frame_rate_hz: float | None = None,
    spacing_mm: tuple[float, float] | None = None,
    regions: bool = True,
    overwrite: bool = False,
    progress: bool | Observer = True,
) -> RunResult:
    """Segment a recording, as `pkecho-edge run`: overlay, contact sheet, tables, EF per beat.

    Args:
        bundle: its folder.
        recording: a video, DICOM ultrasound, or a folder of images.
        out: folder to make; None for NAME.run in the current one.
        frame_rate_hz, spacing_mm: of a recording that does not say; (row, column) in mm.
        regions: keep to the 2D tissue region of a DICOM file.
        overwrite: replace what an earlier run wrote there.
        progress: as `compile`.

    Returns:
        `.beats`, `.document` (what summary.json holds), `.found` (masks and figures per frame).

    Raises:
        IntegrityError: the bundle's bytes are not the ones its manifest lists.
        UnusableInput: a recording that cannot be read.
        UsageError: `out` exists, or arguments that do not go together.
    """
    from pkecho_edge.running.output import default_output
    from pkecho_edge.running.run import run_bundle

    source = Path(recording)
    return run_bundle(
        Path(bundle),
        source,
        default_output(source) if out is None else Path(out),
        regions=regions,
        frame_rate_hz=frame_rate_hz,
        spacing_mm=spacing_mm,
        overwrite=overwrite,
        observer=_observer(progress),
    )


def _observer(progress: bool | Observer) -> Observer:
    if isinstance(progress, bool):
        return LineObserver() if progress else SilentObserver()
    return progress
