"""The street, top to bottom; nothing travels back.

    checkpoint -> network -> prune (+ distil) -> lower -> export -> calibrate + choose + quantize
               -> target.compile -> verify -> bundle

From the export on every stage fills a folder that is found again by the hash of what went in
(building.py). The bundle is assembled beside its place, its engines verified where they lie
(measuring.py), and renamed when whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pkecho_edge import targets
from pkecho_edge.building import build_engines
from pkecho_edge.bundle.engine_entry import MODES
from pkecho_edge.bundle.golden import GoldenVectors
from pkecho_edge.bundle.layout import DEVICE, GOLDEN, MODEL, REPORTS, enclosing_bundle
from pkecho_edge.bundle.manifest import MAX_SECURITY_VERSION
from pkecho_edge.bundle.reader import Bundle
from pkecho_edge.bundle.writer import add_engine, finish, staging
from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.clip_roles import (
    ClipsWanted,
    calibration_clips_of,
    note_clips,
    trial_clips_of,
)
from pkecho_edge.data.clip import Clip
from pkecho_edge.data.sources import ClipSource
from pkecho_edge.device.here import device_here, run_kit
from pkecho_edge.device.pack import PackClip, write_pack
from pkecho_edge.device.result import read_result
from pkecho_edge.errors import CalibrationError, UsageError
from pkecho_edge.files import scratch_folder
from pkecho_edge.lesson_source import LessonSource
from pkecho_edge.measuring import (
    Side,
    VerifyResult,
    comparable_sides,
    engine_reference,
    loaded_sides,
    measure,
    network_reference,
    opened_sides,
    write_reports,
)
from pkecho_edge.merging import device_facts, device_warnings, merged_sides
from pkecho_edge.provenance import (
    Order,
    build_manifest,
    bundle_facts,
    bundle_lineage,
    report_lineage,
)
from pkecho_edge.recovering import PruningOrder
from pkecho_edge.runtime import open_bundle
from pkecho_edge.stages import Observer, SilentObserver, StageCache, default_cache
from pkecho_edge.targets.base import CompileOptions, check_precision, unavailable
from pkecho_edge.tuning.choose import QuantizationOrder
from pkecho_edge.verify.gates import DEFAULT_LIMITS

if TYPE_CHECKING:
    from pkecho_edge.model.network import PKEchoNet

__all__ = ["DRAWN", "IN_PLACE", "VERIFIED", "CompileResult", "VerifyResult", "check_apart"]
__all__ += ["check_security_version", "check_target", "checked_modes", "compile"]
__all__ += ["measure_in_place", "pack", "report_folder", "result_file"]
__all__ += ["verify", "verify_scale"]


KIT = "pkecho_device.py"

DRAWN, VERIFIED, IN_PLACE = "draw the clips", "verify", "plans, on this device"
"""Parts of a run that are no stages, because every run does them; their durations are remembered
under these names."""


@dataclass(frozen=True)
class CompileResult:
    """The bundle, what verification said of it, and which stages were already there."""

    bundle: Bundle
    verification: VerifyResult
    reused: tuple[str, ...]


def compile(
    checkpoint: Path,
    out: Path,
    *,
    calibration: ClipSource,
    verification: ClipSource,
    trial: ClipSource | None = None,
    target: str = "cpu",
    modes: Sequence[str] = MODES,
    calibration_clips: int = 32,
    calibration_set: CalibrationSet | None = None,
    pruning: PruningOrder | None = None,
    lessons: LessonSource | None = None,
    baseline: Path | None = None,
    quantization: QuantizationOrder | None = None,
    options: CompileOptions | None = None,
    limits: Mapping[str, float] = DEFAULT_LIMITS,
    seed: int = 0,
    security_version: int = 1,
    overwrite: bool = False,
    cache: Path | None = None,
    observer: Observer | None = None,
) -> CompileResult:
    """From a checkpoint to a verified bundle.

    Args:
        checkpoint: PKEcho-Net weights; also the baseline, unless they were pruned before.
        out: the bundle's folder, NAME.pkb.
        calibration: clips to draw the calibration set from; their size is the engine's.
        verification: clips to score on, of the same size, of other patients.
        trial: clips on which quantizations are tried, of neither of the two; None for what
            calibration leaves of its own.
        target: name of a target.
        modes: "clip", "stream" or both.
        calibration_clips: how many clips set the INT8 ranges.
        calibration_set: an earlier choice of clips; overrides `calibration_clips`.
        pruning: how it is pruned first; None for not at all.
        lessons: the recordings that a pruned network recovers on; None for phantoms.
        baseline: of a checkpoint that was pruned before; None finds it by its hash.
        quantization: scheme, range rules to choose from, whether layers may return to float; None
            for the target's scheme, every rule, and yes.
        options: precision and threads of the engine, and the device; None for the target's own.
        limits: of the gates.
        seed: of the choice of calibration clips.
        security_version: of the bundle; no stage depends on it.
        overwrite: replace an existing bundle.
        cache: of finished stages; None for the user's.
        observer: hears about progress.

    Raises:
        CheckpointError, DatasetError, CalibrationError: unusable input.
        UsageError: `out` exists, or an impossible size or unknown target.
        MissingDependency: a toolchain is not installed.

    A failed gate is no exception: it stands in the result, and the bundle is written with it.
    """
    from pkecho_edge.model.checkpoint import read_notes
    from pkecho_edge.pruning_stage import check_scope, load_lineaged, prune_checkpoint

    observer = observer or SilentObserver()
    stages = StageCache(cache or default_cache())
    options = options or targets.options_for(target)
    modes = checked_modes(modes)
    check_security_version(security_version)
    check_target(target, options)
    if pruning is not None:
        check_scope(pruning.scope, target)
    origin = load_lineaged(checkpoint, baseline, stages)
    # what the network was trained on decides how long a clip is
    length = origin.network.config.frames
    calibration, verification = (replace(s, length=length) for s in (calibration, verification))
    trial = trial and replace(trial, length=length)
    with staging(out, overwrite=overwrite) as folder:
        started = time.monotonic()
        chosen, clips, rest = calibration_clips_of(
            calibration, calibration_set, calibration_clips, seed, observer
        )
        check_apart(chosen, verification)
        trial_clips = trial_clips_of(trial, rest, clips)
        wanted = ClipsWanted(calibration, trial, calibration_set, calibration_clips, seed)
        note_clips(wanted, chosen, trial_clips, stages)
        stages.remember(DRAWN, time.monotonic() - started, wanted.scale)
        if pruning is not None:
            pruned = prune_checkpoint(
                origin,
                pruning,
                lessons or LessonSource(),
                [chosen.size],
                stages,
                observer,
                options=options,
            )
            origin = load_lineaged(pruned.path, baseline, stages)
        network = origin.network
        order = Order(
            origin,
            chosen,
            target,
            options,
            limits,
            seed,
            sources=tuple(sorted({clip.source for clip in clips})),
            # the baseline lies there by now, wherever it was found
            notes=read_notes(stages.root / "checkpoints" / origin.baseline_sha256),
            security_version=security_version,
        )
        built = build_engines(
            network,
            origin.sha256,
            chosen,
            clips,
            trial_clips,
            target,
            modes,
            options,
            quantization or QuantizationOrder(),
            limits,
            stages,
            observer,
            baseline=origin.baseline if origin.report else None,
        )
        engines = {mode: add_engine(folder, engine) for mode, engine in built.engines.items()}
        with loaded_sides(target, engines) as sides:
            _write_golden(folder / GOLDEN, clips[0], sides)
            if targets.get(target).capabilities.device_kit:
                _write_float_golden(folder / GOLDEN, clips[0], network, modes)
                _add_kit(folder / DEVICE)
            lineage = report_lineage(order, built)
            started = time.monotonic()
            result = measure(
                network_reference(origin.baseline),
                sides,
                verification,
                [chosen],
                limits,
                lineage,
                observer,
                built.warnings,
            )
        stages.remember(VERIFIED, time.monotonic() - started, verify_scale(verification, modes))
        chosen.save(folder / MODEL / "calibration.json")
        if origin.report is not None:
            (folder / MODEL / "pruning.json").write_bytes(order.pruning_json())
        (folder / REPORTS).mkdir()
        write_reports(result, folder / REPORTS)
        bundle = finish(folder, build_manifest(order, built, result))
    return CompileResult(bundle, result, built.reused)


def verify(
    bundle: Path,
    data: ClipSource,
    *,
    baseline: Path | None = None,
    against: Path | None = None,
    limits: Mapping[str, float] = DEFAULT_LIMITS,
    out: Path | None = None,
    merge: Path | None = None,
    cache: Path | None = None,
    observer: Observer | None = None,
) -> VerifyResult:
    """Score a bundle against its baseline, or against another bundle; neither is touched.

    Args:
        bundle: its folder; every hash is checked first.
        data: clips of the engine's size.
        baseline: checkpoint; None finds it by the hash in the lineage.
        against: another bundle, in the baseline's place; modes that it has not are left out.
        limits: of the gates.
        out: folder for report.json and report.html; None for NAME.report beside the bundle.
        merge: result file of the device kit: what is scored then is the plans of the device.
        cache: where compile left the checkpoints it saw; None for the user's.
        observer: hears about progress.

    Raises:
        IntegrityError: the bundle's bytes are not the ones its manifest lists.
        CheckpointError: the baseline is not found, or is another checkpoint.
        CalibrationError: a clip or patient also served calibration.
        UsageError: `against` is this bundle, comes with a baseline, or has engines of another size
            or window, or of other modes alone; long sequences without a stream engine.
    """
    observer = observer or SilentObserver()
    folder = report_folder(bundle) if out is None else out
    if enclosing_bundle(folder) is not None:
        raise UsageError(
            "lies in a bundle, which verification must not touch",
            path=folder,
            remedy="Choose another --out",
        )
    if against is not None:
        _check_against(bundle, against, baseline, merge)
    with ExitStack() as stack:
        engine = stack.enter_context(open_bundle(bundle))
        if data.long is not None and "stream" not in engine.modes:
            raise UsageError(
                "has no stream engine, so there are no long sequences to follow",
                path=bundle,
                remedy="Leave out --long, or compile with --mode both",
            )
        opened, used = engine.bundle, [_calibration_of(engine.bundle)]
        lineage = bundle_lineage(opened, used[0])
        warnings: tuple[str, ...] = ()
        device = None
        if merge is None:
            sides = opened_sides(engine)
        else:
            found = read_result(merge)
            sides, warnings = merged_sides(opened, found), device_warnings(found)
            device = device_facts(found)
        if against is None:
            reference = network_reference(_baseline_of(opened, baseline, cache))
        else:
            other = stack.enter_context(open_bundle(against))
            reference = engine_reference(other)
            sides, left_out = comparable_sides(sides, reference, opened, other.bundle)
            warnings = (*warnings, _other_baseline(other.bundle), *left_out)
            used.append(_calibration_of(other.bundle))
            lineage = {**lineage, "against": bundle_facts(other.bundle)}
        data = replace(data, length=reference.length)
        result = measure(
            reference, sides, data, used, limits, lineage, observer, warnings, device=device
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_reports(result, folder)
    return result


def pack(
    bundle: Path,
    data: ClipSource,
    path: Path,
    *,
    baseline: Path | None = None,
    cache: Path | None = None,
    observer: Observer | None = None,
) -> None:
    """Write the clips on which a device scores the bundle's plans, with the baseline's masks.

    Args:
        bundle, data, baseline, cache, observer: as `verify`.
        path: of the pack, NAME.npz.

    Raises:
        UsageError: `path` lies in a bundle.
        and what `verify` raises.
    """
    from pkecho_edge.model.baseline import (
        baseline_runner,
        baseline_stream_runner,
        traced_baseline,
    )

    observer = observer or SilentObserver()
    if enclosing_bundle(path) is not None:
        raise UsageError("lies in a bundle", path=path, remedy="Choose another file for the pack")
    opened = open_bundle(bundle).bundle  # hashes alone: no engine is loaded
    network = _baseline_of(opened, baseline, cache)
    used = _calibration_of(opened)

    def packed(mode: str) -> Iterator[PackClip]:
        source = replace(data, length=network.config.frames, live=mode == "stream")
        run = baseline_stream_runner(network) if source.live else baseline_runner(network)
        observer.start(f"{mode}: the baseline's masks", None)
        count = 0
        for clip in source:
            used.check_disjoint([clip])
            yield PackClip(clip, run(clip.frames)[:, 0] > 0)
            count += 1
            observer.advance()
        observer.done(f"{count} clips")

    write_pack(
        path,
        {entry.mode: packed(entry.mode) for entry in opened.manifest.engines},
        bundle_id=opened.manifest.bundle_id,
        checkpoint_sha256=opened.manifest.lineage.checkpoint_sha256,
        window=network.config.frames,
        torchscript=traced_baseline(network, opened.manifest.preprocessing.size),
    )


def measure_in_place(
    bundle: Path,
    data: ClipSource,
    *,
    baseline: Path | None = None,
    limits: Mapping[str, float] = DEFAULT_LIMITS,
    cache: Path | None = None,
    observer: Observer | None = None,
    rounds: int = 200,
    say: Callable[[str], object] = len,
) -> VerifyResult | None:
    """Where this machine is the bundle's device: build its plans, and score and time them here.

    The kit's result lies beside the bundle afterwards, NAME.pkb.result.json, and so does the
    report, NAME.report; what was there of an earlier run is replaced. The bundle is not touched.

    Args:
        bundle, data, baseline, limits, cache, observer: as `verify`.
        rounds: timed calls of each plan.
        say: hears the kit's lines, of building above all.

    Returns:
        what `verify` says of the plans that were chosen; None where TensorRT, a GPU, or those of
        the bundle's profile are missing, or the bundle needs no kit.

    Raises:
        AccuracyGateFailed: no plan of a mode holds.
        EnvironmentMismatch: no plan can be built.
        and what `verify` raises.
    """
    observer = observer or SilentObserver()
    kit = bundle / DEVICE / KIT
    found = device_here(kit) if kit.is_file() else None
    if found is None:
        return None
    result, started = result_file(bundle), time.monotonic()
    with scratch_folder(result.absolute().parent, result.name) as scratch:
        pack(bundle, data, scratch / "pack.npz", baseline=baseline, cache=cache, observer=observer)
        observer.start(IN_PLACE, None)
        run_kit(kit, scratch / "pack.npz", result, say, rounds)
        observer.done(found)
    verified = verify(
        bundle,
        data,
        baseline=baseline,
        limits=limits,
        merge=result,
        cache=cache,
        observer=observer,
    )
    modes = tuple(verified.modes)
    took = time.monotonic() - started
    StageCache(cache or default_cache()).remember(IN_PLACE, took, verify_scale(data, modes))
    return verified


def result_file(bundle: Path) -> Path:
    """Where the device kit's result lies by default: NAME.pkb.result.json beside NAME.pkb."""
    bundle = bundle.absolute()
    return bundle.with_name(f"{bundle.name}.result.json")


