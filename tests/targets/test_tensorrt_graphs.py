"""TensorRT's graphs compute what the lowered ones do, in the operators and types asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pkecho_edge.calibration.quantize import quantize_onnx
from pkecho_edge.data.sources import phantoms
from pkecho_edge.data.standard import CALIBRATION_SEEDS, TUNING_SEEDS
from pkecho_edge.lowering.onnx_export import export_clip_onnx
from pkecho_edge.model.checkpoint import default_checkpoint_path, load_checkpoint
from pkecho_edge.targets.tensorrt_graphs import (
    STRONG_OPSET,
    WEIGHTS,
    float32_nodes,
    strong_graph,
    weak_graph,
    write_graphs,
)
from tests.targets.conftest import Lowered


def run(path: Path, lowered: Lowered) -> NDArray[np.float32]:
    """Logits of the clips, node by node; f32 [clips, T, 1, H, W]."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, {"frames": clip.frames})[0] for clip in lowered.clips])


@pytest.fixture(scope="module")
def written(lowered: Lowered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    floats, quantized = (onnx.load(side["clip"]) for side in (lowered.floats, lowered.quantized))
    models = {
        "clip.int8": weak_graph(quantized, floats),
        "clip.int8-typed": strong_graph(quantized),
        "clip.fp32": weak_graph(floats),
        "clip.fp16": strong_graph(floats),
    }
    write_graphs(models, folder)
    return folder


def test_fp32_is_the_lowered_graph(written: Path, lowered: Lowered) -> None:
    expected = run(lowered.floats["clip"], lowered)

    found = run(written / "clip.fp32.onnx", lowered)

    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_int8_is_the_quantized_graph(written: Path, lowered: Lowered) -> None:
    """The weights in front of quantizers are others; what comes out of these is not."""
    expected = run(lowered.quantized["clip"], lowered)

    found = run(written / "clip.int8.onnx", lowered)

    # sums in another order tip a rounding here and there
    assert np.mean((found > 0) != (expected > 0)) < 3e-4
    assert np.abs(found - expected).mean() < 0.01 * np.abs(expected).max()


def test_fp16_is_close_to_fp32(written: Path, lowered: Lowered) -> None:
    expected = run(lowered.floats["clip"], lowered)

    found = run(written / "clip.fp16.onnx", lowered)

    assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()
    assert np.mean((found > 0) != (expected > 0)) < 1e-4


def test_typed_int8_costs_no_more_than_int8(written: Path, lowered: Lowered) -> None:
    expected = run(lowered.floats["clip"], lowered) > 0
    differ = {
        name: np.mean((run(written / f"clip.{name}.onnx", lowered) > 0) != expected)
        for name in ("int8", "int8-typed")
    }

    assert 0 < differ["int8"] < 2e-3
    assert differ["int8-typed"] < 1.3 * differ["int8"] + 1e-4


@pytest.mark.slow
def test_what_each_graph_costs(tmp_path: Path) -> None:
    """Prints the figures of decision 11: pixels that differ from the lowered graph, at 128x128."""
    clips = list(phantoms(CALIBRATION_SEEDS[:8], (128, 128)))
    trial = list(phantoms(TUNING_SEEDS[:16], (128, 128)))
    network = load_checkpoint(default_checkpoint_path())
    source, quantized = tmp_path / "clip.onnx", tmp_path / "clip.qdq.onnx"
    export_clip_onnx(network, (128, 128), source, clips[0].frames)
    quantize_onnx(source, clips, quantized, "tensorrt")
    floats, model = onnx.load(source), onnx.load(quantized)
    models = {"int8": weak_graph(model, floats), "int8-typed": strong_graph(model)}
    models |= {"fp32": weak_graph(floats), "fp16": strong_graph(floats)}
    write_graphs(models, tmp_path)
    level = onnxruntime.GraphOptimizationLevel
    differ = {}
    for name in models:
        for kind, optimized in (("as written", False), ("optimized", True)):
            settings = onnxruntime.SessionOptions()
            settings.log_severity_level = 3  # errors only
            settings.graph_optimization_level = (
                level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
            )
            masks = []
            for path in (source, tmp_path / f"{name}.onnx"):
                session = onnxruntime.InferenceSession(path, settings)
                found = [session.run(None, {"frames": clip.frames})[0] > 0 for clip in trial]
                masks.append(np.stack(found))
            differ[name, kind] = 100 * float(np.mean(masks[0] != masks[1]))
            print(f"{name}, {kind}: {differ[name, kind]:.4f} % of pixels differ from FP32")
    assert differ["fp32", "as written"] == 0
    assert differ["fp16", "as written"] < 0.01
    assert differ["int8-typed", "as written"] < 1.3 * differ["int8", "as written"]


def test_weak_graphs_have_what_tensorrt_8_5_has(written: Path) -> None:
    for name in ("clip.int8", "clip.fp32"):
        model = onnx.load(written / f"{name}.onnx")
        operators = {node.op_type for node in model.graph.node}

        assert model.opset_import[0].version == 17
        assert not operators & {"LayerNormalization", "Constant"}
        types = {tensor.data_type for tensor in model.graph.initializer}
        assert TensorProto.FLOAT16 not in types


def test_strong_graphs_compute_convolutions_in_half_and_the_head_in_single(written: Path) -> None:
    for name in ("clip.int8-typed", "clip.fp16"):
        model = onnx.load(written / f"{name}.onnx")
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
        of = {node.name: types.get(node.output[0]) for node in model.graph.node}

        assert of["/encoder/stages.0/stages.0.0/convolutions.0/Conv"] == TensorProto.FLOAT16
        assert of["/upsamplers.0/neighbours.0/scores/Conv"] == TensorProto.FLOAT16
        heads = {kind for node, kind in of.items() if node.startswith("/head/") and kind}
        assert TensorProto.FLOAT16 not in heads
        assert of["/upsamplers.0/neighbours.0/Exp"] == TensorProto.FLOAT
        assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_typed_weights_are_integers(written: Path) -> None:
    model = onnx.load(written / "clip.int8-typed.onnx")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = [
        constants[node.input[0]].data_type
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    ]

    assert model.opset_import[0].version == STRONG_OPSET
    assert len(stored) > 20
    assert set(stored) == {TensorProto.INT8}


def test_all_graphs_keep_their_weights_in_one_file(written: Path, lowered: Lowered) -> None:
    graphs = sorted(written.glob("*.onnx"))
    weights = (written / WEIGHTS).stat().st_size

    assert {path.name for path in written.iterdir()} == {WEIGHTS, *(g.name for g in graphs)}
    assert all(path.stat().st_size < 400_000 for path in graphs)
    # FP32 once, FP16, INT8; the INT8 graph takes FP32's weights where they quantize alike
    one = lowered.floats["clip"].stat().st_size
    assert weights < 2.8 * one


def test_equal_graphs_give_equal_bytes(lowered: Lowered, tmp_path: Path) -> None:
    made = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_graphs({"g": strong_graph(onnx.load(lowered.quantized["stream"]))}, tmp_path / name)
        made.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])

    assert made[0] == made[1]


