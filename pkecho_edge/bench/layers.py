"""Where an engine's time goes: OpenVINO's own profile, by layer, part of the network and kind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pkecho_edge import targets
from pkecho_edge.bench.engines import bench_clips, build_graphs, compile_graphs
from pkecho_edge.bench.networks import BenchNetwork
from pkecho_edge.errors import UsageError
from pkecho_edge.stages import Observer
from pkecho_edge.targets.base import Engine
from pkecho_edge.targets.openvino_profile import ProfiledNode, profile_engine

__all__ = ["Group", "LayerRow", "LayersResult", "group_by", "measure_layers", "part_of"]


@dataclass(frozen=True)
class LayerRow:
    """One layer as OpenVINO runs it, after its fusions.

    Attributes:
        name: of the graph's node that gave it its name.
        part: of the network: "encoder stem", "encoder stages.0", "reduction", "head",
            "upsamplers.0", ...
        kind: OpenVINO's type of it, for example "Convolution" or "Reorder".
        primitive: the implementation that was chosen, for example "brgconv_avx512_vnni_I8".
        ms: time of a run, in milliseconds, median over blocks of runs.
        share: of the sum over all layers.
    """

    name: str
    part: str
    kind: str
    primitive: str
    ms: float
    share: float


@dataclass(frozen=True)
class Group:
    """Layers with something in common: how many, their time and share together."""

    name: str
    layers: int
    ms: float
    share: float


@dataclass(frozen=True)
class LayersResult:
    """A profile.

    Attributes:
        mode, precision: of the engine; precision as in every benchmark, "int8 + f32".
        rows: the slowest layer first.
        layers_ms: sum of all layers' medians.
        wall_ms: median of a whole run with profiling on. Layers are timed in whole microseconds, so
            the sum of many short ones may differ from it either way.
    """

    mode: str
    precision: str
    rows: tuple[LayerRow, ...]
    layers_ms: float
    wall_ms: float

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "mode": self.mode,
            "precision": self.precision,
            "layers_ms": self.layers_ms,
            "wall_ms": self.wall_ms,
            "rows": [asdict(row) for row in self.rows],
            "parts": [asdict(group) for group in group_by(self.rows, lambda row: row.part)],
            "kinds": [asdict(group) for group in group_by(self.rows, lambda row: row.kind)],
        }


def measure_layers(
    chosen: BenchNetwork,
    size: tuple[int, int],
    mode: str,
    float_precision: str,
    threads: int,
    runs: int,
    observer: Observer,
) -> LayersResult:
    """Profile our INT8 engine in OpenVINO, with the settings that it runs with.

    Args:
        chosen: the network.
        size: (H, W).
        mode: "clip" or "stream".
        float_precision: of the layers that are not INT8, "f32" or "bf16".
        threads: 0 for every core.
        runs: that are timed, in up to five blocks whose median counts.
        observer: hears about progress.

    Raises:
        UsageError: another mode or precision, or no run.
    """
    if mode not in ("clip", "stream"):
        raise UsageError(f"mode {mode!r}", remedy="Use clip or stream")
    if runs < 1:
        raise UsageError(f"{runs} runs", remedy="Ask for at least one")
    targets.options_for("cpu", float_precision, threads)  # refuse before the work
    clips = bench_clips(size, chosen.network.config.frames)
    with tempfile.TemporaryDirectory() as folder:
        observer.start("build the engine", None)
        graphs = build_graphs(chosen.network, clips, Path(folder))
        graph = {mode: graphs.of("int8")[mode]}
        engine = compile_graphs(graph, "cpu", float_precision, threads, Path(folder, "engine"))[
            mode
        ]
        observer.done(f"{mode}, int8 + {float_precision}")
        return _profile(engine, mode, float_precision, clips[0].frames, runs, observer)


def _profile(
    engine: Engine,
    mode: str,
    float_precision: str,
    frames: np.ndarray[Any, np.dtype[np.uint8]],
    runs: int,
    observer: Observer,
) -> LayersResult:
    inputs: dict[str, Any] = {"frames": frames}
    if mode == "stream":
        history = next(spec for spec in engine.inputs if spec.name == "history")
        inputs = {"frame": frames[:1], "history": history.zeros()}
    observer.start("profile", runs)
    profile = profile_engine(engine, inputs, runs, observer.advance)
    observer.done(f"{runs} runs")
    rows = _rows(profile.nodes)
    return LayersResult(
        mode=mode,
        precision=f"int8 + {float_precision}",
        rows=tuple(sorted(rows, key=lambda row: -row.ms)),
        layers_ms=sum(row.ms for row in rows),
        wall_ms=profile.wall_ms,
    )


def _rows(nodes: Sequence[ProfiledNode]) -> list[LayerRow]:
    """Each node with its part of the network and its share."""
    total = sum(node.ms for node in nodes) or 1.0
    found, part = [], "encoder stem"
    for node in nodes:
        part = part_of(node.name) or part  # a node without a name stands behind its maker
        share = node.ms / total
        found.append(LayerRow(node.name, part, node.kind, node.primitive, node.ms, share))
    return found


def part_of(name: str) -> str | None:
    """The network's part that a layer belongs to, by the graph's names; None where it has none.

    "/encoder/stages.1/stages.1.0/..." is of "encoder stages.1"; what else is in the encoder is its
    stem.
    """
    if not name.startswith("/"):
        return None
    part, _, inner = name[1:].partition("/")
    if part == "encoder":
        stage = inner.partition("/")[0]
        return f"encoder {stage}" if stage.startswith("stages.") else "encoder stem"
    return part if part in ("reduction", "head") or part.startswith("upsamplers.") else None


def group_by(rows: Iterable[LayerRow], key: Callable[[LayerRow], str]) -> list[Group]:
    """Sums over rows with the same key, the slowest group first."""
    groups: dict[str, list[LayerRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    summed = (
        Group(name, len(members), sum(r.ms for r in members), sum(r.share for r in members))
        for name, members in groups.items()
    )
    return sorted(summed, key=lambda group: -group.ms)
