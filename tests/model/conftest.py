"""Networks that are small enough to build often."""

from __future__ import annotations

import pytest
import torch

from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet

PRUNED = NetworkConfig(
    frames=3,
    widths=Widths(
        stem=8,
        outputs=(8, 16, 24, 32),
        inner=(((5,), (7,)), ((9,), (11,)), ((13,), (15,)), ((17,), (19,))),
    ),
)


@pytest.fixture
def network() -> PKEchoNet:
    """A pruned ResNet-18 with three frames, random weights, in eval mode."""
    torch.manual_seed(0)
    return PKEchoNet(PRUNED).eval()


@pytest.fixture
def clips() -> torch.Tensor:
    """Two different clips: f32 [2, 3, 1, 64, 96]."""
    return torch.rand(2, 3, 1, 64, 96, generator=torch.Generator().manual_seed(1))
