"""The street, top to bottom; nothing travels back.

    checkpoint -> network -> prune (+ distil) -> lower -> export -> calibrate + choose + quantize
               -> target.compile -> verify -> bundle

From the export on every stage fills a folder that is found again by the hash of what went in
(building.py). The bundle is assembled beside its place, its engines verified where they lie
(measuring.py), and renamed when whole.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pkecho_edge import targets
from pkecho_edge.building import Built, EngineOrder, Material, build_engines
from pkecho_edge.bundle.engine_entry import MODES
from pkecho_edge.bundle.golden import GoldenVectors
from pkecho_edge.bundle.layout import DEVICE, GOLDEN, MODEL, REPORTS
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
from pkecho_edge.device.here import KIT
from pkecho_edge.errors import CalibrationError, UsageError
from pkecho_edge.lesson_source import LessonSource
from pkecho_edge.measuring import (
    Side,
    VerifyResult,
    loaded_sides,
    measure,
    network_reference,
    verify_scale,
    write_reports,
)
from pkecho_edge.provenance import Provenance, build_manifest, report_lineage
from pkecho_edge.recovering import PruningOrder
from pkecho_edge.stages import Observer, SilentObserver, StageCache, default_cache
from pkecho_edge.targets.base import CompileOptions, check_precision, unavailable
from pkecho_edge.tuning.choose import QuantizationOrder
from pkecho_edge.verify.gates import DEFAULT_LIMITS

if TYPE_CHECKING:
    from pkecho_edge.model.network import PKEchoNet
    from pkecho_edge.pruning_stage import Lineaged

__all__ = ["DRAWN", "VERIFIED", "CompileOrder", "CompileResult", "check_apart"]
__all__ += ["check_security_version", "check_target", "compile"]

DRAWN, VERIFIED = "draw the clips", "verify"
"""Parts of a run that are no stages, because every run does them; their durations are remembered
under these names."""


@dataclass(frozen=True)
class CompileOrder:
    """What is to be compiled, from what, and for what.

    Attributes:
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
        lessons: the recordings that a pruned network recovers on; without any, phantoms.
        baseline: of a checkpoint that was pruned before; None finds it by its hash.
        quantization: scheme, range rules to choose from, whether layers may return to float.
        options: precision and threads of the engine, and the device; None for the target's own.
        limits: of the gates.
        seed: of the choice of calibration clips.
        security_version: of the bundle; no stage depends on it.
        overwrite: replace an existing bundle.
    """

    checkpoint: Path
    out: Path
    calibration: ClipSource
    verification: ClipSource
    trial: ClipSource | None = None
    target: str = "cpu"
    modes: Sequence[str] = MODES
    calibration_clips: int = 32
    calibration_set: CalibrationSet | None = None
    pruning: PruningOrder | None = None
    lessons: LessonSource = field(default_factory=LessonSource)
    baseline: Path | None = None
    quantization: QuantizationOrder = field(default_factory=QuantizationOrder)
    options: CompileOptions | None = None
    limits: Mapping[str, float] = field(default_factory=lambda: DEFAULT_LIMITS)
    seed: int = 0
    security_version: int = 1
    overwrite: bool = False

    def checked(self) -> CompileOrder:
        """With modes in their order and the target's own options, where all of it is possible.

        Raises:
            UsageError: an impossible mode, security version or pruning scope, or an unknown target.
            MissingDependency: a toolchain is not installed.
        """
        from pkecho_edge.pruning_stage import check_scope

        modes, options = _checked_modes(self.modes), self.engine_options
        check_security_version(self.security_version)
        check_target(self.target, options)
        if self.pruning is not None:
            check_scope(self.pruning.scope, self.target)
        return replace(self, modes=modes, options=options)

    @property
    def engine_options(self) -> CompileOptions:
        """`options`, or the target's own."""
        return self.options or targets.options_for(self.target)

    @property
    def engines(self) -> EngineOrder:
        """What of it is asked of building.py."""
        return EngineOrder(
            self.target, self.modes, self.engine_options, self.quantization, self.limits
        )

    def of_length(self, frames: int) -> CompileOrder:
        """With clips as long as the network's window: it decides."""
        return replace(
            self,
            calibration=replace(self.calibration, length=frames),
            verification=replace(self.verification, length=frames),
            trial=self.trial and replace(self.trial, length=frames),
        )

    @property
    def clips_wanted(self) -> ClipsWanted:
        """What the choice of clips depends on."""
        return ClipsWanted(
            self.calibration, self.trial, self.calibration_set, self.calibration_clips, self.seed
        )


@dataclass(frozen=True)
class CompileResult:
    """The bundle, what verification said of it, and which stages were already there."""

    bundle: Bundle
    verification: VerifyResult
    reused: tuple[str, ...]


