"""What each convolution costs on this machine at several widths: measured in OpenVINO, one by one.

A latency-aware pruning asks what a layer costs at widths that the network does not have. So every
layer of `network_layers` is timed on a ladder of widths, in models that hold nothing else, in the
form that target `cpu` gives it: 8-bit activations, 8-bit weights, bias, ReLU and the next layer's
quantizer in one. What the profile says of the convolution itself counts; what surrounds it in the
network, a residual sum or a pool, does not.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from pkecho_edge import targets
from pkecho_edge.errors import PkechoEdgeError, UsageError
from pkecho_edge.frame_size import check_frame_size
from pkecho_edge.lowering.upsampler import lower_estimator
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.region_proxy import NEIGHBOURS, AffinityEstimator
from pkecho_edge.pruning.cost import LatencyTable, LayerGrid, latency_cost
from pkecho_edge.pruning.layers import ConvLayer, network_layers
from pkecho_edge.pruning.places import widths_of
from pkecho_edge.stages import Observer, StageCache
from pkecho_edge.targets.base import CompileOptions, check_precision, unavailable
from pkecho_edge.targets.openvino_profile import Profiler, compile_model
from pkecho_edge.tuning.layer_graph import Convolution, side_by_side
from pkecho_edge.verify.machine import machine_facts

__all__ = ["LAYER_COSTS", "cached_latency_table", "finished_latency_table", "ladder"]
__all__ += ["measure_latency_table"]

LAYER_COSTS = "layer-costs"
"""Name of the stage."""

_TITLE = "measure the layers"
_FILE = "table.json"
_METHOD = 1
"""To be raised when the same layers would be measured otherwise: kept tables are then stale."""

_SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)
"""Of the full width; closer below, where a step is a larger part of what is left."""

_MODEL_WEIGHTS = 8_000_000
"""Of one model, about those of a ResNet-18: the caches are then as full as in use."""

_WARMUP, _ROUNDS, _RUNS = 3, 9, 6
_LEAST_MS = 0.0005
"""Half of the profile's step: a convolution that takes less than one may be said to take none."""


def measure_latency_table(
    config: NetworkConfig,
    size: tuple[int, int],
    *,
    round_to: int,
    options: CompileOptions,
    observer: Observer,
) -> LatencyTable:
    """Times of every layer of `network_layers` for one frame, INT8 as target `cpu` quantizes.

    Layers that are alike are measured once. Models take turns, so that a machine's drift falls on
    all alike, and of each convolution the median over the turns counts: a few disturbed turns
    change nothing. Times are not smoothed. More channels can cost less, where they fill the
    vectors that fewer leave half empty; that is the machine's, and what pruning should know.

    Args:
        config: its widths are the ladders' tops.
        size: (H, W) of the frame.
        round_to: what pruned widths are a multiple of, at least 1.
        options: of the engines that the table is for.
        observer: hears about progress.

    Raises:
        MissingDependency: OpenVINO is not installed.
        UsageError: an impossible size, precision or `round_to`.
    """
    _check(size, round_to, options)
    layers = network_layers(config)
    plans = {layer.name: _plan(layer, widths_of(config), size, round_to) for layer in layers}
    wanted = dict.fromkeys(each for plan in plans.values() for row in plan.rows for each in row)
    ms = _measure(list(wanted), options, observer)
    table = LatencyTable({name: plan.grid(ms) for name, plan in plans.items()})
    whole = _whole_ms(table, config)
    observer.done(f"{len(wanted)} convolutions, all of the network's take {whole:.2f} ms a frame")
    return table