def _check_against(bundle: Path, against: Path, baseline: Path | None, merge: Path | None) -> None:
    """UsageError where another bundle is not all that it is compared with, or is none."""
    if baseline is not None or merge is not None:
        raise UsageError(
            "--against with --baseline, --pack or --merge",
            remedy="Compare with another bundle, or with the baseline",
        )
    if against.resolve() == bundle.resolve():
        raise UsageError("is compared with itself", path=bundle, remedy="Name another bundle")


def _calibration_of(bundle: Bundle) -> CalibrationSet:
    """The clips that set its INT8 ranges."""
    return CalibrationSet.parse(bundle.read(f"{MODEL}/calibration.json"), bundle.path)


def _other_baseline(other: Bundle) -> str:
    """What a report must say where another bundle stands for the baseline."""
    return (
        f"baseline here is the bundle {other.manifest.bundle_id}, not the FP32 network: drift is "
        "the difference of two engines"
    )


def _baseline_of(bundle: Bundle, given: Path | None, cache: Path | None) -> PKEchoNet:
    """The network that a bundle was made from.

    Raises:
        CheckpointError: it is not found, or is another one.
    """
    from pkecho_edge.model.checkpoint import load_checkpoint
    from pkecho_edge.model.identity import find_checkpoint

    digest = bundle.manifest.lineage.checkpoint_sha256
    kept = (cache or default_cache()) / "checkpoints" / digest
    return load_checkpoint(find_checkpoint(digest, given, [kept]))


