"""The clip graph: T 8-bit frames in, T masks' logits out, one mask per frame and no batch axis.

`LoweredParts` is what the clip graph and the stream graph are made of. Both name their parts alike,
so that the INT8 ranges found for one hold for the other, tensor by tensor.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from pkecho_edge.frame_size import check_frame_size
from pkecho_edge.lowering.encoder import LoweredEncoder
from pkecho_edge.lowering.head import LoweredHead, LoweredReduction
from pkecho_edge.lowering.upsampler import LoweredBilinear, lower_estimator
from pkecho_edge.model.network import PKEchoNet

__all__ = ["ClipGraph", "LoweredParts"]

_STRIDES = (4, 8, 16, 32)


class LoweredParts(nn.Module):
    """The lowered network in pieces: encoder, reduction, head, upsamplers.

    Args:
        network: trained; it is copied, not changed.
        size: (H, W) in pixels, fixed in the graph.

    Raises:
        UsageError: an impossible size.
    """

    def __init__(self, network: PKEchoNet, size: tuple[int, int]) -> None:
        super().__init__()
        check_frame_size(size)
        self.frames, self.size = network.config.frames, size
        # fold in double precision, round once: the graph is then as close as FP32 weights can be
        network = copy.deepcopy(network).double()
        self.encoder = LoweredEncoder(network)
        self.reduction = LoweredReduction(network.kss)
        self.head = LoweredHead(network.kss)
        upsamplers = _upsamplers(network, size)
        self._stages, self.upsamplers = tuple(upsamplers), nn.ModuleList(upsamplers.values())
        self.float().eval().requires_grad_(False)

    def upsample(self, features: list[Tensor], masks: Tensor) -> Tensor:
        """Masks [N, 1, H/32, W/32] -> [N, 1, H, W], steered by the same N frames' features."""
        for upsampler, index in zip(reversed(self.upsamplers), reversed(self._stages), strict=True):
            masks = upsampler(features[index], masks)
        return masks


class ClipGraph(LoweredParts):
    """frames u8 [T, 1, H, W] -> logits f32 [T, 1, H, W], equal to the network at batch size 1."""

    def forward(self, frames: Tensor) -> Tensor:
        """See the class."""
        features = self.encoder(frames)
        return self.upsample(features, self.head(self.reduction(features[-1])))


def _upsamplers(network: PKEchoNet, size: tuple[int, int]) -> dict[int, nn.Module]:
    """From the index of a stage to what upsamples masks with its features."""
    steps: dict[int, nn.Module] = {
        index: lower_estimator(estimator, size[0] // stride, size[1] // stride)
        for index, ((_, estimator), stride) in enumerate(
            zip(network.stages(), _STRIDES, strict=True)
        )
        if estimator is not None
    }
    return steps or {len(_STRIDES) - 1: LoweredBilinear()}
