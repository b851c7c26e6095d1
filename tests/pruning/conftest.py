"""Narrow networks of both kinds of blocks."""

from __future__ import annotations

import pytest
import torch

from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet

FRAMES = 3


def narrow_basic() -> PKEchoNet:
    """ResNet-18 of 16 to 40 channels, random weights and statistics."""
    inner = (((16,), (24,)), ((24,), (16,)), ((32,), (32,)), ((40,), (32,)))
    return _drawn(NetworkConfig(frames=FRAMES, widths=Widths(16, (16, 24, 32, 40), inner)))


def narrow_bottleneck() -> PKEchoNet:
    """ResNet-50 of 16 to 40 channels."""
    inner = tuple(tuple((16, 24) for _ in range(blocks)) for blocks in (3, 4, 6, 3))
    return _drawn(NetworkConfig("resnet50", FRAMES, widths=Widths(16, (24, 24, 32, 40), inner)))


def _drawn(config: NetworkConfig) -> PKEchoNet:
    torch.manual_seed(3)
    network = PKEchoNet(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    for _, estimator in network.stages():
        estimator.estimator[3].weight.data *= 0.01  # scores as in a trained one, not in hundreds
    return network.eval()


@pytest.fixture(params=[narrow_basic, narrow_bottleneck], ids=["basic", "bottleneck"])
def network(request: pytest.FixtureRequest) -> PKEchoNet:
    return request.param()
