"""OpenVINO called directly, with the settings of target `cpu`: what a session does not show."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pkecho_edge.targets.base import CompileOptions, Engine
from pkecho_edge.targets.openvino_cpu import engine_settings, plugin_settings

__all__ = ["Profile", "ProfiledNode", "compile_engine", "compile_model", "profile_engine"]

_WARMUP = 5
_RAN = "EXECUTED"


@dataclass(frozen=True)
class ProfiledNode:
    """One node as OpenVINO runs it, after its fusions.

    Attributes:
        name: of the graph's node that gave it its name.
        kind: OpenVINO's type of it, for example "Convolution" or "Reorder".
        primitive: the implementation that was chosen, for example "brgconv_avx512_vnni_I8".
        ms: median time of a run, in milliseconds.
    """

    name: str
    kind: str
    primitive: str
    ms: float


@dataclass(frozen=True)
class Profile:
    """Medians over runs.

    Attributes:
        nodes: those that ran, in the order of execution.
        wall_ms: of a whole run with profiling on. Nodes are timed in whole microseconds, so the sum
            of many short ones may differ from it either way.
    """

    nodes: tuple[ProfiledNode, ...]
    wall_ms: float


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
        runs: whose median counts, at least one.
        progress: called after each of them.
    """
    request = compile_engine(engine, {"PERF_COUNT": True}).create_infer_request()
    walls, profiles = [], []
    for run in range(_WARMUP + runs):
        request.infer(inputs, share_inputs=True, share_outputs=True)
        if run >= _WARMUP:
            walls.append(request.latency)  # milliseconds
            profiles.append(request.profiling_info)
            progress()
    nodes = [
        ProfiledNode(
            node[0].node_name,
            node[0].node_type,
            node[0].exec_type,
            statistics.median(each.real_time.total_seconds() * 1e3 for each in node),
        )
        for node in zip(*profiles, strict=True)
        if node[0].status.name == _RAN
    ]
    return Profile(tuple(nodes), statistics.median(walls))
