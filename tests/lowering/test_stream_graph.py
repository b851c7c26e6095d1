"""The stream graph against the network and the clip graph, in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.lowering import onnx_export
from pkecho_edge.lowering.clip_graph import ClipGraph
from pkecho_edge.lowering.onnx_export import export_stream_onnx
from pkecho_edge.lowering.stream_graph import StreamGraph
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet

PARITY = 1e-5
SIZE = (96, 128)
VARIANTS = [
    {},
    {"refinements": 0},
    {"temporal_attention": False},
    {"region_proxies": "none"},
    {"region_proxies": "vanilla"},
    {"interaction": "gating"},
    {"backbone": "resnet50"},
]


def pushed(graph: StreamGraph, frames: torch.Tensor) -> list[torch.Tensor]:
    """Logits [1, 1, H, W] after each frame; the history begins with zeros."""
    history = torch.zeros(graph.history_shape)
    results = []
    for frame in frames:
        logits, history = graph(frame[None], history)
        results.append(logits)
    return results


@pytest.mark.parametrize("fields", VARIANTS)
def test_once_the_window_is_full_it_is_the_networks_last_frame(
    fields: dict[str, object],
    conditioned: Callable[[NetworkConfig], PKEchoNet],
    clip: torch.Tensor,
) -> None:
    network = conditioned(NetworkConfig(frames=4, **fields))  # type: ignore[arg-type]
    six = torch.cat([clip.flip(0)[:2], clip])  # two frames, then the clip

    results = pushed(StreamGraph(network, SIZE), six)

    for newest in (4, 5, 6):  # every full window
        window = six[newest - 4 : newest]
        with torch.inference_mode():
            expected = network(window[None].float() / 255)[-1][0, -1:]
        assert results[newest - 1].shape == (1, 1, *SIZE)
        difference = (results[newest - 1] - expected).abs().max() / expected.abs().max()
        assert difference < PARITY


def test_the_history_is_the_reduced_features_oldest_first(
    small: PKEchoNet, clip: torch.Tensor
) -> None:
    graph, clips = StreamGraph(small, SIZE), ClipGraph(small, SIZE)
    before = torch.arange(3.0).view(3, 1, 1, 1).expand(graph.history_shape)

    _, after = graph(clip[:1], before)

    newest = clips.reduction(clips.encoder(clip[:1])[-1])
    assert graph.history_shape == (3, 32, 3, 4)
    assert torch.equal(after[:2], before[1:])
    assert torch.allclose(after[2:], newest)


def test_an_older_frame_matters_until_it_leaves_the_window(
    small: PKEchoNet, clip: torch.Tensor
) -> None:
    graph = StreamGraph(small, SIZE)
    one = torch.cat([clip, clip[:1]])
    other = one.clone()
    other[0] = 255 - other[0]

    results = zip(pushed(graph, one), pushed(graph, other), strict=True)

    assert [torch.equal(a, b) for a, b in results] == [False, False, False, False, True]


def test_the_onnx_file_computes_the_same(
    small: PKEchoNet, clip: torch.Tensor, tmp_path: Path
) -> None:
    report = export_stream_onnx(small, SIZE, tmp_path / "stream.onnx", clip.numpy())

    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    history = np.zeros((3, 32, 3, 4), dtype=np.float32)
    for frame in clip.numpy():
        logits, history = session.run(None, {"frame": frame[None], "history": history})
    with torch.inference_mode():
        expected = small(clip[None].float() / 255)[-1][0, -1:].numpy()
    assert report.parity < PARITY
    assert np.abs(logits - expected).max() < PARITY * np.abs(expected).max()
    assert [(port.name, port.type) for port in session.get_inputs()] == [
        ("frame", "tensor(uint8)"),
        ("history", "tensor(float)"),
    ]
    assert [port.name for port in session.get_outputs()] == ["logits", "history_out"]


def test_no_frame_is_encoded_twice(small: PKEchoNet, clip: torch.Tensor) -> None:
    graph = copy.deepcopy(StreamGraph(small, SIZE))
    seen: list[int] = []
    graph.encoder.register_forward_hook(lambda _, inputs, out: seen.append(len(inputs[0])))

    pushed(graph, clip)

    assert seen == [1, 1, 1, 1]


def test_a_graph_that_strays_is_not_written(
    small: PKEchoNet, clip: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strays(StreamGraph):
        def forward(self, frame: torch.Tensor, history: torch.Tensor) -> tuple:  # type: ignore[type-arg]
            logits, after = super().forward(frame, history)
            return logits + 0.01 * logits.abs().max(), after

    monkeypatch.setattr(onnx_export, "StreamGraph", Strays)

    with pytest.raises(PkechoEdgeError, match="differs from the network by"):
        export_stream_onnx(small, SIZE, tmp_path / "stream.onnx", clip.numpy())

    assert list(tmp_path.iterdir()) == []
