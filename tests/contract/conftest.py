"""One lowered graph, the same for every target."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pkecho_edge.calibration.quantize import quantize_onnx
from pkecho_edge.data.clip import Clip, ed_es_clip
from pkecho_edge.data.standard import CALIBRATION_SEEDS, clip_recordings
from pkecho_edge.lowering.onnx_export import export_clip_onnx, export_stream_onnx
from pkecho_edge.lowering.program_export import export_clip_program, export_stream_program
from pkecho_edge.model.checkpoint import default_checkpoint_path, load_checkpoint
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.targets.base import Target


@pytest.fixture(scope="session")
def frames() -> NDArray[np.uint8]:
    """u8 [4, 1, 96, 128], noise."""
    return np.random.default_rng(0).integers(0, 256, (4, 1, 96, 128), dtype=np.uint8)


@pytest.fixture(scope="session")
def network(frames: NDArray[np.uint8]) -> PKEchoNet:
    """A narrow ResNet-18 that has seen the frames."""
    torch.manual_seed(0)
    inner = (((16,), (16,)), ((24,), (24,)), ((32,), (32,)), ((32,), (32,)))
    network = PKEchoNet(NetworkConfig(frames=4, widths=Widths(16, (16, 24, 32, 32), inner)))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(frames)[None].float() / 255)
    return network.eval()


@pytest.fixture(scope="session")
def graph(
    network: PKEchoNet, frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Its FP32 clip graph."""
    path = tmp_path_factory.mktemp("graph") / "clip.onnx"
    export_clip_onnx(network, (96, 128), path, frames)
    return path


@pytest.fixture(scope="session")
def stream_graph(
    network: PKEchoNet, frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Its FP32 stream graph."""
    path = tmp_path_factory.mktemp("graph") / "stream.onnx"
    export_stream_onnx(network, (96, 128), path, frames)
    return path


@pytest.fixture(scope="session")
def program(
    network: PKEchoNet, frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Its FP32 clip graph as an exported program."""
    path = tmp_path_factory.mktemp("program") / "clip.pt2"
    export_clip_program(network, (96, 128), path, frames)
    return path


@pytest.fixture(scope="session")
def stream_program(
    network: PKEchoNet, frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Its FP32 stream graph as an exported program."""
    path = tmp_path_factory.mktemp("program") / "stream.pt2"
    export_stream_program(network, (96, 128), path, frames)
    return path


@pytest.fixture(scope="session")
def phantom() -> Clip:
    """A clip of ten frames at 96x96."""
    (recording,) = clip_recordings(CALIBRATION_SEEDS[:1], (96, 96), 10)
    return ed_es_clip(recording, (96, 96))


@pytest.fixture(scope="session")
def quantized_by(phantom: Clip, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The packaged network in INT8 by a scheme: random weights would amplify every rounding."""
    folder = tmp_path_factory.mktemp("quantized")
    network = load_checkpoint(default_checkpoint_path())
    export_clip_onnx(network, (96, 96), folder / "clip.onnx", phantom.frames)

    @functools.cache
    def quantize(scheme: str) -> Path:
        path = folder / f"{scheme}.qdq.onnx"
        quantize_onnx(folder / "clip.onnx", [phantom], path, scheme)
        return path

    return quantize


@pytest.fixture
def quantized(target: Target, quantized_by: Callable[[str], Path]) -> Path:
    """By the target's own scheme: another's weights may overflow its sums on some processors."""
    return quantized_by(target.capabilities.scheme or "cpu")
