"""Evening out the ranges of channels, so that one scale per tensor serves them all; exact in FP32.

A channel of a tensor may be divided by any positive factor if every convolution that reads it
multiplies it back: ReLU, max-pool and sums let the factor through. Where a few channels are much
larger than the others (a badly scaled BatchNorm is enough), the others would share a handful of
integers. Cross-layer equalisation (Nagel et al., 2019) does this for pairs of convolutions, and
SmoothQuant (Xiao et al., 2023) weighs activations against weights; here a group is everything that
must share a factor, a whole residual stream included. Factors are powers of two: no bit of the FP32
result changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.calibration.activations import TensorActivations
from pkecho_edge.calibration.graph import GraphView
from pkecho_edge.files import write_atomically

if TYPE_CHECKING:
    import onnx

__all__ = ["ChannelGroup", "EqualisationReport", "channel_groups", "equalise"]

_TRANSPARENT = ("Relu", "MaxPool", "Add")
_MAX_EXPONENT = 20
"""A factor is at most 2 ** this: further out FP32 itself would run short."""


@dataclass
class ChannelGroup:
    """Tensors whose channels must share their factors.

    Attributes:
        tensors: names.
        producers: convolutions that make one of them.
        consumers: convolutions that read one.
        free: whether nothing else makes or reads them.
    """

    tensors: set[str] = field(default_factory=set)
    producers: list[onnx.NodeProto] = field(default_factory=list)
    consumers: list[onnx.NodeProto] = field(default_factory=list)
    free: bool = True


@dataclass(frozen=True)
class EqualisationReport:
    """What was done.

    Attributes:
        path: the rescaled FP32 graph.
        groups: how many groups of channels there are that can be rescaled.
        spread: the largest ratio, in any group, of a channel's range to the group's median range
            before. About 10 is ordinary; in the thousands one scale cannot serve all channels.
        worst: a tensor of that group; "" where there is none.
    """

    path: Path
    groups: int
    spread: float
    worst: str


def equalise(
    graph: Path, statistics: Mapping[str, TensorActivations], exponent: float, path: Path
) -> EqualisationReport:
    """Rescale the channels of a float graph and write it to `path`, whole or not at all.

    A channel of range a that is read by weights of relative size w is divided by
    a ** exponent / w ** (1 - exponent), rounded to a power of two.

    Args:
        graph: lowered FP32 ONNX.
        statistics: tensor -> what it held.
        exponent: above 0 (weights alone decide) to 1 (all channels get the same range).
        path: of the result.
    """
    import onnx

    model = onnx.load(graph)
    view = GraphView(model.graph)
    groups = [group for group in channel_groups(view) if group.free]
    weights = {name: values.copy() for name, values in view.constants.items()}
    spread, worst = 1.0, ""
    for group in groups:
        ranges = _ranges(group, statistics)
        if ranges is None:
            continue
        if (found := _spread(ranges)) > spread:
            spread, worst = found, min(group.tensors & statistics.keys())
        _rescale(group, _factors(group, ranges, weights, exponent), weights)
    _store(model.graph, weights, {name for group in groups for name in _constants(group)})
    write_atomically(path, model.SerializeToString(deterministic=True))
    return EqualisationReport(path, len(groups), spread, worst)


def channel_groups(view: GraphView) -> list[ChannelGroup]:
    """Every group of the graph, in the order of its first tensor."""
    groups: dict[str, ChannelGroup] = {}

    def group_of(tensor: str) -> ChannelGroup:
        if tensor not in groups:
            groups[tensor] = ChannelGroup({tensor})
        return groups[tensor]

    for node in view.graph.node:
        if node.op_type in _TRANSPARENT and not view.constants.keys() & set(node.input):
            first = group_of(node.output[0])
            for name in node.input:
                other = group_of(name)
                if other is not first:
                    first.tensors |= other.tensors
                    groups |= dict.fromkeys(other.tensors, first)
    for node in view.convolutions():
        group_of(node.output[0])
    found = list({id(group): group for group in groups.values()}.values())
    for group in found:
        _find_neighbours(view, group)
    return found


def _find_neighbours(view: GraphView, group: ChannelGroup) -> None:
    """Fill in who makes and reads the tensors of a group, and whether it is free."""
    outputs = {value.name for value in view.graph.output}
    for tensor in sorted(group.tensors):
        maker = view.makers.get(tensor)
        if maker is None or tensor in outputs:
            group.free = False
        elif maker.op_type == "Conv":
            group.producers.append(maker)
        elif maker.op_type not in _TRANSPARENT:
            group.free = False
        for reader, index in view.readers.get(tensor, ()):
            inside = reader.op_type in _TRANSPARENT and reader.output[0] in group.tensors
            if reader.op_type == "Conv" and index == 0:
                group.consumers.append(reader)
            elif not inside:
                group.free = False
    for node in (*group.producers, *group.consumers):
        # constants of several nodes cannot be rescaled for one of them
        alone = all(len(view.readers[name]) == 1 for name in node.input[1:] if name)
        group.free &= alone and view.weight(node) is not None
    group.free &= bool(group.producers and group.consumers)


def _ranges(
    group: ChannelGroup, statistics: Mapping[str, TensorActivations]
) -> NDArray[np.float64] | None:
    """Each channel's largest magnitude in any tensor of the group; None where none was observed."""
    found = [statistics[name] for name in sorted(group.tensors) if name in statistics]
    if not found:
        return None
    bounds = [np.maximum(np.abs(t.minimum), np.abs(t.maximum)) for t in found]
    ranges: NDArray[np.float64] = np.max(bounds, axis=0).astype(np.float64)
    return ranges


