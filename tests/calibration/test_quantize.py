"""Q/DQ ONNX: what is INT8, and that the masks survive it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from pkecho_edge.calibration.quantize import quantize_onnx
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import PkechoEdgeError

ENCODER_CONVOLUTIONS = 20  # 1 + 4 stages of 4 + 3 shortcuts
ESTIMATOR_CONVOLUTIONS = 8  # depthwise and scores, four times


def run(path: Path, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"frames": frames})
    return np.asarray(logits)


def integer_convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Those whose activations and weights both come out of a DequantizeLinear or a pool of it."""
    made_by = {name: node for node in model.graph.node for name in node.output}

    def integer(name: str) -> bool:
        maker = made_by.get(name)
        if maker is not None and maker.op_type == "MaxPool":
            return integer(maker.input[0])
        return maker is not None and maker.op_type == "DequantizeLinear"

    return [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and all(map(integer, node.input[:2]))
    ]


def test_the_convolutions_of_encoder_and_estimators_are_integer(quantized: Any) -> None:
    report = quantized.report
    model = onnx.load(report.path)

    integer = integer_convolutions(model)

    assert report.quantized == len(integer)
    assert len(integer) >= ENCODER_CONVOLUTIONS + ESTIMATOR_CONVOLUTIONS
    total = sum(node.op_type == "Conv" for node in model.graph.node)
    assert report.quantized + report.left_in_float == total
    assert [p.name for p in report.path.parent.iterdir()] == ["int8.onnx"]


def test_the_head_and_the_affinity_arithmetic_stay_in_float(quantized: Any) -> None:
    integer = integer_convolutions(onnx.load(quantized.report.path))

    names = [node.name.lstrip("/") for node in integer]

    assert not [n for n in names if n.startswith("head")]
    upsamplers = {n.split("/")[-2] for n in names if n.startswith("upsamplers")}
    assert upsamplers == {"depthwise", "scores"}


def test_weights_are_signed_and_per_channel(quantized: Any) -> None:
    model = onnx.load(quantized.report.path)
    values = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}

    for node in integer_convolutions(model):
        weight = makers[node.input[1]]
        stored = values.get(weight.input[0])
        zero = values[weight.input[2]] if len(weight.input) > 2 else np.int8(0)
        assert np.asarray(zero).dtype == np.int8
        assert not np.any(zero)
        if stored is not None:
            assert values[weight.input[1]].size == stored.shape[0]


def test_the_interface_stays_as_it_was(quantized: Any) -> None:
    before, after = onnx.load(quantized.graph), onnx.load(quantized.report.path)

    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert {o.version for o in after.opset_import if not o.domain} == {17}
    onnx.checker.check_model(after, full_check=True)


def test_masks_agree_with_fp32(quantized: Any, phantoms: list[Clip]) -> None:
    for clip in phantoms:
        fp32, int8 = run(quantized.graph, clip.frames), run(quantized.report.path, clip.frames)

        assert int8.shape == fp32.shape
        assert not np.array_equal(int8, fp32)
        assert 0.05 < (fp32 > 0).mean() < 0.95, "one class only proves nothing"
        assert ((fp32 > 0) != (int8 > 0)).mean() < 0.02


def test_nothing_is_printed(quantized: Any) -> None:
    assert quantized.printed == ""


def test_a_graph_without_convolutions_is_refused(tmp_path: Path, phantoms: list[Clip]) -> None:
    helper, kinds = onnx.helper, onnx.TensorProto
    shape = list(phantoms[0].frames.shape)
    graph = helper.make_graph(
        [helper.make_node("Cast", ["frames"], ["logits"], name="cast", to=kinds.FLOAT)],
        "none",
        [helper.make_tensor_value_info("frames", kinds.UINT8, shape)],
        [helper.make_tensor_value_info("logits", kinds.FLOAT, shape)],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "none.onnx")

    with pytest.raises(PkechoEdgeError, match="no convolution was quantized"):
        quantize_onnx(tmp_path / "none.onnx", phantoms, tmp_path / "int8.onnx")

    assert not (tmp_path / "int8.onnx").exists()
