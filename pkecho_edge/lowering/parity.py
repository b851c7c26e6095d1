"""Whether a lowered graph computes what its network does; asked before a graph is written."""

from __future__ import annotations

import torch
from torch import Tensor

from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.model.network import PKEchoNet

__all__ = ["HALF_PARITY_LIMIT", "PARITY_LIMIT", "checked_parity", "network_logits"]

PARITY_LIMIT = 1e-4
"""Largest accepted |graph - network| over max |logit| on the probe clip. Well-conditioned networks
stay below 1e-5; ten times that leaves room for large logits, far below one INT8 step."""

HALF_PARITY_LIMIT = 2e-2
"""The same with convolutions in FP16. On ten phantom clips at 96x96 and 128x128 the packaged
network stayed below 1.5e-3; what overflows FP16 is off by far more than ten times that, or NaN."""


def network_logits(network: PKEchoNet, clip: Tensor) -> Tensor:
    """The network's last logits of one clip u8 [T, 1, H, W], f32 [T, 1, H, W]."""
    with torch.inference_mode():
        expected: Tensor = network.eval()(clip[None].float() / 255)[-1][0]
    return expected


def checked_parity(
    logits: Tensor,
    expected: Tensor,
    limit: float = PARITY_LIMIT,
    remedy: str = "The affinity scores are out of range; train with a smaller learning rate",
) -> float:
    """max |logits - expected| / max |expected|.

    Raises:
        PkechoEdgeError: it is above `limit`, or not a number.
    """
    difference = (logits - expected).abs().max()
    parity = float(difference / expected.abs().max().clamp(min=1e-12))
    if not parity <= limit:  # also catches NaN
        raise PkechoEdgeError(
            f"the lowered graph differs from the network by {parity:.1e} of the largest logit",
            remedy=remedy,
        )
    return parity
