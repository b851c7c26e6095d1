"""Scoring a bundle that is there: against its baseline, another bundle, or on its device.

The bundle is opened as on any machine, with every hash checked, and never touched; reports lie
beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pkecho_edge.bundle.layout import DEVICE, MODEL, enclosing_bundle
from pkecho_edge.bundle.reader import Bundle
from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.data.sources import ClipSource
from pkecho_edge.device.here import KIT, device_here, run_kit
from pkecho_edge.device.pack import PackClip, write_pack
from pkecho_edge.device.result import read_result
from pkecho_edge.errors import UsageError
from pkecho_edge.files import scratch_folder
from pkecho_edge.measuring import (
    VerifyResult,
    comparable_sides,
    engine_reference,
    measure,
    network_reference,
    opened_sides,
    verify_scale,
    write_reports,
)
from pkecho_edge.merging import device_facts, device_warnings, merged_sides
from pkecho_edge.provenance import bundle_facts, bundle_lineage
from pkecho_edge.runtime import open_bundle
from pkecho_edge.stages import Observer, SilentObserver, StageCache, default_cache
from pkecho_edge.verify.gates import DEFAULT_LIMITS

if TYPE_CHECKING:
    from pkecho_edge.model.network import PKEchoNet

__all__ = ["IN_PLACE", "measure_in_place", "pack", "report_folder", "result_file", "verify"]

IN_PLACE = "plans, on this device"
"""Of a run, the part that is no stage but whose duration is remembered under this name."""


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


def report_folder(bundle: Path) -> Path:
    """Where `verify` writes by default: NAME.report beside NAME.pkb."""
    bundle = bundle.absolute()
    name = bundle.name.removesuffix(".pkb")
    return bundle.with_name(f"{name}.report")


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
