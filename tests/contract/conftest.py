"""One lowered graph, the same for every target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pkecho_edge.lowering.onnx_export import export_clip_onnx
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet


@pytest.fixture(scope="session")
def frames() -> NDArray[np.uint8]:
    """u8 [4, 1, 96, 128], noise."""
    return np.random.default_rng(0).integers(0, 256, (4, 1, 96, 128), dtype=np.uint8)


@pytest.fixture(scope="session")
def graph(frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FP32 clip graph of a narrow ResNet-18."""
    torch.manual_seed(0)
    inner = (((16,), (16,)), ((24,), (24,)), ((32,), (32,)), ((32,), (32,)))
    network = PKEchoNet(NetworkConfig(frames=4, widths=Widths(16, (16, 24, 32, 32), inner)))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(frames)[None].float() / 255)
    path = tmp_path_factory.mktemp("graph") / "clip.onnx"
    export_clip_onnx(network.eval(), (96, 128), path, frames)
    return path
