"""The whole clip graph against the network, in PyTorch and as ONNX in ONNX Runtime."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pkecho_edge.errors import PkechoEdgeError, UsageError
from pkecho_edge.lowering import onnx_export
from pkecho_edge.lowering.clip_graph import ClipGraph
from pkecho_edge.lowering.onnx_export import ExportReport, export_clip_onnx
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet

PARITY = 1e-5
SIZE = (96, 128)


def last(network: PKEchoNet, clip: torch.Tensor) -> torch.Tensor:
    """The network's logits [T, 1, H, W] at batch size 1."""
    dtype = next(network.parameters()).dtype
    with torch.inference_mode():
        logits: torch.Tensor = network(clip[None].to(dtype) / 255)[-1][0]
    return logits


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference over the largest logit."""
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("refinements", [0, 3])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_the_graph_is_the_network(
    backbone: str,
    refinements: int,
    conditioned: Callable[[NetworkConfig], PKEchoNet],
    clip: torch.Tensor,
) -> None:
    network = conditioned(NetworkConfig(backbone, frames=4, refinements=refinements))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    logits = ClipGraph(network, SIZE)(clip)

    assert logits.shape == (4, 1, *SIZE)
    assert logits.dtype == torch.float32
    assert relative(logits, last(network, clip)) < PARITY
    assert all(torch.equal(tensor, before[n]) for n, tensor in network.state_dict().items())


def test_the_algebra_is_exact(
    small: PKEchoNet, clip: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the rounding to FP32 nothing is left of the difference."""
    monkeypatch.setattr(ClipGraph, "float", lambda graph: graph)

    logits = ClipGraph(small, SIZE).double()(clip)

    assert relative(logits, last(copy.deepcopy(small).double(), clip)) < 1e-12


@pytest.mark.parametrize("size", [(64, 96), (96, 672), (96, 100), (0, 96), (-96, 96)])
def test_impossible_sizes_are_refused(
    small: PKEchoNet, tmp_path: Path, size: tuple[int, int]
) -> None:
    probe = np.zeros((4, 1, 96, 96), np.uint8)

    with pytest.raises(UsageError, match=f"size {size[0]}x{size[1]} is not possible"):
        export_clip_onnx(small, size, tmp_path / "clip.onnx", probe)

    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def exported(
    small: PKEchoNet, clip: torch.Tensor, tmp_path_factory: pytest.TempPathFactory
) -> ExportReport:
    path = tmp_path_factory.mktemp("export") / "made" / "clip.onnx"
    return export_clip_onnx(small, SIZE, path, clip.numpy())


def test_the_onnx_file_is_static_opset_17(exported: ExportReport) -> None:
    model = onnx.load(exported.path)

    def described(value: onnx.ValueInfoProto) -> tuple[str, int, list[int]]:
        kind = value.type.tensor_type
        assert all(d.HasField("dim_value") for d in kind.shape.dim)
        return value.name, kind.elem_type, [d.dim_value for d in kind.shape.dim]

    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert exported.opset == 17
    assert [described(v) for v in model.graph.input] == [
        ("frames", onnx.TensorProto.UINT8, [4, 1, 96, 128])
    ]
    assert [described(v) for v in model.graph.output] == [
        ("logits", onnx.TensorProto.FLOAT, [4, 1, 96, 128])
    ]
    assert exported.nodes == len(model.graph.node)
    assert [p.name for p in exported.path.parent.iterdir()] == ["clip.onnx"]


def test_no_operator_that_lowering_promised_to_remove(exported: ExportReport) -> None:
    operators = {node.op_type for node in onnx.load(exported.path).graph.node}

    unwanted = {"BatchNormalization", "ScatterND", "ScatterElements", "GatherND", "Einsum", "If"}
    assert not operators & (unwanted | {"Identity", "Loop", "Shape", "Dropout"})
    assert "Conv" in operators


def test_onnx_runtime_agrees_with_the_network(
    exported: ExportReport, small: PKEchoNet, clip: torch.Tensor
) -> None:
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    other = clip.flip(0)  # not the probe

    for frames in (clip, other):
        (logits,) = session.run(None, {"frames": frames.numpy()})
        assert relative(torch.from_numpy(logits), last(small, frames)) < PARITY
    assert exported.parity < PARITY


def test_two_exports_are_the_same_bytes(
    exported: ExportReport, small: PKEchoNet, clip: torch.Tensor, tmp_path: Path
) -> None:
    again = export_clip_onnx(small, SIZE, tmp_path / "again.onnx", clip.numpy())

    assert again.path.read_bytes() == exported.path.read_bytes()


class Off(ClipGraph):
    """A lowering with a mistake."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return super().forward(frames) * 1.001


def test_a_graph_that_differs_is_not_written(
    small: PKEchoNet, clip: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "ClipGraph", Off)

    with pytest.raises(PkechoEdgeError, match="differs from the network by 1"):
        export_clip_onnx(small, SIZE, tmp_path / "clip.onnx", clip.numpy())

    assert list(tmp_path.iterdir()) == []