def _spread(ranges: NDArray[np.float64]) -> float:
    """The largest over the median range of the channels that are not dead."""
    alive = ranges[ranges > 0]
    return float(alive.max() / np.median(alive)) if len(alive) else 1.0


def _factors(
    group: ChannelGroup,
    ranges: NDArray[np.float64],
    weights: Mapping[str, NDArray[np.float32]],
    exponent: float,
) -> NDArray[np.float64]:
    """By what each channel is divided: f64 [C], powers of two; 1 for a dead channel."""
    reading = np.zeros(len(ranges))
    for node in group.consumers:
        weight = weights[node.input[1]]
        if weight.shape[1] == len(ranges):  # of a depthwise one each channel has its own scale
            rows = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
            relative = np.abs(weight) / np.where(rows > 0, rows, 1)
            reading = np.maximum(reading, relative.max(axis=(0, 2, 3)))
    read = np.where(reading > 0, reading, 1.0)
    alive = ranges > 0
    exponents = np.zeros(len(ranges))
    exponents[alive] = exponent * np.log2(ranges[alive]) - (1 - exponent) * np.log2(read[alive])
    if alive.any():
        exponents[alive] -= np.median(exponents[alive])
    rounded: NDArray[np.float64] = np.clip(np.rint(exponents), -_MAX_EXPONENT, _MAX_EXPONENT)
    return np.exp2(rounded)


def _rescale(
    group: ChannelGroup, factors: NDArray[np.float64], weights: dict[str, NDArray[np.float32]]
) -> None:
    """Divide the channels where they are made, multiply them where they are read."""
    scale = factors.astype(np.float32)
    for node in group.producers:
        weights[node.input[1]] /= scale.reshape(-1, 1, 1, 1)
        if len(node.input) > 2:
            weights[node.input[2]] /= scale
    for node in group.consumers:
        weight = weights[node.input[1]]
        depthwise = weight.shape[1] != len(scale)
        weight *= scale.reshape((-1, 1, 1, 1) if depthwise else (1, -1, 1, 1))


def _constants(group: ChannelGroup) -> set[str]:
    return {name for node in (*group.producers, *group.consumers) for name in node.input[1:]}


def _store(
    graph: onnx.GraphProto, weights: Mapping[str, NDArray[np.float32]], changed: set[str]
) -> None:
    from onnx import numpy_helper

    for tensor in graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
