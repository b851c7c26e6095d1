"""FP16 written into a lowered graph's types, for toolchains that take precision from there.

FP16 is for convolutions alone: the encoder's, and those of the upsamplers that make affinity
scores. The kernel head sums over all pixels, and affinities are exponentials: both overflow FP16,
cost little, and stay in FP32. Inputs and outputs are those of the FP32 graph.
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

from pkecho_edge.lowering.clip_graph import LoweredParts
from pkecho_edge.lowering.head import LoweredReduction
from pkecho_edge.lowering.upsampler import LoweredNarrowUpsampler, LoweredUpsampler

__all__ = ["halve"]

Graph = TypeVar("Graph", bound=LoweredParts)


class _Widened(nn.Module):
    """A convolution in FP16 whose result is FP32."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution.half()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.convolution(x).float()
        return out


class _FloatReduction(nn.Module):
    """LoweredReduction in FP32, of features in FP16."""

    def __init__(self, reduction: LoweredReduction) -> None:
        super().__init__()
        self.convolution = reduction.convolution

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.convolution(features.float()).relu()
        return out


def halve(graph: Graph) -> Graph:
    """Turn a graph's convolutions to FP16 where it lies, and return it."""
    graph.encoder.half()
    graph.reduction = _FloatReduction(graph.reduction)  # type: ignore[assignment]  # same interface
    for upsampler in graph.upsamplers:
        if isinstance(upsampler, LoweredUpsampler):
            upsampler.depthwise.half()
            for neighbour in upsampler.neighbours:
                neighbour.scores = _Widened(neighbour.scores)  # type: ignore[arg-type]
        elif isinstance(upsampler, LoweredNarrowUpsampler):
            upsampler.depthwise.half()
            upsampler.scores = _Widened(upsampler.scores)  # type: ignore[assignment]
    return graph
