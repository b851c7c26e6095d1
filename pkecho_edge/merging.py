"""A device's result in a host's report: its masks are scored here, its timings taken over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.bundle.reader import Bundle
from pkecho_edge.data.clip import frames_sha256
from pkecho_edge.device.result import DeviceResult, Latency
from pkecho_edge.errors import UnusableInput
from pkecho_edge.measuring import Side
from pkecho_edge.verify.speed import CV_LIMIT, SideTiming, SpeedResult

__all__ = ["device_facts", "device_warnings", "merged_sides"]


def merged_sides(bundle: Bundle, result: DeviceResult) -> dict[str, Side]:
    """The plans that the device chose, as if they were loaded here.

    Raises:
        UnusableInput: the result is of another bundle, or a mode has no plan that holds, or no
            masks.
    """
    if result.manifest_sha256 != bundle.manifest_sha256:
        raise UnusableInput(
            f"is a result of bundle {result.bundle_id}, not of {bundle.manifest.bundle_id}",
            path=result.path,
            remedy="Merge it into the bundle that lay on the device",
        )
    return {engine.mode: _side(result, engine.mode) for engine in bundle.manifest.engines}


def _side(result: DeviceResult, mode: str) -> Side:
    plan = result.plan(mode)
    if plan is None or not plan.self_test_passed:
        reason = result.reason.get(mode, "there is none")
        raise UnusableInput(
            f"has no {mode} plan that can be used: {reason}",
            path=result.path,
            remedy="Run the kit again, or compile with other precisions",
        )
    if not result.has_masks(mode):
        raise UnusableInput(
            f"has no {mode} masks to score",
            path=result.path,
            remedy="Run the kit with --pack, of `pkecho-edge verify --pack`",
        )

    def segment(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        count, _, height, width = frames.shape
        masks = result.masks(mode, frames_sha256(frames), (count, height, width))
        return np.where(masks, np.float32(1), np.float32(-1))[:, None]

    timed = _speed(plan.latency, result.baseline, mode)
    return Side(segment, None, 0, timed=timed, not_timed=_not_timed(result, mode))


def _speed(engine: Latency | None, baseline: Latency | None, mode: str) -> SpeedResult | None:
    """None where a side was not timed. A stream's baseline is the whole window for each frame."""
    if engine is None or baseline is None:
        return None
    ours = _timing(engine, engine.results_per_call)
    theirs = _timing(baseline, 1 if mode == "stream" else baseline.results_per_call)
    noisy = not (ours.cv <= CV_LIMIT and theirs.cv <= CV_LIMIT)
    return SpeedResult(
        baseline=theirs,
        engine=ours,
        speedup=theirs.latency_ms_p50 / ours.latency_ms_p50,
        noisy=noisy,
        frames_per_call=engine.results_per_call,
        warmup=3,
        peak_memory_mb=None,
        engine_size_mb=None,
    )


def _timing(latency: Latency, results: int) -> SideTiming:
    return SideTiming(
        fps=1000 * results / latency.ms_p50,
        latency_ms_p50=latency.ms_p50,
        latency_ms_p95=latency.ms_p95,
        latency_ms_p99=latency.ms_p99,
        cv=latency.cv,
        n=latency.n,
    )


def _not_timed(result: DeviceResult, mode: str) -> str:
    plan = result.plan(mode)
    if plan is not None and plan.latency is not None:
        return (
            f"no speedup without a baseline on the device ({result.baseline_what}); the plan "
            f"takes {plan.latency.ms_p50:.3f} ms, {plan.latency.fps:.1f} frames/s"
        )
    return "the device timed nothing"


def device_facts(result: DeviceResult) -> dict[str, Any]:
    """What ran where, for the report's `machine`."""
    plans = [
        {
            "mode": plan.mode,
            "precision": plan.precision,
            "graph": plan.graph,
            "self_test_passed": plan.self_test_passed,
            "chosen": result.chosen.get(plan.mode) == plan.precision,
            "latency_ms_p50": plan.latency.ms_p50 if plan.latency else None,
            "latency_ms_p99": plan.latency.ms_p99 if plan.latency else None,
            "fps": plan.latency.fps if plan.latency else None,
        }
        for plan in result.plans
    ]
    return {**result.device, "baseline": result.baseline_what, "plans": plans}


def device_warnings(result: DeviceResult) -> tuple[str, ...]:
    """What a reader must know: where the figures come from, and a clock that is wrong."""
    named: Mapping[str, object] = result.device
    sm = str(named.get("compute_capability")).replace(".", "")
    where = (
        f"accuracy and speed: measured on {named.get('gpu')}, sm_{sm},"
        f" TensorRT {named.get('tensorrt')}; speedup is against: {result.baseline_what}"
    )
    clock = () if result.clock_plausible else ("the device's clock is wrong: trust no date of it",)
    return (where, *clock)
