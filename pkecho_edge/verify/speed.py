"""How fast the engine is beside the baseline: both timed in one run, turn by turn.

A machine that warms up, throttles or shares its cores drifts slowly. Timing the baseline first
and the engine an hour later turns that drift into a speedup; taking turns (A B A B ...) lets it
fall on both sides alike. A turn is two calls, the first of them untimed: in use a side follows
itself, not the other one, which leaves the caches full of its own weights.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import UsageError
from pkecho_edge.verify.machine import peak_memory_mb

__all__ = ["AGAINST_SPEEDUP_RULE", "CV_LIMIT", "PEAK_MEMORY_LABEL", "SPEEDUP_RULE"]
__all__ += ["SideTiming", "SpeedResult", "measure_speed", "no_garbage_collection"]
__all__ += ["summarize_latency"]

Frames: TypeAlias = NDArray[np.uint8]
"""u8 [T, 1, H, W]."""

CV_LIMIT = 0.025
"""Coefficient of variation above which a timing is called noisy."""

SPEEDUP_RULE = (
    "ratio of medians, baseline / engine, interleaved in one run; stream mode: of the time per "
    "result, the baseline as live use has it, on the whole window for each new frame"
)
AGAINST_SPEEDUP_RULE = (
    "ratio of medians, the other engine / this one, interleaved in one run; stream mode: "
    "of the time per push of a new frame"
)
PEAK_MEMORY_LABEL = "peak resident set of the whole process, baseline and engine together"


@dataclass(frozen=True)
class SideTiming:
    """One side's timing over n calls.

    Attributes:
        fps: frames that a call gives a result for / median latency.
        latency_ms_p50, latency_ms_p95, latency_ms_p99: per call, in milliseconds, linearly
            interpolated; with fewer than 100 calls p99 is next to the slowest call.
        cv: standard deviation (n - 1) / mean; nan for one call.
        n: timed calls, warm-up excluded.
        latency_ms: of every timed call, in the order they were made; one side's i-th call ran
            in the same round as the other's.
    """

    fps: float
    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p99: float
    cv: float
    n: int
    latency_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class SpeedResult:
    """Baseline and engine, timed turn by turn.

    Attributes:
        baseline, engine: each side's timing.
        speedup: ratio of the medians, baseline / engine; above 1 the engine is faster.
        noisy: a side's coefficient of variation exceeds CV_LIMIT or is not known.
        frames_per_call: frames that a call gives a result for: T, or 1 in live use.
        warmup: untimed calls of each side before the first timed one.
        peak_memory_mb: see PEAK_MEMORY_LABEL; None where the system does not say.
        engine_size_mb: of the engine's files, in MB of 10^6 bytes; None where not given.
    """

    baseline: SideTiming
    engine: SideTiming
    speedup: float
    noisy: bool
    frames_per_call: int
    warmup: int
    peak_memory_mb: float | None
    engine_size_mb: float | None


def measure_speed(
    baseline: Callable[[Frames], object],
    engine: Callable[[Frames], object],
    frames: Frames,
    *,
    warmup: int = 3,
    min_rounds: int = 20,
    min_seconds: float = 5.0,
    results_per_call: int | None = None,
    engine_size_bytes: int | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> SpeedResult:
    """Time both sides on the same frames, taking turns, with garbage collection off.

    Args:
        baseline, engine: u8 [T, 1, H, W] -> anything. A call must return only when its result is
            there: wait for the device inside it, or the timing is of a queue.
        frames: u8 [T, 1, H, W], the input of every call.
        warmup: untimed calls of each side first.
        min_rounds, min_seconds: keep going until both are reached; a round is a turn of each.
        results_per_call: frames that a call gives a result for; None for all of `frames`.
        engine_size_bytes: size of the engine's files, for the report.
        clock: nanoseconds, monotonic.

    Raises:
        UsageError: fewer than one round, a negative warm-up, or no frames.
    """
    if min_rounds < 1 or warmup < 0 or frames.ndim != 4 or not frames.size:
        raise UsageError(
            f"cannot time {min_rounds} rounds after {warmup} warm-up calls on {frames.shape}",
            remedy="Give at least one round and frames u8 [T, 1, H, W]",
        )
    for _ in range(warmup):
        baseline(frames)
        engine(frames)
    baseline_ns: list[int] = []
    engine_ns: list[int] = []
    with no_garbage_collection():
        start = clock()
        while len(engine_ns) < min_rounds or clock() - start < min_seconds * 1e9:
            for side, taken in ((baseline, baseline_ns), (engine, engine_ns)):
                side(frames)
                taken.append(_time_call(side, frames, clock))
    results = len(frames) if results_per_call is None else results_per_call
    sides = summarize_latency(baseline_ns, results), summarize_latency(engine_ns, results)
    return SpeedResult(
        baseline=sides[0],
        engine=sides[1],
        speedup=_ratio(sides[0].latency_ms_p50, sides[1].latency_ms_p50),
        noisy=not all(side.cv <= CV_LIMIT for side in sides),  # nan counts as noisy
        frames_per_call=results,
        warmup=warmup,
        peak_memory_mb=peak_memory_mb(),
        engine_size_mb=None if engine_size_bytes is None else engine_size_bytes / 1e6,
    )


def summarize_latency(latency_ns: list[int], frames_per_call: int) -> SideTiming:
    """Percentiles, spread and frames per second of one side's calls, n >= 1."""
    latency_ms = np.asarray(latency_ns, dtype=np.float64) / 1e6
    p50, p95, p99 = (float(p) for p in np.percentile(latency_ms, [50, 95, 99]))
    spread = float(latency_ms.std(ddof=1)) if len(latency_ms) > 1 else float("nan")
    return SideTiming(
        fps=_ratio(frames_per_call * 1e3, p50),
        latency_ms_p50=p50,
        latency_ms_p95=p95,
        latency_ms_p99=p99,
        cv=_ratio(spread, float(latency_ms.mean())),
        n=len(latency_ms),
        latency_ms=tuple(latency_ms.tolist()),
    )


def _time_call(call: Callable[[Frames], object], frames: Frames, clock: Callable[[], int]) -> int:
    start = clock()
    call(frames)
    return clock() - start


def _ratio(numerator: float, denominator: float) -> float:
    """nan rather than infinity where the clock did not move."""
    return numerator / denominator if denominator > 0 else float("nan")


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect now, then not until the block ends; leaves collection as it was found."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
