"""Timing with a clock that only fake networks move."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pkecho_edge.errors import UsageError
from pkecho_edge.verify.speed import SpeedResult, measure_speed

FRAMES = np.zeros((10, 1, 32, 32), dtype=np.uint8)

Clock = Any  # the fixture's class


def test_frames_per_second_and_speedup_come_from_the_medians(
    time_sides: Callable[[float, float], SpeedResult],
) -> None:
    result = time_sides(500.0, 62.5)

    assert result.baseline.fps == pytest.approx(20)
    assert result.engine.fps == pytest.approx(160)
    assert result.speedup == pytest.approx(8)
    assert (result.engine.latency_ms_p50, result.engine.latency_ms_p99) == (62.5, 62.5)
    assert result.engine.n == result.baseline.n == 20
    assert not result.noisy


def test_percentiles_are_those_of_the_calls(clock: Clock) -> None:
    latencies = [float(ms) for ms in range(1, 102)]  # 1 to 101 ms

    result = measure_speed(
        clock.network(1.0),
        clock.network(*latencies),
        FRAMES,
        warmup=0,
        min_rounds=101,
        min_seconds=0,
        clock=clock,
    )

    side = result.engine
    assert (side.latency_ms_p50, side.latency_ms_p95, side.latency_ms_p99) == (51, 96, 100)
    assert side.cv == pytest.approx(np.std(latencies, ddof=1) / 51)


def test_baseline_and_engine_take_turns_after_the_warm_up(clock: Clock) -> None:
    calls: list[str] = []

    measure_speed(
        lambda _: calls.append("A"),
        lambda _: calls.append("B"),
        FRAMES,
        warmup=2,
        min_rounds=3,
        min_seconds=0,
        clock=clock,
    )

    assert "".join(calls) == "ABAB" + "AABB" * 3


def test_a_side_is_timed_right_after_itself(clock: Clock) -> None:
    """The first call of a turn finds the caches full of the other side's weights."""
    cold_then_warm = clock.network(5.0, 3.0)

    result = measure_speed(
        clock.network(100.0), cold_then_warm, FRAMES, warmup=0, min_rounds=4, clock=clock
    )

    assert result.engine.latency_ms_p99 == 3


def test_live_use_counts_one_result_a_call(clock: Clock) -> None:
    sides = clock.network(500.0), clock.network(5.0)

    result = measure_speed(*sides, FRAMES, min_rounds=2, results_per_call=1, clock=clock)

    assert result.frames_per_call == 1
    assert (result.baseline.fps, result.engine.fps) == (pytest.approx(2), pytest.approx(200))
    assert result.speedup == pytest.approx(100)


def test_the_warm_up_is_not_timed(clock: Clock) -> None:
    first_calls_are_slow = clock.network(900.0, 900.0, *[10.0] * 10)

    result = measure_speed(
        clock.network(20.0),
        first_calls_are_slow,
        FRAMES,
        warmup=2,
        min_rounds=5,
        min_seconds=0,
        clock=clock,
    )

    assert result.engine.latency_ms_p99 == 10
    assert result.engine.n == 5


def test_it_goes_on_until_the_time_is_up(clock: Clock) -> None:
    sides = clock.network(30.0), clock.network(10.0)

    result = measure_speed(*sides, FRAMES, min_rounds=2, min_seconds=1.0, clock=clock)

    assert result.engine.n == 13  # 80 ms a round, half of it untimed


def test_slow_drift_of_the_machine_leaves_the_speedup_alone(clock: Clock) -> None:
    # both sides slow down to half; every second call is timed
    throttling = [1 + index / 100 for index in range(100)]

    result = measure_speed(
        clock.network(*(40 * f for f in throttling)),
        clock.network(*(10 * f for f in throttling)),
        FRAMES,
        warmup=0,
        min_rounds=50,
        min_seconds=0,
        clock=clock,
    )

    assert result.speedup == pytest.approx(4)
    assert result.noisy


@pytest.mark.parametrize(("spread", "noisy"), [(0.02, False), (0.03, True)])
def test_a_spread_above_two_and_a_half_percent_is_noisy(
    clock: Clock, spread: float, noisy: bool
) -> None:
    fast, slow = 100 * (1 - spread), 100 * (1 + spread)
    engine = clock.network(fast, fast, slow, slow)  # every second call is timed

    result = measure_speed(
        clock.network(100.0), engine, FRAMES, min_rounds=1000, min_seconds=0, clock=clock
    )

    assert result.engine.cv == pytest.approx(spread, rel=1e-3)
    assert result.noisy is noisy


def test_one_round_has_no_spread_and_counts_as_noisy(clock: Clock) -> None:
    sides = clock.network(2.0), clock.network(1.0)

    result = measure_speed(*sides, FRAMES, min_rounds=1, min_seconds=0, clock=clock)

    assert math.isnan(result.engine.cv)
    assert result.noisy


def test_a_clock_that_stands_still_gives_no_speedup(
    time_sides: Callable[[float, float], SpeedResult],
) -> None:
    result = time_sides(0.0, 0.0)

    assert math.isnan(result.speedup)
    assert math.isnan(result.engine.fps)


@pytest.mark.parametrize("before", [True, False])
def test_garbage_collection_waits_and_is_left_as_it_was(before: bool) -> None:
    during: list[bool] = []
    was_enabled = gc.isenabled()
    (gc.enable if before else gc.disable)()
    try:
        measure_speed(
            lambda _: during.append(gc.isenabled()),
            lambda _: None,
            FRAMES,
            warmup=0,
            min_rounds=2,
            min_seconds=0,
        )
        after = gc.isenabled()
    finally:
        (gc.enable if was_enabled else gc.disable)()

    assert during == [False] * 4
    assert after is before


def test_garbage_collection_returns_when_a_call_fails() -> None:
    assert gc.isenabled()

    with pytest.raises(ZeroDivisionError):
        measure_speed(lambda _: 1 / 0, lambda _: None, FRAMES, warmup=0)

    assert gc.isenabled()


def test_sizes_are_in_megabytes(clock: Clock) -> None:
    sides = clock.network(2.0), clock.network(1.0)

    result = measure_speed(
        *sides, FRAMES, min_rounds=2, min_seconds=0, engine_size_bytes=12_500_000, clock=clock
    )

    assert result.engine_size_mb == 12.5
    assert result.peak_memory_mb is None or 10 < result.peak_memory_mb < 1e6


@pytest.mark.parametrize(("min_rounds", "warmup"), [(0, 1), (1, -1)])
def test_nothing_to_time_is_refused(min_rounds: int, warmup: int) -> None:
    with pytest.raises(UsageError):
        measure_speed(lambda _: None, lambda _: None, FRAMES, min_rounds=min_rounds, warmup=warmup)


def test_frames_without_frames_are_refused() -> None:
    with pytest.raises(UsageError):
        measure_speed(lambda _: None, lambda _: None, FRAMES[:0])