def report_folder(bundle: Path) -> Path:
    """Where `verify` writes by default: NAME.report beside NAME.pkb."""
    bundle = bundle.absolute()
    name = bundle.name.removesuffix(".pkb")
    return bundle.with_name(f"{name}.report")


def checked_modes(modes: Sequence[str]) -> tuple[str, ...]:
    """In the order of MODES, each once.

    Raises:
        UsageError: none, or one that there is not.
    """
    if not modes or not set(modes) <= set(MODES):
        raise UsageError(
            f"there is no mode {', '.join(sorted(set(modes) - set(MODES))) or 'at all'}",
            remedy="Use clip, stream or both",
        )
    return tuple(mode for mode in MODES if mode in modes)


def check_security_version(number: int) -> None:
    """UsageError unless a manifest may have it; 0 stays for bundles that never had one."""
    if not 1 <= number <= MAX_SECURITY_VERSION:
        raise UsageError(
            f"security version {number} is not between 1 and {MAX_SECURITY_VERSION}",
            remedy="Begin with 1, and raise it by one",
        )


def verify_scale(verification: ClipSource, modes: Sequence[str]) -> str:
    """What the duration of verification depends on."""
    height, width = verification.size
    return f"{height}x{width}, {verification.description}, {' '.join(modes)}"


