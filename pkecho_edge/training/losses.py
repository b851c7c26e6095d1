"""Losses on the logits of every refinement (equation 6 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["boundary_loss", "deep_loss", "dice_loss"]

_SMOOTH = 1.0
"""Pixels; keeps the gradient finite where both mask and prediction are empty."""


def dice_loss(logits: Tensor, truth: Tensor, labelled: Tensor | None = None) -> Tensor:
    """1 - soft Dice with squared denominators, mean over frames (Milletari et al. 2016).

    Args:
        logits: f32 [B, F, 1, H, W].
        truth: f32 of the same shape, 0 or 1.
        labelled: bool [B, F], the frames that count; None for all.

    Returns:
        scalar; 0 where an empty truth is predicted as empty, and where no frame is labelled.
    """
    p, g = logits.float().sigmoid().flatten(2), truth.float().flatten(2)  # [B, F, H * W]
    overlap = (p * g).sum(-1)
    total = (p * p).sum(-1) + (g * g).sum(-1)
    return _mean(1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH), labelled)


def boundary_loss(logits: Tensor, distance: Tensor, labelled: Tensor | None = None) -> Tensor:
    """Mean over pixels of probability times signed distance (Kervadec et al. 2021, equation 5).

    Distances count in image sides, the square root of H W: in pixels the loss of one and the same
    mask would grow with the size, from as much as the Dice loss to many times of it.

    Args:
        logits: f32 [B, F, 1, H, W].
        distance: f32 of the same shape, `signed_distance` of the truth in pixels.
        labelled: bool [B, F], the frames that count; None for all.

    Returns:
        scalar in image sides; below 0 for a good mask. 0 for an empty truth, whose distance is 0.
    """
    p = logits.float().sigmoid().flatten(2)  # [B, F, H * W]
    side = math.sqrt(p.shape[-1])
    return _mean((p * distance.float().flatten(2)).mean(-1) / side, labelled)


def deep_loss(
    predictions: Sequence[Tensor],
    truth: Tensor,
    distance: Tensor,
    labelled: Tensor | None = None,
    *,
    boundary_weight: float = 1.0,
) -> Tensor:
    """Sum over all refinements of Dice and boundary loss.

    Args:
        predictions: logits of each refinement, f32 [B, F, 1, H, W].
        truth, distance, labelled: as `dice_loss` and `boundary_loss`.
        boundary_weight: the paper names none, which is 1; 0 leaves the boundary loss out.
    """
    losses = []
    for logits in predictions:
        losses.append(dice_loss(logits, truth, labelled))
        if boundary_weight:
            losses.append(boundary_weight * boundary_loss(logits, distance, labelled))
    return torch.stack(losses).sum()


def _mean(per_frame: Tensor, labelled: Tensor | None) -> Tensor:
    """Mean of [B, F] over the labelled frames."""
    if labelled is None:
        return per_frame.mean()
    weights = labelled.to(per_frame.dtype)
    return (per_frame * weights).sum() / weights.sum().clamp(min=1)