def cached_latency_table(
    config: NetworkConfig,
    size: tuple[int, int],
    *,
    round_to: int,
    options: CompileOptions,
    stages: StageCache,
    observer: Observer,
) -> LatencyTable:
    """`measure_latency_table`, or what it measured before on such a machine.

    Args:
        stages: where finished tables are kept.

    Raises:
        MissingDependency, UsageError: as there; or the cache cannot be written.
    """
    _check(size, round_to, options)

    before = finished_latency_table(config, size, round_to=round_to, options=options, stages=stages)
    if before is not None:
        observer.start(_TITLE, None)
        observer.done(f"{len(before.grids)} layers (reused)")
        return before

    def work(folder: Path) -> None:
        table = measure_latency_table(
            config, size, round_to=round_to, options=options, observer=observer
        )
        (folder / _FILE).write_text(json.dumps(table.as_dict(), sort_keys=True), encoding="utf-8")

    inputs = _inputs(config, size, round_to, options)
    return _read_table(stages.run(LAYER_COSTS, inputs, work, f"{size[0]}x{size[1]}").folder)


def finished_latency_table(
    config: NetworkConfig,
    size: tuple[int, int],
    *,
    round_to: int,
    options: CompileOptions,
    stages: StageCache,
) -> LatencyTable | None:
    """What `cached_latency_table` would not have to measure; None where it would.

    Raises:
        MissingDependency, UsageError: as `measure_latency_table`.
    """
    _check(size, round_to, options)
    kept = stages.find(LAYER_COSTS, _inputs(config, size, round_to, options))
    return None if kept is None else _read_table(kept.folder)


def _inputs(
    config: NetworkConfig, size: tuple[int, int], round_to: int, options: CompileOptions
) -> dict[str, object]:
    """What the table of a machine depends on."""
    return {
        "config": config.as_dict(),
        "size": size,
        "round_to": round_to,
        "options": options.as_dict(),
        "openvino": metadata.version("openvino"),
        "processor": _processor(),
        "method": _METHOD,
    }


def _read_table(folder: Path) -> LatencyTable:
    return LatencyTable.from_dict(json.loads((folder / _FILE).read_text(encoding="utf-8")))


def ladder(full: int, round_to: int) -> tuple[int, ...]:
    """Up to six widths from an eighth of the full one to itself, ascending.

    All but the full one are multiples of `round_to`, and at least that.
    """
    rounded = {max(round(full * share / round_to), 1) * round_to for share in _SHARES}
    return (*sorted(width for width in rounded if width < full), full)


def _check(size: tuple[int, int], round_to: int, options: CompileOptions) -> None:
    """MissingDependency or UsageError, before any work."""
    target = targets.get("cpu")
    if missing := target.missing():
        raise unavailable("cpu", missing)
    check_frame_size(size)
    check_precision(target, options)
    if round_to < 1:
        raise UsageError(f"widths in multiples of {round_to}", remedy="Use 1 or more, such as 8")


def _processor() -> Mapping[str, object]:
    """What the times depend on. A virtual machine's model may be no more than a maker's name, so
    the instruction sets count, too."""
    facts = machine_facts()["cpu"]
    assert isinstance(facts, dict)
    return {name: facts[name] for name in ("model", "flags", "cores_usable")}


def _whole_ms(table: LatencyTable, config: NetworkConfig) -> float:
    """The sum over the layers at the network's own widths."""
    cost, widths = latency_cost(table), widths_of(config)
    return sum(cost(layer, *layer.channels(widths)) for layer in network_layers(config))


