"""Exported programs against the network, in FP32 and with convolutions in FP16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pkecho_edge.errors import PkechoEdgeError, UsageError
from pkecho_edge.lowering import program_export
from pkecho_edge.lowering.clip_graph import ClipGraph
from pkecho_edge.lowering.half import halve
from pkecho_edge.lowering.parity import HALF_PARITY_LIMIT, PARITY_LIMIT
from pkecho_edge.lowering.program_export import export_clip_program, export_stream_program
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.targets.program import read_program

SIZE = (96, 128)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_a_written_clip_program_computes_what_the_network_does(
    small: PKEchoNet, clip: torch.Tensor, tmp_path: Path, precision: str
) -> None:
    limit = {"f32": PARITY_LIMIT, "f16": HALF_PARITY_LIMIT}[precision]
    path = tmp_path / "clip.pt2"

    report = export_clip_program(small, SIZE, path, clip.numpy(), precision)
    program = read_program(path)

    assert (report.path, report.precision, program.precision) == (path, precision, precision)
    assert report.nodes > 100
    other = clip.flip(0)  # not the probe
    with torch.inference_mode():
        expected = small(other[None].float() / 255)[-1][0]
    with torch.no_grad():
        logits = program.exported.module()(other)
    assert logits.dtype == torch.float32
    assert relative(logits, expected) < limit
    assert report.parity < limit


def test_a_written_stream_program_has_the_streams_interface(
    small: PKEchoNet, clip: torch.Tensor, tmp_path: Path
) -> None:
    export_stream_program(small, SIZE, tmp_path / "stream.pt2", clip.numpy(), "f16")
    program = read_program(tmp_path / "stream.pt2")

    history = (3, 32, 3, 4)
    assert [(s.name, s.dtype, s.shape) for s in program.inputs] == [
        ("frame", "u8", (1, 1, *SIZE)),
        ("history", "f32", history),
    ]
    assert [(s.name, s.dtype, s.shape) for s in program.outputs] == [
        ("logits", "f32", (1, 1, *SIZE)),
        ("history_out", "f32", history),
    ]


def test_fp16_is_for_convolutions_of_encoder_and_upsamplers_alone(small: PKEchoNet) -> None:
    graph = halve(ClipGraph(small, SIZE))

    half = {name for name, weight in graph.named_parameters() if weight.dtype == torch.float16}

    assert {name.partition(".")[0] for name in half} == {"encoder", "upsamplers"}
    assert all(w.dtype == torch.float32 for n, w in graph.named_parameters() if n not in half)
    assert all(buffer.dtype == torch.float32 for buffer in graph.buffers())


@pytest.mark.parametrize("proxies", ["none", "vanilla"])
def test_every_kind_of_upsampler_is_halved(
    conditioned: Callable[[NetworkConfig], PKEchoNet], clip: torch.Tensor, proxies: str
) -> None:
    network = conditioned(NetworkConfig(frames=4, region_proxies=proxies))
    with torch.inference_mode():
        expected = network(clip[None].float() / 255)[-1][0]
        logits = halve(ClipGraph(network, SIZE))(clip)

    assert relative(logits, expected) < HALF_PARITY_LIMIT


class Off(ClipGraph):
    """A lowering with a mistake."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return super().forward(frames) * 1.1


def test_a_program_that_differs_is_not_written(
    small: PKEchoNet, clip: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_export, "ClipGraph", Off)

    with pytest.raises(PkechoEdgeError, match="differs from the network by") as caught:
        export_clip_program(small, SIZE, tmp_path / "clip.pt2", clip.numpy(), "f16")
    assert "--float-precision f32" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_precision_is_refused_before_any_work(
    small: PKEchoNet, clip: torch.Tensor, tmp_path: Path
) -> None:
    for export in (export_clip_program, export_stream_program):
        with pytest.raises(UsageError, match="cannot be written in int8"):
            export(small, SIZE, tmp_path / "program.pt2", clip.numpy(), "int8")