def compile(
    order: CompileOrder, *, cache: Path | None = None, observer: Observer | None = None
) -> CompileResult:
    """From a checkpoint to a verified bundle.

    Args:
        order: what is asked.
        cache: of finished stages; None for the user's.
        observer: hears about progress.

    Raises:
        CheckpointError, DatasetError, CalibrationError: unusable input.
        UsageError: the bundle exists, an impossible size, or what `CompileOrder.checked` refuses.
        MissingDependency: a toolchain is not installed.

    A failed gate is no exception: it stands in the result, and the bundle is written with it.
    """
    from pkecho_edge.pruning_stage import load_lineaged, prune_checkpoint

    observer = observer or SilentObserver()
    stages = StageCache(cache or default_cache())
    order = order.checked()
    origin = load_lineaged(order.checkpoint, order.baseline, stages)
    order = order.of_length(origin.network.config.frames)
    with staging(order.out, overwrite=order.overwrite) as folder:
        drawn = _draw(order, stages, observer)
        if order.pruning is not None:
            pruned = prune_checkpoint(
                origin,
                order.pruning,
                order.lessons,
                [drawn.calibration.size],
                stages,
                observer,
                options=order.engine_options,
            )
            origin = load_lineaged(pruned.path, order.baseline, stages)
        provenance = _provenance(order, origin, drawn, stages)
        material = Material(
            origin.network,
            origin.sha256,
            drawn.calibration,
            drawn.clips,
            drawn.trial,
            origin.baseline if origin.report else None,
        )
        built = build_engines(material, order.engines, stages, observer)
        result = _fill(folder, order, provenance, drawn, built, stages, observer)
        bundle = finish(folder, build_manifest(provenance, built, result))
    return CompileResult(bundle, result, built.reused)


@dataclass(frozen=True)
class _Drawn:
    """The calibration set, its clips in its order, and those on which quantizations are tried."""

    calibration: CalibrationSet
    clips: Sequence[Clip]
    trial: Sequence[Clip]


def _draw(order: CompileOrder, stages: StageCache, observer: Observer) -> _Drawn:
    started = time.monotonic()
    chosen, clips, rest = calibration_clips_of(
        order.calibration, order.calibration_set, order.calibration_clips, order.seed, observer
    )
    check_apart(chosen, order.verification)
    trial = trial_clips_of(order.trial, rest, clips)
    note_clips(order.clips_wanted, chosen, trial, stages)
    stages.remember(DRAWN, time.monotonic() - started, order.clips_wanted.scale)
    return _Drawn(chosen, clips, trial)


def _provenance(
    order: CompileOrder, origin: Lineaged, drawn: _Drawn, stages: StageCache
) -> Provenance:
    from pkecho_edge.model.checkpoint import read_notes

    return Provenance(
        origin,
        drawn.calibration,
        order.target,
        order.engine_options,
        order.limits,
        order.seed,
        sources=tuple(sorted({clip.source for clip in drawn.clips})),
        # the baseline lies there by now, wherever it was found
        notes=read_notes(stages.root / "checkpoints" / origin.baseline_sha256),
        security_version=order.security_version,
    )


def _fill(
    folder: Path,
    order: CompileOrder,
    provenance: Provenance,
    drawn: _Drawn,
    built: Built,
    stages: StageCache,
    observer: Observer,
) -> VerifyResult:
    """Everything of the bundle but its manifest; the engines are scored where they lie."""
    engines = {mode: add_engine(folder, engine) for mode, engine in built.engines.items()}
    probe, origin = drawn.clips[0], provenance.origin
    with loaded_sides(order.target, engines) as sides:
        _write_golden(folder / GOLDEN, probe, sides)
        if targets.get(order.target).capabilities.device_kit:
            _write_float_golden(folder / GOLDEN, probe, origin.network, order.modes)
            _add_kit(folder / DEVICE)
        started = time.monotonic()
        result = measure(
            network_reference(origin.baseline),
            sides,
            order.verification,
            [drawn.calibration],
            order.limits,
            report_lineage(provenance, built),
            observer,
            built.warnings,
        )
    scale = verify_scale(order.verification, order.modes)
    stages.remember(VERIFIED, time.monotonic() - started, scale)
    drawn.calibration.save(folder / MODEL / "calibration.json")
    if origin.report is not None:
        (folder / MODEL / "pruning.json").write_bytes(provenance.pruning_json())
    (folder / REPORTS).mkdir()
    write_reports(result, folder / REPORTS)
    return result


def _checked_modes(modes: Sequence[str]) -> tuple[str, ...]:
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
