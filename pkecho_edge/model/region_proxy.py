"""Multi-scale region proxies (MRP): affinities between neighbouring encoder scales.

Paper, section "Multi-scale Region Proxy" and equation 5: every fine pixel is a weighted sum of the
3x3 neighbourhood of the coarse pixel above it; the weights are estimated from the coarse features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["NEIGHBOURS", "AffinityEstimator", "upsample_with_affinity"]

NEIGHBOURS = 9
"""The 3x3 neighbourhood, row by row; index 4 is the pixel itself."""


class AffinityEstimator(nn.Module):
    """Affinities of every sub-pixel to the nine coarse neighbours.

    Args:
        channels: of the encoder stage that it looks at.
        factor: how many fine pixels one coarse pixel spans in each direction.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.estimator = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, NEIGHBOURS * factor**2, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """[N, C, H, W] -> affinities [N, 9, factor^2, H, W] that sum to one over the nine."""
        n, _, height, width = features.shape
        raw = self.estimator(features)  # [N, 9 * factor^2, H, W], ordered (neighbour, sub-pixel)
        raw = raw.view(n, NEIGHBOURS, self.factor**2, height, width)
        outside = _outside_image(height, width, features.device)  # [9, 1, H, W]
        return torch.softmax(raw.masked_fill(outside, float("-inf")), dim=1)


def _outside_image(height: int, width: int, device: torch.device) -> Tensor:
    """bool [9, 1, H, W]: which neighbour of which pixel lies outside the image."""
    inside = torch.ones(1, 1, height, width, device=device)
    neighbours = F.unfold(inside, 3, padding=1).view(NEIGHBOURS, 1, height, width)
    return neighbours == 0


def upsample_with_affinity(masks: Tensor, affinity: Tensor) -> Tensor:
    """Equation 5: masks [N, K, H, W], affinity [N, 9, r^2, H, W] -> [N, K, rH, rW]."""
    n, classes, height, width = masks.shape
    factor = int(affinity.shape[2] ** 0.5)
    neighbours = F.unfold(masks, 3, padding=1).view(n, classes, NEIGHBOURS, height, width)
    fine = torch.einsum("nkjhw,njphw->nkphw", neighbours, affinity)  # [N, K, r^2, H, W]
    return F.pixel_shuffle(fine.reshape(n, classes * factor**2, height, width), factor)
