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


@pytest.fixture(scope="session")
def trained() -> tuple[PKEchoNet, list[Clip], list[Clip]]:
    """A narrow ResNet-18 that has learned its clips by heart, those clips, and four others."""
    torch.manual_seed(0)
    clips, others = _clips(CALIBRATION_SEEDS[:4]), _clips(TUNING_SEEDS[:4])
    inner = (((16,), (16,)), ((24,), (24,)), ((32,), (32,)), ((32,), (32,)))
    network = PKEchoNet(NetworkConfig(frames=FRAMES, widths=Widths(16, (16, 24, 32, 32), inner)))
    every = [*clips, *others]
    frames = torch.from_numpy(np.stack([clip.frames for clip in every])).float() / 255
    truth = torch.from_numpy(np.stack([clip.truth[[0, -1], None] for clip in every])).float()
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    network.train()
    for _ in range(60):
        optimiser.zero_grad()
        sum(dice_loss(logits, truth) for logits in network(frames)).backward()
        optimiser.step()
    return network.eval(), clips, others


@pytest.fixture
def bench_of(
    trained: tuple[PKEchoNet, list[Clip], list[Clip]], tmp_path: Path
) -> Callable[[PKEchoNet], Workbench]:
    """A network's workbench."""
    _, clips, others = trained

    def make(network: PKEchoNet) -> Workbench:
        graph = tmp_path / "clip.onnx"
        export_clip_onnx(network, SIZE, graph, clips[0].frames)
        return Workbench(graph, clips, others, "cpu", CompileOptions(threads=1), tmp_path)

    return make
