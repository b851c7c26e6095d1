"""Kernel-based semi-supervised segmentation (KSS): a mask kernel per frame, refined over the clip.

Paper, section "Kernel-based Semi-supervised Segmentation", equations 1 to 4. Where the paper leaves
a choice open this follows the module its authors published, because checkpoints in the wild do.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["HEAD_CHANNELS", "FeedForward", "HybridAttention", "KernelSegmentation", "SelfAttention"]

HEAD_CHANNELS = 32
_FEED_FORWARD_RATE = 4
_DROPOUT = 0.1


def _attention(channels: int) -> nn.MultiheadAttention:
    heads = channels // HEAD_CHANNELS
    return nn.MultiheadAttention(channels, heads, dropout=_DROPOUT, batch_first=True)


class SelfAttention(nn.Module):
    """Post-norm self-attention: [N, L, C] -> [N, L, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.msa = _attention(channels)
        self.drop = nn.Dropout(_DROPOUT)
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attends over L; N are independent sequences."""
        attended, _ = self.msa(tokens, tokens, tokens, need_weights=False)
        out: Tensor = self.norm(tokens + self.drop(attended))
        return out


class FeedForward(nn.Module):
    """Post-norm feed-forward network, inner width 4 C: [N, L, C] -> [N, L, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(
            nn.Linear(channels, channels * _FEED_FORWARD_RATE),
            nn.ReLU(inplace=True),
            nn.Dropout(_DROPOUT),
            nn.Linear(channels * _FEED_FORWARD_RATE, channels),
        )
        self.drop = nn.Dropout(_DROPOUT)
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Acts on every token alone."""
        out: Tensor = self.norm(tokens + self.drop(self.ffn(tokens)))
        return out


class HybridAttention(nn.Module):
    """Kernels look at grouped features and grouped features at kernels (Li et al. 2022a).

    The published order: f = k + Att_feature(k; g, g), h = f + Att_kernel(g; k, k), and the result
    is ReLU(LN(Linear(LN(f) + LN(h)))).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.feature_msa = _attention(channels)
        self.kernel_msa = _attention(channels)
        self.feature_drop = nn.Dropout(_DROPOUT)
        self.kernel_drop = nn.Dropout(_DROPOUT)
        self.feature_norm = nn.LayerNorm(channels)
        self.kernel_norm = nn.LayerNorm(channels)
        self.fc = nn.Sequential(
            nn.Linear(channels, channels), nn.LayerNorm(channels), nn.ReLU(inplace=True)
        )

    def forward(self, grouped: Tensor, kernels: Tensor) -> Tensor:
        """grouped and kernels [N, L, C] -> kernel embedding [N, L, C]."""
        from_features, _ = self.feature_msa(kernels, grouped, grouped, need_weights=False)
        from_kernels, _ = self.kernel_msa(grouped, kernels, kernels, need_weights=False)
        f = kernels + self.feature_drop(from_features)
        h = f + self.kernel_drop(from_kernels)
        out: Tensor = self.fc(self.feature_norm(f) + self.kernel_norm(h))
        return out


class KernelSegmentation(nn.Module):
    """Coarse masks from the deepest features, refined by kernels that see the whole clip.

    Args:
        channels: of the deepest encoder stage.
        kernel_channels: C, the width of features and kernels after the reduction.
        refinements: how many times the kernels are refined.
        frames: T, the clip length.
    """

    def __init__(self, channels: int, kernel_channels: int, refinements: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.predictor_conv1 = nn.Sequential(
            nn.Conv2d(channels, kernel_channels, 3, padding=1),
            nn.BatchNorm2d(kernel_channels),
            nn.ReLU(inplace=True),
        )
        self.predictor_conv2 = nn.Conv2d(kernel_channels, 1, 1)
        self.pos_embed = nn.Parameter(torch.randn(1, frames, kernel_channels))
        self.updator = nn.ModuleList(
            nn.ModuleList(
                [
                    HybridAttention(kernel_channels),
                    SelfAttention(kernel_channels),  # over the T frames of one clip
                    SelfAttention(kernel_channels),  # over the B clips of the batch
                    FeedForward(kernel_channels),
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
        reduced = self.predictor_conv1(features)  # [BT, C, h, w]
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
            if index == 0:
                kernels = kernels + self.pos_embed
            kernels = updator[1](kernels)  # type: ignore[index]
            across = updator[2](kernels.transpose(0, 1))  # type: ignore[index]  # [T, B, C]
            kernels = across.transpose(0, 1).reshape(-1, 1, channels)
            kernels = updator[3](kernels)  # type: ignore[index]  # [BT, 1, C]
            masks = torch.einsum("nkc,nchw->nkhw", kernels, reduced) + bias
            yield masks