def test_the_nodes_to_keep_in_fp32_are_named(lowered: Lowered) -> None:
    model = weak_graph(onnx.load(lowered.floats["stream"]))

    named = float32_nodes(model)

    assert "/upsamplers.0/neighbours.0/Exp" in named
    assert "/head/rounds.0.0/feature_norm/LayerNormalization/mean" in named
    assert not any(name.startswith("/encoder/stages") for name in named)
    assert "/upsamplers.0/depthwise/Conv" not in named


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_layer_norm_in_parts_is_layer_norm(tmp_path: Path, epsilon: float) -> None:
    rng = np.random.default_rng(0)
    scale, bias = (rng.normal(size=8).astype(np.float32) for _ in range(2))
    node = helper.make_node("LayerNormalization", ["x", "s", "b"], ["y"], "norm", epsilon=epsilon)
    shape = [3, 5, 8]
    model = helper.make_model(
        helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(bias, "b")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(weak_graph(model), tmp_path / "norm.onnx")
    x = rng.normal(2, 3, shape).astype(np.float32)

    session = onnxruntime.InferenceSession(tmp_path / "norm.onnx")
    (found,) = session.run(None, {"x": x})

    centred = x - x.mean(-1, keepdims=True)
    expected = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + epsilon)
    np.testing.assert_allclose(found, expected * scale + bias, atol=1e-5)
