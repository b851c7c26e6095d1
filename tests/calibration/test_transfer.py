"""The clip graph's INT8 ranges in the stream graph: the same frame gives the same mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from pkecho_edge.calibration.transfer import transfer_quantization
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import PkechoEdgeError

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def streamed(path: Path, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits [1, 1, H, W] of the last frame, all pushed one by one."""
    stream = session(path)
    shape = stream.get_inputs()[1].shape
    history = np.zeros(shape, dtype=np.float32)
    for frame in frames:
        logits, history = stream.run(None, {"frame": frame[None], "history": history})
    return np.asarray(logits)


@pytest.fixture(scope="module")
def stream(quantized: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transfer") / "stream.qdq.onnx"
    transfer_quantization(quantized.report.path, quantized.stream, path)
    return path


def test_the_stream_gives_the_clips_last_frame(
    quantized: Any, stream: Path, phantoms: list[Clip]
) -> None:
    clips = session(quantized.report.path)

    for clip in phantoms:
        (expected,) = clips.run(None, {"frames": clip.frames})
        logits = streamed(stream, clip.frames)
        # the integer layers are the same to the bit; the float head may sum in another order
        assert ((logits > 0) != (expected[-1:] > 0)).mean() <= 2e-4
        assert np.abs(logits - expected[-1:]).max() < 0.01 * np.abs(expected).max()


def test_every_quantizer_is_taken_over_with_its_constants(quantized: Any, stream: Path) -> None:
    theirs, ours = onnx.load(quantized.report.path), onnx.load(stream)
    constants = {tensor.name: tensor for tensor in theirs.graph.initializer}

    for model in (theirs, ours):
        found = sorted(n.name for n in model.graph.node if n.op_type in QUANTIZERS)
        assert found == sorted(n.name for n in theirs.graph.node if n.op_type in QUANTIZERS)
    for node in ours.graph.node:
        if node.op_type in QUANTIZERS:
            for name in node.input[1:]:
                mine = next(t for t in ours.graph.initializer if t.name == name)
                assert mine == constants[name]


def test_no_float_weight_of_an_integer_layer_is_left(quantized: Any, stream: Path) -> None:
    model = onnx.load(stream)
    read = {name for node in model.graph.node for name in node.input}

    assert {tensor.name for tensor in model.graph.initializer} <= read
    assert "encoder.stages.3.1.convolutions.1.weight" not in read
    theirs = onnx.load(quantized.report.path)
    assert weights_size(model) == pytest.approx(weights_size(theirs), rel=0.05)


def weights_size(model: onnx.ModelProto) -> int:
    return sum(tensor.ByteSize() for tensor in model.graph.initializer)


def test_onto_the_graph_it_came_from_it_gives_the_same_bits(
    quantized: Any, phantoms: list[Clip], tmp_path: Path
) -> None:
    """Also the biases, which quantization corrects."""
    transfer_quantization(quantized.report.path, quantized.graph, tmp_path / "again.onnx")

    feeds = {"frames": phantoms[0].frames}
    (expected,) = session(quantized.report.path).run(None, feeds)
    (logits,) = session(tmp_path / "again.onnx").run(None, feeds)
    np.testing.assert_array_equal(logits, expected)


def test_two_transfers_give_the_same_bytes(quantized: Any, stream: Path, tmp_path: Path) -> None:
    transfer_quantization(quantized.report.path, quantized.stream, tmp_path / "again.onnx")

    assert (tmp_path / "again.onnx").read_bytes() == stream.read_bytes()


def test_a_graph_without_the_quantized_nodes_is_refused(quantized: Any, tmp_path: Path) -> None:
    model = onnx.load(quantized.stream)
    for node in model.graph.node:
        if node.name == "/encoder/stem/Conv":
            node.name = "renamed"
    onnx.save(model, tmp_path / "other.onnx")

    with pytest.raises(PkechoEdgeError, match="/encoder/stem/Conv is quantized"):
        transfer_quantization(quantized.report.path, tmp_path / "other.onnx", tmp_path / "out.onnx")

    assert not (tmp_path / "out.onnx").exists()
