"""How cost grows: with resolution, backbone, threads, and streams that share one engine."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pkecho_edge import targets
from pkecho_edge.bench.engines import bench_clips, build_graphs, compile_graphs, load_timed
from pkecho_edge.bench.networks import BenchNetwork, choose_network
from pkecho_edge.bench.rows import EAGER, OURS, BenchRow, make_row
from pkecho_edge.bench.turns import take_turns
from pkecho_edge.errors import UsageError
from pkecho_edge.model.baseline import baseline_runner
from pkecho_edge.runtime.window import open_window
from pkecho_edge.stages import Observer
from pkecho_edge.targets.base import Engine, LiveWindow

__all__ = ["ScalingPlan", "ScalingRow", "measure_scaling", "push_at_once"]

_CLIPS = 2
"""For calibration: the ranges do not matter here."""

_STREAM_SECONDS = 0.5


@dataclass(frozen=True)
class ScalingPlan:
    """What to vary; each axis around `size`, the chosen network and every core.

    Attributes:
        size: (H, W) where the resolution is not what varies.
        sides: of square frames, in pixels.
        backbones: by name.
        thread_counts: of every engine alike.
        stream_counts: streams that push at once into one stream engine.
        float_precision: of our engines' layers that are not INT8.
    """

    size: tuple[int, int]
    sides: tuple[int, ...]
    backbones: tuple[str, ...]
    thread_counts: tuple[int, ...]
    stream_counts: tuple[int, ...]
    float_precision: str = "f32"


@dataclass(frozen=True)
class ScalingRow(BenchRow):
    """One engine at one point of one axis.

    Attributes:
        axis: "size", "backbone", "threads" or "streams".
        value: on it, as text.
        threads: of the engine; 0: every core.
        streams: that push at once; fps is then their results together, latencies those of a push.
    """

    axis: str
    value: str
    threads: int
    streams: int


_Case: TypeAlias = tuple[str, tuple[int, int], int]
"""Backbone, size, threads: what decides an engine."""


@dataclass(frozen=True)
class _Built:
    """A case, ready: calls of eager and of our clip and stream engines."""

    calls: Mapping[str, Callable[[], object]]
    stream: Engine
    frames: NDArray[np.uint8]


def measure_scaling(
    chosen: BenchNetwork, plan: ScalingPlan, rounds: int, observer: Observer
) -> list[ScalingRow]:
    """Time all cases of all axes turn by turn; then the concurrent streams, in turns, too.

    Args:
        chosen: the network; other backbones have random weights, or the packaged checkpoint's.
        plan: what to vary.
        rounds: turns of each engine, and of each number of streams.
        observer: hears about progress.
    """
    targets.options_for("cpu", plan.float_precision)  # refuse before the work
    points = list(_points(chosen.backbone, plan))
    home: _Case = (chosen.backbone, plan.size, 0)
    cases = list(dict.fromkeys([home, *(case for _, _, case in points)]))
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        observer.start("build the engines", len(cases))
        built: dict[_Case, _Built] = {}
        for index, case in enumerate(cases):
            network = chosen if case[0] == chosen.backbone else choose_network(None, case[0])
            built[case] = _build(network, case, plan.float_precision, root / str(index), stack)
            observer.advance()
        observer.done(f"{len(cases)} cases")
        observer.start("time turn by turn", rounds)
        keys = [(case, mode) for case in cases for mode in built[case].calls]
        calls = [built[case].calls[mode] for case, mode in keys]
        taken = take_turns(calls, rounds, warmup=1, advance=observer.advance)
        observer.done(f"{rounds} rounds")
        length = len(built[home].frames)
        timed = dict(zip(keys, taken, strict=True))
        rows = [
            row
            for axis, value, case in points
            for row in _rows(axis, value, case, timed, length, plan.float_precision)
        ]
        observer.start("push streams at once", rounds)
        rows += _stream_rows(home, built[home], plan, rounds, observer)
        observer.done(f"{', '.join(map(str, plan.stream_counts))} streams")
    return rows


def _points(backbone: str, plan: ScalingPlan) -> Iterator[tuple[str, str, _Case]]:
    """(axis, value, case) of all that is timed call by call."""
    yield from (("size", str(side), (backbone, (side, side), 0)) for side in plan.sides)
    yield from (("backbone", name, (name, plan.size, 0)) for name in plan.backbones)
    yield from (("threads", str(n), (backbone, plan.size, n)) for n in plan.thread_counts)


def _build(
    chosen: BenchNetwork, case: _Case, float_precision: str, folder: Path, stack: ExitStack
) -> _Built:
    folder.mkdir()
    _, size, threads = case
    clips = bench_clips(size, chosen.network.config.frames, count=_CLIPS)
    graphs = build_graphs(chosen.network, clips, folder).of("int8")
    engines = compile_graphs(graphs, "cpu", float_precision, threads, folder / "engines")
    frames = clips[0].frames
    run, torch_threads = baseline_runner(chosen.network), threads or torch.get_num_threads()

    def eager() -> None:
        torch.set_num_threads(torch_threads)
        run(frames)

    calls: dict[str, Callable[[], object]] = {EAGER: eager}
    for mode, engine in engines.items():
        calls[mode] = load_timed(engine, frames, stack, loads=1).call
    return _Built(calls, engines["stream"], frames)


def _rows(
    axis: str,
    value: str,
    case: _Case,
    timed: Mapping[tuple[_Case, str], list[int]],
    length: int,
    float_precision: str,
) -> Iterator[ScalingRow]:
    """Eager, our clip and our stream engine at one point."""
    backbone, size, threads = case
    eager_fps = length / (statistics.median(timed[case, EAGER]) / 1e9)
    for engine, mode, precision in (
        (EAGER, "clip", "f32"),
        (OURS, "clip", f"int8 + {float_precision}"),
        (OURS, "stream", f"int8 + {float_precision}"),
    ):
        row = make_row(
            engine,
            mode,
            backbone,
            size,
            precision,
            timed[case, EAGER if engine == EAGER else mode],
            1 if mode == "stream" else length,
            eager_fps,
        )
        yield ScalingRow(**vars(row), axis=axis, value=value, threads=threads, streams=1)


def _stream_rows(
    home: _Case, built: _Built, plan: ScalingPlan, rounds: int, observer: Observer
) -> Iterator[ScalingRow]:
    """Several streams on one engine; every round takes each number of them once."""
    latencies: dict[int, list[int]] = {count: [] for count in plan.stream_counts}
    rates: dict[int, list[float]] = {count: [] for count in plan.stream_counts}
    with targets.get(built.stream.target).load(built.stream) as session:
        windows = [open_window(session, built.stream) for _ in range(max(plan.stream_counts))]
        for _ in range(rounds):
            for count in plan.stream_counts:
                taken, seconds = push_at_once(windows[:count], built.frames, _STREAM_SECONDS)
                latencies[count] += taken
                rates[count].append(len(taken) / seconds)
            observer.advance()
    backbone, size, threads = home
    precision = f"int8 + {plan.float_precision}"
    for count, taken in latencies.items():
        row = make_row(OURS, "stream", backbone, size, precision, taken, 1)
        fields = {**vars(row), "fps": statistics.median(rates[count])}
        yield ScalingRow(**fields, axis="streams", value=str(count), threads=threads, streams=count)


def push_at_once(
    windows: Sequence[LiveWindow], frames: NDArray[np.uint8], seconds: float
) -> tuple[list[int], float]:
    """One thread per window, each pushing as fast as it can.

    Args:
        windows: on one session.
        frames: u8 [T, 1, H, W], pushed again and again.
        seconds: after which no push begins.

    Returns:
        nanoseconds of every push, the first of each window left out, and the seconds that the
        pushes took together.

    Raises:
        UsageError: a push failed.
    """
    taken: list[list[int]] = [[] for _ in windows]
    failures: list[Exception] = []
    ready = threading.Barrier(len(windows) + 1)

    def stream(window: LiveWindow, latencies: list[int]) -> None:
        try:
            window.frame[:] = frames[0, 0]
            window.advance()
            ready.wait()
            end = time.perf_counter_ns() + int(seconds * 1e9)
            while (start := time.perf_counter_ns()) < end:
                window.frame[:] = frames[len(latencies) % len(frames), 0]
                window.advance()
                latencies.append(time.perf_counter_ns() - start)
        except Exception as error:  # shown by the caller's thread
            failures.append(error)
            ready.abort()

    threads = [
        threading.Thread(target=stream, args=(window, latencies))
        for window, latencies in zip(windows, taken, strict=True)
    ]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    if failures:
        raise UsageError(f"a stream failed ({failures[0]})", remedy="Try fewer streams")
    return [ns for latencies in taken for ns in latencies], time.perf_counter() - start
