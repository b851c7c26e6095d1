"""Counting multiply-accumulates: graphs small enough to count by hand, and the packaged network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pkecho_edge.bench.engines import bench_clips
from pkecho_edge.bench.macs import count_graph_gmacs
from pkecho_edge.bench.networks import choose_network
from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.lowering.onnx_export import export_clip_onnx, export_stream_onnx


def graph_of(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    constants: dict[str, tuple[int, ...]],
) -> Path:
    """A model whose constants are zeros and whose output is the last node's."""
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in inputs.items()
            ],
            [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
            [
                numpy_helper.from_array(np.zeros(shape, np.float32), name)
                for name, shape in constants.items()
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    onnx.save(model, path)
    return path


def test_convolutions_and_products_by_hand(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "depthwise"], ["c"], group=4, pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["c", "up"], ["d"], strides=[2, 2]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "dense"], ["f"], transB=1),
        helper.make_node("MatMul", ["f", "square"], ["g"]),
    ]
    constants = {
        "w": (4, 3, 3, 3),
        "depthwise": (4, 1, 3, 3),
        "up": (4, 2, 2, 2),
        "dense": (5, 128),
        "square": (5, 7),
    }
    path = graph_of(tmp_path / "g.onnx", nodes, {"x": [1, 3, 8, 8]}, constants)

    expected = (
        4 * 4 * 4 * (3 * 9)  # 4 channels of 4x4 from 3 channels, 3x3
        + 4 * 4 * 4 * 9  # depthwise
        + 4 * 4 * 4 * (2 * 4)  # each value into 2 channels of 2x2
        + 5 * 128
        + 7 * 5
    )
    assert count_graph_gmacs(path) == pytest.approx(expected / 1e9)


def test_a_transposed_left_factor_and_what_is_constant_anyway(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["one", "other"], ["folded"]),  # 2x3 by 3x4, no input's work
        helper.make_node("Gemm", ["x", "folded"], ["y"], transA=1),  # (6x2) by 2x4
    ]
    constants = {"one": (2, 3), "other": (3, 4)}
    path = graph_of(tmp_path / "g.onnx", nodes, {"x": [2, 6]}, constants)

    assert count_graph_gmacs(path) == pytest.approx(6 * 4 * 2 / 1e9)


def test_unknown_shapes_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    path = graph_of(tmp_path / "g.onnx", nodes, {"x": ["any", 3]}, {"w": (3, 2)})

    with pytest.raises(PkechoEdgeError, match="product"):
        count_graph_gmacs(path)


def test_the_packaged_network_costs_what_the_paper_says_in_either_graph(tmp_path: Path) -> None:
    network = choose_network(None, None).network
    frames = bench_clips((96, 96), 10, 1)[0].frames
    export_clip_onnx(network, (96, 96), tmp_path / "clip.onnx", frames)
    export_stream_onnx(network, (96, 96), tmp_path / "stream.onnx", frames)

    clip = count_graph_gmacs(tmp_path / "clip.onnx")
    stream = count_graph_gmacs(tmp_path / "stream.onnx")

    at_paper_size = clip * (320 * 320) / (96 * 96)
    assert at_paper_size == pytest.approx(42.1, rel=0.03)  # its folded kernels cost next to nothing
    assert stream == pytest.approx(clip / 10, rel=0.02)  # once per frame, not ten times
