"""Losses on the logits of every refinement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["deep_dice_loss", "dice_loss"]

_SMOOTH = 1.0
"""Pixels; keeps the gradient finite where both mask and prediction are empty."""


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - soft Dice with squared denominators, mean over frames (Milletari et al. 2016).

    Args:
        logits: f32 [B, F, 1, H, W].
        truth: f32 of the same shape, 0 or 1.

    Returns:
        scalar; 0 where an empty truth is predicted as empty.
    """
    p, g = logits.float().sigmoid().flatten(2), truth.float().flatten(2)  # [B, F, H * W]
    overlap = (p * g).sum(-1)
    total = (p * p).sum(-1) + (g * g).sum(-1)
    return (1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)).mean()


def deep_dice_loss(predictions: Sequence[Tensor], truth: Tensor) -> Tensor:
    """Sum of the Dice losses of all refinements (equation 6 without its boundary term)."""
    return torch.stack([dice_loss(logits, truth) for logits in predictions]).sum()
