"""One small trained network, and workbenches of it and of harder ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pkecho_edge.data.clip import Clip, ed_es_clip
from pkecho_edge.data.standard import CALIBRATION_SEEDS, TUNING_SEEDS, clip_recordings
from pkecho_edge.lowering.onnx_export import export_clip_onnx
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.targets.base import CompileOptions
from pkecho_edge.training.losses import dice_loss
from pkecho_edge.tuning.workbench import Workbench

SIZE, FRAMES = (96, 96), 4


def _clips(seeds: range) -> list[Clip]:
    return [ed_es_clip(r, SIZE, FRAMES) for r in clip_recordings(seeds, SIZE, FRAMES)]


def _network() -> PKEchoNet:
    torch.manual_seed(0)
    inner = (((16,), (16,)), ((24,), (24,)), ((32,), (32,)), ((32,), (32,)))
    return PKEchoNet(NetworkConfig(frames=FRAMES, widths=Widths(16, (16, 24, 32, 32), inner)))


def _learn(network: PKEchoNet, clips: list[Clip], steps: int) -> PKEchoNet:
    """Learn the clips by heart."""
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips])).float() / 255
    truth = torch.from_numpy(np.stack([clip.truth[[0, -1], None] for clip in clips])).float()
    learning = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(learning, lr=5e-3)
    network.train()
    for _ in range(steps):
        optimiser.zero_grad()
        sum(dice_loss(logits, truth) for logits in network(frames)).backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="session")
def trained() -> tuple[PKEchoNet, list[Clip], list[Clip]]:
    """A narrow ResNet-18 that has learned its clips by heart, those clips, and four others."""
    clips, others = _clips(CALIBRATION_SEEDS[:4]), _clips(TUNING_SEEDS[:4])
    return _learn(_network(), [*clips, *others], 60), clips, others


@pytest.fixture(scope="session")
def outliers(trained: tuple[PKEchoNet, list[Clip], list[Clip]]) -> PKEchoNet:
    """The same, trained around a first layer with two weights per kernel that stand out.

    They are opposite and beside each other: together they see edges only, so the others matter.
    """
    _, clips, others = trained
    network = _network()
    weight = network.encoder_layer0[0].weight
    with torch.no_grad():
        largest = weight.abs().amax(dim=(1, 2, 3))
        weight[:, 0, 3, 3] = 16 * largest
        weight[:, 0, 3, 4] = -16 * largest
    weight.requires_grad_(False)
    return _learn(network, [*clips, *others], 60)


@pytest.fixture
def bench_of(
    trained: tuple[PKEchoNet, list[Clip], list[Clip]], tmp_path: Path
) -> Callable[[PKEchoNet], Workbench]:
    """A network's workbench."""
    _, clips, others = trained

    def make(network: PKEchoNet) -> Workbench:
        graph = tmp_path / "clip.onnx"
        export_clip_onnx(network, SIZE, graph, clips[0].frames)
        # its sessions open in a tenth of the time that OpenVINO compiles in
        return Workbench(graph, clips, others, "onnxruntime", CompileOptions(threads=1), tmp_path)

    return make