@dataclass(frozen=True)
class _Plan:
    """What is to be measured for one layer.

    Attributes:
        inputs, outputs: the axes of its grid.
        rows: of inputs, columns of outputs.
        copies: how many of these convolutions the engine runs in the layer's place.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    rows: tuple[tuple[Convolution, ...], ...]
    copies: int

    def grid(self, ms: Mapping[Convolution, float]) -> LayerGrid:
        """With times, in milliseconds."""
        times = tuple(tuple(self.copies * ms[each] for each in row) for row in self.rows)
        return LayerGrid(self.inputs, self.outputs, times)


def _plan(
    layer: ConvLayer, widths: Mapping[str, int], size: tuple[int, int], round_to: int
) -> _Plan:
    """A convolution for each pair of widths, in the form that the lowering gives the layer."""
    inputs, outputs = (
        (axis,) if isinstance(axis, int) else ladder(widths[axis], round_to)
        for axis in (layer.inputs, layer.outputs)
    )
    if layer.depthwise:
        inputs = (1,)  # per output
    copies, each = 1, {width: width for width in outputs}
    if layer.name.startswith("estimator") and isinstance(layer.outputs, int):
        copies, channels = _lowered_scores(layer.outputs, layer.kernel)
        each = {layer.outputs: channels}
    pixels = size[0] // layer.reach, size[1] // layer.reach
    rows = tuple(
        tuple(
            Convolution(
                inputs=each[out] if layer.depthwise else into,
                outputs=each[out],
                kernel=layer.kernel,
                stride=layer.stride,
                size=pixels,
                depthwise=layer.depthwise,
                frame=isinstance(layer.inputs, int),
                quantized=not isinstance(layer.outputs, int),  # scores and reduced features
            )
            for out in outputs
        )
        for into in inputs
    )
    return _Plan(inputs, outputs, rows, copies)


def _lowered_scores(outputs: int, kernel: int) -> tuple[int, int]:
    """How many convolutions the lowering computes an estimator's scores in, and their channels."""
    factor = math.isqrt(outputs // NEIGHBOURS)
    with torch.random.fork_rng(devices=[]):  # its weights are of no use, so nobody's change
        lowered = lower_estimator(AffinityEstimator(1, factor, kernel), 3, 3)
    scores = [part for name, part in lowered.named_modules() if name.endswith("scores")]
    assert all(isinstance(part, torch.nn.Conv2d) for part in scores)
    (channels,) = {int(part.out_channels) for part in scores}
    return len(scores), channels


def _measure(
    convolutions: Sequence[Convolution], options: CompileOptions, observer: Observer
) -> dict[Convolution, float]:
    """Milliseconds of each; leaves it to the caller to call the observer's `done`."""
    parts = list(_parted(convolutions))
    observer.start(_TITLE, len(parts) + _ROUNDS)
    models = []
    for part in parts:
        models.append(_Model(part, options))
        observer.advance()
    turns: dict[Convolution, list[float]] = defaultdict(list)
    for _ in range(_ROUNDS):
        for model in models:
            for convolution, ms in model.turn().items():
                turns[convolution].append(ms)
        observer.advance()
    return {each: max(statistics.median(turns[each]), _LEAST_MS) for each in convolutions}


def _parted(convolutions: Iterable[Convolution]) -> Iterator[list[Convolution]]:
    """Those of one model, the ones with the same input together."""
    part: list[Convolution] = []
    for each in sorted(convolutions, key=lambda each: (each.source, each.weights)):
        if part and sum(known.weights for known in part) + each.weights > _MODEL_WEIGHTS:
            yield part
            part = []
        part.append(each)
    if part:
        yield part


class _Model:
    """Some convolutions, compiled and warm."""

    def __init__(self, convolutions: Sequence[Convolution], options: CompileOptions) -> None:
        self._convolutions = convolutions
        compiled = compile_model(
            side_by_side(convolutions),
            options.float_precision,
            options.threads,
            {"PERF_COUNT": True},
        )
        random = np.random.default_rng(0)
        self._inputs = {
            port.get_any_name(): random.integers(0, 256, tuple(port.shape), dtype=np.uint8)
            for port in compiled.inputs
        }
        self._profiler = Profiler(compiled)
        self._profiler.block(self._inputs, _WARMUP)

    def turn(self) -> dict[Convolution, float]:
        """Milliseconds of each in a block of runs, after one that fills the caches again.

        Raises:
            PkechoEdgeError: the profile lacks one.
        """
        self._profiler.block(self._inputs, 1)
        found = {
            self._convolutions[int(named[1])]: node.ms
            for node in self._profiler.block(self._inputs, _RUNS).nodes
            if node.kind.endswith("Convolution")
            and (named := re.fullmatch(r"layer\.(\d+)(/.*)?", node.name))
        }
        if lacking := set(self._convolutions) - set(found):
            raise PkechoEdgeError(
                f"OpenVINO's profile lacks {len(lacking)} convolutions, among them {lacking.pop()}",
                remedy="Report it with the version of OpenVINO",
            )
        return found
