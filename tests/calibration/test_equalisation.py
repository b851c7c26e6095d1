"""Channels evened out: exactly the same network, easier to quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pkecho_edge.calibration.activations import ClipActivations, merge_activations, observe
from pkecho_edge.calibration.equalisation import channel_groups, equalise
from pkecho_edge.calibration.graph import GraphView
from pkecho_edge.calibration.quantize import quantize_graph
from pkecho_edge.calibration.rule import RangeRule
from pkecho_edge.calibration.scheme import load_scheme
from pkecho_edge.data.clip import Clip

INNER = "encoder.stages.0.0.convolutions.0"
READER = "encoder.stages.0.0.convolutions.1"


def run(path: Path, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"frames": frames})
    return np.asarray(logits)


def scaled(graph: Path, factor: float, path: Path) -> Path:
    """One channel of the first block's inner activation is larger, its reader's weights smaller."""
    model = onnx.load(graph)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name in (f"{INNER}.weight", f"{INNER}.bias"):
            values[3] *= np.float32(factor)
        elif tensor.name == f"{READER}.weight":
            values[:, 3] /= np.float32(factor)
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    return path


def activations(graph: Path, clips: list[Clip]) -> ClipActivations:
    return merge_activations(list(observe(graph, clips)))


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_not_a_bit_of_the_logits_changes(
    quantized: Any, phantoms: list[Clip], tmp_path: Path, exponent: float
) -> None:
    held = activations(quantized.graph, phantoms)

    report = equalise(quantized.graph, held, exponent, tmp_path / "even.onnx")

    assert report.groups > 10
    before, after = (onnx.load(path).SerializeToString() for path in (quantized.graph, report.path))
    assert before != after
    for clip in phantoms:
        np.testing.assert_array_equal(
            run(report.path, clip.frames), run(quantized.graph, clip.frames)
        )


def test_a_channel_a_thousand_times_larger_is_found_and_repaired(
    quantized: Any, phantoms: list[Clip], tmp_path: Path
) -> None:
    hard = scaled(quantized.graph, 1024, tmp_path / "hard.onnx")
    expected = run(hard, phantoms[0].frames)
    np.testing.assert_array_equal(expected, run(quantized.graph, phantoms[0].frames))

    held = activations(hard, phantoms)
    report = equalise(hard, held, 0.5, tmp_path / "even.onnx")

    assert report.spread > 100
    assert "stages.0.0/" in report.worst
    noise = {}
    for name, graph in (("hard", hard), ("even", report.path)):
        quantize_graph(
            graph,
            activations(graph, phantoms),
            load_scheme("cpu"),
            RangeRule(),
            tmp_path / f"{name}.qdq.onnx",
        )
        logits = run(tmp_path / f"{name}.qdq.onnx", phantoms[0].frames)
        noise[name] = float(np.square(logits - expected).mean())
    assert noise["even"] < noise["hard"] / 10


def test_the_same_network_however_its_channels_are_scaled(
    quantized: Any, phantoms: list[Clip], tmp_path: Path
) -> None:
    """At one half the result does not depend on how the factor was spread before."""
    hard = scaled(quantized.graph, 1024, tmp_path / "hard.onnx")

    for graph, name in ((quantized.graph, "a"), (hard, "b")):
        equalise(graph, activations(graph, phantoms), 0.5, tmp_path / name)

    first, second = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / name).graph.initializer}
        for name in ("a", "b")
    )
    for name in (f"{INNER}.weight", f"{READER}.weight"):
        np.testing.assert_array_equal(first[name], second[name])


def test_what_leaves_the_encoder_keeps_its_scale(quantized: Any) -> None:
    """The head reads the reduction's features, and a stream hands them on as history."""
    groups = channel_groups(GraphView(onnx.load(quantized.graph).graph))

    held = {tensor: group.free for group in groups for tensor in group.tensors}

    assert held["/encoder/stages.0/stages.0.0/Relu_output_0"]
    assert not held["/reduction/convolution/Conv_output_0"]
    assert not held["/upsamplers.0/neighbours.0/scores/Conv_output_0"]


def test_a_residual_stream_is_one_group(quantized: Any) -> None:
    groups = channel_groups(GraphView(onnx.load(quantized.graph).graph))

    (stream,) = (g for g in groups if "/encoder/pool/MaxPool_output_0" in g.tensors)

    makers = {node.name.split("/")[-3] + node.name.split("/")[-2] for node in stream.producers}
    assert makers == {
        "encoderstem",
        "stages.0.0convolutions.1",
        "stages.0.1convolutions.1",
    }
    readers = {node.name for node in stream.consumers}
    assert "/upsamplers.0/depthwise/Conv" in readers
    assert "/encoder/stages.1/stages.1.0/downsample/Conv" in readers


def test_weights_that_two_convolutions_share_are_left_alone(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.ones((2, 2, 1, 1), dtype=np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], "first"),
            helper.make_node("Relu", ["a"], ["b"], "relu"),
            helper.make_node("Conv", ["b", "w"], ["y"], "second"),
        ],
        "shared",
        [value("x", TensorProto.FLOAT, [1, 2, 3, 3])],
        [value("y", TensorProto.FLOAT, [1, 2, 3, 3])],
        [weight],
    )

    (group,) = (g for g in channel_groups(GraphView(graph)) if "b" in g.tensors)

    assert [node.name for node in group.producers] == ["first"]
    assert not group.free
