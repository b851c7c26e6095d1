"""Who makes and who reads each tensor of an ONNX graph, and which part of the network a node is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

__all__ = ["QUANTIZERS", "GraphView", "block_of", "layer_of", "quantizable"]

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class GraphView:
    """Look-ups into a graph that is not changed meanwhile."""

    graph: onnx.GraphProto

    @cached_property
    def makers(self) -> Mapping[str, onnx.NodeProto]:
        """Tensor -> the node it comes out of; inputs and constants have none."""
        return {name: node for node in self.graph.node for name in node.output}

    @cached_property
    def readers(self) -> Mapping[str, list[tuple[onnx.NodeProto, int]]]:
        """Tensor -> the nodes that read it, each with the number of the input."""
        found: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self.graph.node:
            for index, name in enumerate(node.input):
                found.setdefault(name, []).append((node, index))
        return found

    @cached_property
    def constants(self) -> Mapping[str, NDArray[Any]]:
        """Initializer -> its values."""
        from onnx import numpy_helper

        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}

    @cached_property
    def nodes(self) -> Mapping[str, onnx.NodeProto]:
        """Name -> node."""
        return {node.name: node for node in self.graph.node}

    def convolutions(self) -> list[onnx.NodeProto]:
        """Those with constant weights, in the graph's order."""
        return [
            node
            for node in self.graph.node
            if node.op_type == "Conv" and self.weight(node) is not None
        ]

    def weight(self, node: onnx.NodeProto) -> NDArray[np.float32] | None:
        """A convolution's weights f32 [out, in / groups, kh, kw]; None where they are computed."""
        return self.constants.get(node.input[1])

    def quantizers(self, name: str) -> list[onnx.NodeProto]:
        """The quantizers that a tensor comes out of, the last first; empty for a float tensor."""
        chain = []
        while (maker := self.makers.get(name)) is not None and maker.op_type in QUANTIZERS:
            chain.append(maker)
            name = maker.input[0]
        return chain


def quantizable(name: str) -> bool:
    """Whether a node does convolution work, by the part of the lowered graph it belongs to.

    The kernel head (ten tokens) and the affinity arithmetic stay in float under every scheme: they
    cost little and carry the mask's border.
    """
    part, *inner = name.lstrip("/").split("/")
    if part.startswith("upsamplers"):
        # of an upsampler only the estimator (depthwise, its ReLU, scores) is convolution work
        return inner[:1] == ["Relu"] or not {"depthwise", "scores"}.isdisjoint(inner)
    return part != "head"


def layer_of(name: str) -> str:
    """The layer that a convolution belongs to, by its node's name: what returns to float as one.

    "encoder.stem", "encoder.stages.0.0.convolutions.1", "encoder.stages.1.0.downsample",
    "reduction.convolution", "upsamplers.0.scores". The scores of an upsampler are one layer, in
    however many convolutions the lowering computes them.
    """
    pieces = name.lstrip("/").split("/")[:-1]
    kept = [
        piece
        for piece, following in zip(pieces, [*pieces[1:], ""], strict=True)
        if not following.startswith(f"{piece}.")  # "stages.0/stages.0.1" says it twice
    ]
    return re.sub(r"\.neighbours\.\d+", "", ".".join(kept))


def block_of(layer: str) -> str:
    """The block of a layer: "encoder.stem", "encoder.stages.0.0", "reduction", "upsamplers.0"."""
    pieces = layer.split(".")
    depth = {"encoder": 4 if "stages" in pieces else 2, "upsamplers": 2}.get(pieces[0], 1)
    return ".".join(pieces[:depth])
