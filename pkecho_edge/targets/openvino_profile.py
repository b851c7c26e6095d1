"""OpenVINO called directly, with the settings of target `cpu`: what a session does not show."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pkecho_edge.targets.base import CompileOptions, Engine
from pkecho_edge.targets.openvino_cpu import engine_settings, plugin_settings

__all__ = ["Block", "Profile", "ProfiledNode", "Profiler", "compile_engine", "compile_model"]
__all__ += ["median_of", "profile_engine"]

_WARMUP = 5
_BLOCKS = 5
_RAN = "EXECUTED"


@dataclass(frozen=True)
class ProfiledNode:
    """One node as OpenVINO runs it, after its fusions.

    Attributes:
        name: of the graph's node that gave it its name.
        kind: OpenVINO's type of it, for example "Convolution" or "Reorder".
        primitive: the implementation that was chosen, for example "brgconv_avx512_vnni_I8".
        ms: time of a run, in milliseconds: the mean over a block of runs, or a median of such.
    """

    name: str
    kind: str
    primitive: str
    ms: float


@dataclass(frozen=True)
class Profile:
    """What each node of a model takes.

    Attributes:
        nodes: in the order of execution, each with the median over blocks of runs; without those
            that are part of another one or never took a whole microsecond.
        wall_ms: median of whole runs with profiling on. Nodes are timed in whole microseconds, so
            the sum of many short ones may differ from it either way.
    """

    nodes: tuple[ProfiledNode, ...]
    wall_ms: float


@dataclass(frozen=True)
class Block:
    """Runs one behind the other.

    Attributes:
        nodes: all that there are, in the order of execution, each with the mean over these runs; 0
            for one that is part of another or takes no whole microsecond.
        walls_ms: of each whole run.
    """

    nodes: tuple[ProfiledNode, ...]
    walls_ms: tuple[float, ...]


class Profiler:
    """The times of nodes, block by block of runs.

    OpenVINO says of each node what it took on average over all runs since the model was compiled,
    the slow first ones included, cut to whole microseconds. An average over N runs tells their sum
    to within N microseconds, so what a block took is the difference of two sums. With blocks of
    equal length the Kth is then known to within about K microseconds a run, and less on average:
    better a few long blocks than many short ones.

    Args:
        compiled: openvino.CompiledModel with {"PERF_COUNT": True}, which has not run yet and which
            nothing else runs.
    """

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._runs = 0
        self._sums: list[float] = []  # microseconds of all runs, one per node

    def block(
        self, inputs: Mapping[str, Any], runs: int, progress: Callable[[], None] = lambda: None
    ) -> Block:
        """Run and time.

        Args:
            inputs: name -> array.
            runs: at least one.
            progress: called after each of them.
        """
        walls = []
        for _ in range(runs):
            self._request.infer(inputs, share_inputs=True, share_outputs=True)
            walls.append(self._request.latency)  # milliseconds
            progress()
        self._runs += runs
        infos = self._request.profiling_info
        before = self._sums or [0.0] * len(infos)
        self._sums = [_sum_us(info, self._runs) for info in infos]
        nodes = [
            ProfiledNode(
                info.node_name,
                info.node_type,
                info.exec_type,
                max(now - then, 0.0) / runs / 1e3,  # below 0 by rounding only
            )
            for info, now, then in zip(infos, self._sums, before, strict=True)
        ]
        return Block(tuple(nodes), tuple(walls))


def _sum_us(info: Any, runs: int) -> float:
    """The middle of what the sum over runs may be, for an average that was cut to microseconds.

    Of an average below 1 OpenVINO says that the node did not run, as of one that never does: 0.
    """
    if info.status.name != _RAN:
        return 0.0
    average: float = info.real_time / timedelta(microseconds=1)
    return average * runs + (runs - 1) / 2


def compile_model(
    model: Any, float_precision: str, threads: int, extra: Mapping[str, object] | None = None
) -> Any:
    """An openvino.Model or (topology, weights) as an openvino.CompiledModel on the CPU.

    Args:
        model: openvino.Model.
        float_precision: "f32" or "bf16".
        threads: 0 for every core.
        extra: further properties, for example {"PERF_COUNT": True}.
    """
    import openvino as ov

    settings = plugin_settings(CompileOptions(float_precision, threads).as_dict())
    return ov.Core().compile_model(model, "CPU", {**settings, **(extra or {})})


def compile_engine(engine: Engine, extra: Mapping[str, object] | None = None) -> Any:
    """An engine of target `cpu` as the target loads it, with further properties."""
    import openvino as ov

    paths: list[Path] = [engine.directory / name for name in engine.files[:2]]
    model = ov.Core().read_model(*paths)
    settings = {**engine_settings(engine), **(extra or {})}
    return ov.Core().compile_model(model, "CPU", settings)


def profile_engine(
    engine: Engine,
    inputs: Mapping[str, Any],
    runs: int,
    progress: Callable[[], None] = lambda: None,
) -> Profile:
    """Time every node of an engine of target `cpu`.

    Args:
        engine: compiled.
        inputs: name -> array.
        runs: that count, at least one; untimed ones go before them.
        progress: called after each of them.
    """
    return _profile(Profiler(compile_engine(engine, {"PERF_COUNT": True})), inputs, runs, progress)


def _profile(
    profiler: Profiler, inputs: Mapping[str, Any], runs: int, progress: Callable[[], None]
) -> Profile:
    profiler.block(inputs, _WARMUP)
    blocks = min(runs, _BLOCKS)
    # as equal as they can be, and as many runs in all as were asked for
    lengths = [runs * (i + 1) // blocks - runs * i // blocks for i in range(blocks)]
    return median_of([profiler.block(inputs, length, progress) for length in lengths])


def median_of(blocks: Sequence[Block]) -> Profile:
    """Medians over blocks of one model's runs, at least one."""
    nodes = [
        replace(node[0], ms=statistics.median(each.ms for each in node))
        for node in zip(*(block.nodes for block in blocks), strict=True)
        if any(each.ms > 0 for each in node)
    ]
    walls = statistics.median(wall for block in blocks for wall in block.walls_ms)
    return Profile(tuple(nodes), walls)
