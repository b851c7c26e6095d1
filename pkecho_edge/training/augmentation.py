"""The paper's augmentations, one draw per clip and the same for all its frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pkecho_edge.errors import UsageError

__all__ = ["Augmentation", "Batch", "Change", "augment", "augmented"]


@dataclass(frozen=True)
class Batch:
    """What one optimiser step sees.

    Attributes:
        clips: u8 or f32 [B, T, 1, H, W]; f32 in [0, 1].
        truth: bool or f32 [B, 2, 1, H, W], masks of the first and the last frame.
        distance: f32 or f16 [B, 2, 1, H, W], their signed distance maps in pixels.
        labelled: bool [B, 2], which of the two are labelled.
    """

    clips: Tensor
    truth: Tensor
    distance: Tensor
    labelled: Tensor


@dataclass(frozen=True)
class Augmentation:
    """Limits of the random changes.

    Attributes:
        flip: probability of a left-right flip.
        reversal: probability of playing the clip backwards, so that the last slot, the one live
            use reads, also learns end-diastole. Not in the paper; 0 switches it off.
        brightness, contrast: largest relative change.
        rotation_degrees: largest rotation either way.

    Raises:
        UsageError: a probability outside 0 to 1, or a limit that makes no sense.
    """

    flip: float = 0.5
    reversal: float = 0.5
    brightness: float = 0.15
    contrast: float = 0.15
    rotation_degrees: float = 20.0

    def __post_init__(self) -> None:
        highest = {"rotation_degrees": 180.0}
        for name, value in vars(self).items():
            top = highest.get(name, 1.0)
            if not 0 <= value <= top:  # false for NaN, too
                raise UsageError(
                    f"augmentation {name} is {value}", remedy=f"Give a number from 0 to {top:g}"
                )


def augment(batch: Batch, limits: Augmentation, generator: torch.Generator) -> Batch:
    """Change a batch; clips stay within [0, 1], truth, distance and labels move with them.

    Args:
        batch: f32 throughout, but for `labelled`.
        limits: of the changes.
        generator: on the CPU; it alone decides.
    """
    clips, change = augmented(batch.clips, limits, generator)
    return Batch(
        clips=clips,
        truth=change.move(batch.truth, "nearest"),
        # beyond the image's edge the distance goes on growing; its value at the edge is close
        distance=change.move(batch.distance, outside="border"),
        labelled=change.order(batch.labelled),
    )


def augmented(
    clips: Tensor, limits: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Change]:
    """Changed clips, and the change itself for whatever belongs to their pixels.

    Args:
        clips: f32 [B, T, 1, H, W] in [0, 1].
        limits: of the changes.
        generator: on the CPU; it alone decides.
    """
    count, device = clips.shape[0], clips.device

    def uniform(limit: float) -> Tensor:
        return ((torch.rand(count, generator=generator) * 2 - 1) * limit).to(device)

    def chance(probability: float) -> Tensor:
        return (torch.rand(count, generator=generator) < probability).to(device)

    backwards = chance(limits.reversal)
    contrast = (1 + uniform(limits.contrast)).view(-1, 1, 1, 1, 1)
    brightness = (1 + uniform(limits.brightness)).view(-1, 1, 1, 1, 1)
    mirror = 1 - 2 * chance(limits.flip).float()
    angle = uniform(math.radians(limits.rotation_degrees))

    mean = clips.mean(dim=(1, 2, 3, 4), keepdim=True)
    brighter = (((clips - mean) * contrast + mean) * brightness).clamp(0, 1)
    change = Change(backwards, angle, mirror)
    return change.move(brighter), change


def _reversed(x: Tensor, backwards: Tensor) -> Tensor:
    """[B, F, ...] with the second axis flipped where `backwards` [B] says so."""
    return torch.where(backwards.view(-1, *[1] * (x.ndim - 1)), x.flip(1), x)


@dataclass(frozen=True)
class Change:
    """What moves pixels: time backwards where `backwards` [B] says so, then a rotation by `angle`
    [B] and mirroring by `mirror` [B] (-1 or 1) about the centre."""

    backwards: Tensor
    angle: Tensor
    mirror: Tensor

    def order(self, x: Tensor) -> Tensor:
        """[B, F, ...], what is known of F frames, in the clips' new order."""
        return _reversed(x, self.backwards)

    def move(self, frames: Tensor, mode: str = "bilinear", outside: str = "zeros") -> Tensor:
        """[B, F, C, h, w] at any resolution -> the same shape."""
        frames = self.order(frames)
        height, width = frames.shape[-2:]
        cosine, sine = self.angle.cos(), self.angle.sin()
        zero = torch.zeros_like(cosine)
        rows = [
            torch.stack([cosine * self.mirror, -sine * height / width, zero], dim=-1),
            torch.stack([sine * self.mirror * width / height, cosine, zero], dim=-1),
        ]
        theta = torch.stack(rows, dim=1)  # [B, 2, 3]
        flat = frames.flatten(1, 2)  # [B, F C, h, w]
        grid = F.affine_grid(theta, list(flat.shape), align_corners=False)
        turned = F.grid_sample(flat, grid, mode=mode, padding_mode=outside, align_corners=False)
        return turned.view_as(frames)
