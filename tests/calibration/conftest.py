"""Three phantom clips and one network, quantized by every scheme, made once for all tests."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from pkecho_edge.calibration.activations import ClipActivations, merge_activations, observe
from pkecho_edge.calibration.quantize import QuantizationReport, quantize_graph, quantize_onnx
from pkecho_edge.calibration.rule import DEFAULT_RULE
from pkecho_edge.calibration.scheme import load_scheme, scheme_names
from pkecho_edge.calibration.transfer import transfer_quantization
from pkecho_edge.data.clip import Clip, ed_es_clip
from pkecho_edge.data.standard import CALIBRATION_SEEDS, clip_recordings
from pkecho_edge.lowering.onnx_export import export_clip_onnx, export_stream_onnx
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.training.losses import dice_loss

SIZE = (96, 96)
FRAMES = 4


@dataclass(frozen=True)
class Quantized:
    """A lowered graph, what became of it, what was printed on the way, and the stream graph."""

    graph: Path
    report: QuantizationReport
    printed: str
    stream: Path


@pytest.fixture(scope="session")
def phantoms() -> list[Clip]:
    """Three clips of 4 frames at 96x96."""
    recordings = clip_recordings(CALIBRATION_SEEDS[:3], SIZE, FRAMES)
    return [ed_es_clip(recording, SIZE, FRAMES) for recording in recordings]


def _fit(network: PKEchoNet, clips: list[Clip], steps: int) -> None:
    """Learn the clips by heart."""
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips])).float() / 255
    truth = torch.from_numpy(np.stack([clip.truth[[0, -1], None] for clip in clips])).float()
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    network.train()
    for _ in range(steps):
        optimiser.zero_grad()
        sum(dice_loss(logits, truth) for logits in network(frames)).backward()
        optimiser.step()


@pytest.fixture(scope="session")
def quantized(phantoms: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    """A narrow ResNet-18 that has learned the three phantoms: its logits are far from zero."""
    torch.manual_seed(0)
    inner = (((16,), (16,)), ((24,), (24,)), ((32,), (32,)), ((32,), (32,)))
    network = PKEchoNet(NetworkConfig(frames=FRAMES, widths=Widths(16, (16, 24, 32, 32), inner)))
    _fit(network, phantoms, steps=40)
    folder = tmp_path_factory.mktemp("quantized")
    export_clip_onnx(network.eval(), SIZE, folder / "clip.onnx", phantoms[0].frames)
    export_stream_onnx(network, SIZE, folder / "stream.onnx", phantoms[0].frames)
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        report = quantize_onnx(folder / "clip.onnx", phantoms, folder / "made" / "int8.onnx")
    return Quantized(folder / "clip.onnx", report, stdout.getvalue(), folder / "stream.onnx")


@pytest.fixture(scope="session")
def observed(quantized: Quantized, phantoms: list[Clip]) -> list[ClipActivations]:
    """What the tensors of the clip graph held, clip by clip."""
    return list(observe(quantized.graph, phantoms))


@pytest.fixture(scope="session")
def statistics(observed: list[ClipActivations]) -> ClipActivations:
    """Of all three clips together."""
    return merge_activations(observed)


@pytest.fixture(scope="session")
def schemed(
    quantized: Quantized, statistics: ClipActivations, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Path]]:
    """Scheme -> "clip" and "stream" -> the Q/DQ graph."""
    found = {}
    for name in scheme_names():
        folder = tmp_path_factory.mktemp(name)
        paths = {"clip": folder / "clip.onnx", "stream": folder / "stream.onnx"}
        scheme = load_scheme(name)
        quantize_graph(quantized.graph, statistics, scheme, DEFAULT_RULE, paths["clip"])
        transfer_quantization(paths["clip"], quantized.stream, paths["stream"])
        found[name] = paths
    return found
