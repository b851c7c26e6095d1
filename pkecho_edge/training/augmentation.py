"""The paper's augmentations, one draw per clip and the same for all its frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Augmentation", "augment"]


@dataclass(frozen=True)
class Augmentation:
    """Limits of the random changes.

    Attributes:
        flip: probability of a left-right flip.
        reversal: probability of playing the clip backwards, so that the last slot, the one live
            use reads, also learns end-diastole.
        brightness, contrast: largest relative change.
        rotation_degrees: largest rotation either way.
    """

    flip: float = 0.5
    reversal: float = 0.5
    brightness: float = 0.15
    contrast: float = 0.15
    rotation_degrees: float = 20.0


def augment(
    clips: Tensor, truth: Tensor, limits: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Change a batch.

    Args:
        clips: f32 [B, T, 1, H, W] in [0, 1].
        truth: f32 [B, 2, 1, H, W], masks of the first and the last frame.

    Returns:
        both, changed alike; clips stay within [0, 1].
    """
    batch = clips.shape[0]

    def uniform(limit: float) -> Tensor:
        return (torch.rand(batch, generator=generator) * 2 - 1) * limit

    backwards = torch.rand(batch, generator=generator) < limits.reversal
    clips = torch.where(backwards.view(-1, 1, 1, 1, 1), clips.flip(1), clips)
    truth = torch.where(backwards.view(-1, 1, 1, 1, 1), truth.flip(1), truth)
    contrast = (1 + uniform(limits.contrast)).view(-1, 1, 1, 1, 1)
    brightness = (1 + uniform(limits.brightness)).view(-1, 1, 1, 1, 1)
    mean = clips.mean(dim=(1, 2, 3, 4), keepdim=True)
    clips = (((clips - mean) * contrast + mean) * brightness).clamp(0, 1)
    mirror = 1 - 2 * (torch.rand(batch, generator=generator) < limits.flip).float()
    angle = uniform(math.radians(limits.rotation_degrees))
    return _turned(clips, angle, mirror, "bilinear"), _turned(truth, angle, mirror, "nearest")


def _turned(frames: Tensor, angle: Tensor, mirror: Tensor, mode: str) -> Tensor:
    """Rotate and mirror [B, F, 1, H, W] about the centre; the outside is black."""
    height, width = frames.shape[-2:]
    cosine, sine = angle.cos(), angle.sin()
    zero = torch.zeros_like(angle)
    rows = [
        torch.stack([cosine * mirror, -sine * height / width, zero], dim=-1),
        torch.stack([sine * mirror * width / height, cosine, zero], dim=-1),
    ]
    theta = torch.stack(rows, dim=1)  # [B, 2, 3]
    flat = frames.flatten(1, 2)  # [B, F, H, W]
    grid = F.affine_grid(theta, list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, mode=mode, align_corners=False).view_as(frames)
