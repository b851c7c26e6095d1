"""Kernel-based semi-supervised segmentation (KSS): a mask kernel per frame, refined over the clip.

Paper, section "Kernel-based Semi-supervised Segmentation", equations 1 to 4. Where the paper leaves
a choice open this follows the module its authors published, because checkpoints in the wild do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from pkecho_edge.model.attention import FeedForward, SelfAttention
from pkecho_edge.model.gating import KernelGating
from pkecho_edge.model.interaction import EquationTwo, HybridAttention

__all__ = ["INTERACTIONS", "KernelSegmentation"]

INTERACTIONS: dict[str, Callable[[int], nn.Module]] = {
    "hybrid": HybridAttention,
    "equation-2": EquationTwo,
    "gating": KernelGating,
}
"""How kernels meet grouped features; each maps (grouped, kernels) [N, L, C] to [N, L, C]."""


class KernelSegmentation(nn.Module):
    """Coarse masks from the deepest features, refined by kernels that see the whole clip.

    Args:
        channels: of the deepest encoder stage.
        kernel_channels: C, the width of features and kernels after the reduction.
        refinements: how many times the kernels are refined.
        frames: T, the clip length.
        interaction: a key of INTERACTIONS.
        temporal_attention: whether the T kernels of a clip attend to each other. Without it there
            is no `pos_embed` either: it tells that attention which kernel is which frame's.
        feed_forward_rate: inner width of the feed-forward network over C.
    """

    pos_embed: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        kernel_channels: int,
        refinements: int,
        frames: int,
        *,
        interaction: str = "hybrid",
        temporal_attention: bool = True,
        feed_forward_rate: int = 4,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.predictor_conv1 = nn.Sequential(
            nn.Conv2d(channels, kernel_channels, 3, padding=1),
            nn.BatchNorm2d(kernel_channels),
            nn.ReLU(inplace=True),
        )
        self.predictor_conv2 = nn.Conv2d(kernel_channels, 1, 1)
        position = torch.randn(1, frames, kernel_channels) if temporal_attention else None
        self.pos_embed = None if position is None else nn.Parameter(position)
        self.updator = nn.ModuleList(
            nn.ModuleList(
                [
                    INTERACTIONS[interaction](kernel_channels),
                    # over the T frames of one clip; an Identity keeps the other parts' names
                    SelfAttention(kernel_channels) if temporal_attention else nn.Identity(),
                    SelfAttention(kernel_channels),  # over the B clips of the batch
                    FeedForward(kernel_channels, feed_forward_rate),
                ]
            )
            for _ in range(refinements)
        )
        self.bias = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in range(refinements))

    def forward(self, features: Tensor) -> list[Tensor]:
        """Deepest features [B * T, channels, h, w] -> logits [B * T, 1, h, w] per refinement.

        Element 0 is the unrefined prediction. Attention over the batch makes the result of a clip
        depend on its batch mates whenever B > 1: score and deploy at B = 1.
        """
        return self.refine(self.reduce(features))

    def reduce(self, features: Tensor) -> Tensor:
        """What kernels are matched with: [N, channels, h, w] -> [N, C, h, w]."""
        reduced: Tensor = self.predictor_conv1(features)
        return reduced

    def refine(self, reduced: Tensor) -> list[Tensor]:
        """Reduced features [B * T, C, h, w] -> as `forward`."""
        masks = self.predictor_conv2(reduced)  # [BT, 1, h, w]
        return [masks, *self._refined(reduced, masks)]

    def _refined(self, reduced: Tensor, masks: Tensor) -> Iterator[Tensor]:
        clips, channels = reduced.shape[0] // self.frames, reduced.shape[1]
        kernels = self.predictor_conv2.weight.view(1, 1, channels)
        kernels = kernels.expand(reduced.shape[0], 1, channels)  # [BT, 1, C]
        for index, (updator, bias) in enumerate(zip(self.updator, self.bias, strict=True)):
            grouped = torch.einsum("nkhw,nchw->nkc", masks.sigmoid(), reduced)  # equation 1
            kernels = updator[0](grouped, kernels)  # type: ignore[index]
            kernels = kernels.view(clips, self.frames, channels)
            if index == 0 and self.pos_embed is not None:
                kernels = kernels + self.pos_embed
            kernels = updator[1](kernels)  # type: ignore[index]
            across = updator[2](kernels.transpose(0, 1))  # type: ignore[index]  # [T, B, C]
            kernels = across.transpose(0, 1).reshape(-1, 1, channels)
            kernels = updator[3](kernels)  # type: ignore[index]  # [BT, 1, C]
            masks = torch.einsum("nkc,nchw->nkhw", kernels, reduced) + bias
            yield masks