def check_target(target: str, options: CompileOptions) -> None:
    """Fail before any work is done.

    Raises:
        UsageError: an unknown target, or one that cannot do what the options say.
        MissingDependency: its toolchain is not installed.
    """
    found = targets.get(target)
    if what := found.missing():
        raise unavailable(target, what)
    check_precision(found, options)


def check_apart(calibration: CalibrationSet, verification: ClipSource) -> None:
    """Refuse shared patients before the long work where the verification side tells them.

    Every clip is looked at once more when it is measured.
    """
    shared = {entry.patient for entry in calibration.entries} & verification.patients()
    if shared:
        raise CalibrationError(
            f"patient {min(shared)!r} serves both calibration and verification",
            path=calibration.path,
            remedy="Verify on patients that the calibration set does not hold",
        )


def _write_golden(folder: Path, probe: Clip, sides: Mapping[str, Side]) -> None:
    """The probe's frames as a clip, and pushed one by one from the start of a stream."""
    for mode, side in sides.items():
        GoldenVectors.of(probe.frames, side.segment(probe.frames)).write(folder / mode)


def _write_float_golden(
    folder: Path, probe: Clip, network: PKEchoNet, modes: Sequence[str]
) -> None:
    """What plans in FP32 and FP16 are held to: the baseline's own results."""
    from pkecho_edge.model.baseline import baseline_runner, baseline_stream_runner

    for mode in modes:
        run = baseline_runner(network) if mode == "clip" else baseline_stream_runner(network)
        GoldenVectors.of(probe.frames, run(probe.frames)).write(folder / f"{mode}-float")


def _add_kit(folder: Path) -> None:
    """The program that builds and measures on the device, as it is in this package."""
    kit = resources.files("pkecho_edge.device") / KIT
    folder.mkdir()
    (folder / KIT).write_bytes(kit.read_bytes())
