"""What a TensorRT parser would not read is found, by node and rule, in graphs broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.targets.tensorrt_graphs import strong_graph, weak_graph
from pkecho_edge.targets.tensorrt_lint import (
    RULES,
    lint_for_tensorrt,
    release_of,
    releases,
    require_tensorrt,
)
from tests.targets.conftest import Lowered

V8_5, V8_6, V10 = releases()


def of_type(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def set_constant(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, numpy_helper.from_array(values, name)])


def test_releases_read_what_earlier_ones_do() -> None:
    assert [release.version for release in releases()] == [(8, 5), (8, 6), (10, 0)]
    assert V8_5.operators < V8_6.operators < V10.operators
    assert release_of((8, 5, 2)) == V8_5
    assert release_of((8, 6, 2)) == V8_6
    assert release_of((9, 3)) == V8_6
    assert release_of((10, 16, 2)) == release_of((11, 4, 1)) == V10


@pytest.mark.parametrize("mode", ["clip", "stream"])
def test_our_graphs_are_read(lowered: Lowered, mode: str) -> None:
    floats, quantized = (onnx.load(x[mode]) for x in (lowered.floats, lowered.quantized))

    for release in releases():
        assert lint_for_tensorrt(weak_graph(quantized, floats), release) == ()
        assert lint_for_tensorrt(weak_graph(floats), release) == ()
    assert lint_for_tensorrt(strong_graph(quantized), V10) == ()
    assert lint_for_tensorrt(strong_graph(floats), V10) == ()


def test_the_lowered_graph_itself_is_not_read_by_8_5(lowered: Lowered) -> None:
    found = lint_for_tensorrt(onnx.load(lowered.quantized["clip"]), V8_5)

    assert {finding.rule for finding in found} >= {"operator", "constant"}
    assert "/head/rounds.0.0/feature_norm/LayerNormalization" in {f.node for f in found}


def test_a_typed_graph_is_not_read_by_8_6(lowered: Lowered) -> None:
    found = lint_for_tensorrt(strong_graph(onnx.load(lowered.quantized["clip"])), V8_6)

    assert {finding.rule for finding in found} == {"opset", "weight"}


def _two_inputs(model: onnx.ModelProto) -> str:
    node = of_type(model, "QuantizeLinear")
    del node.input[2]
    return node.name


def _zero_point(model: onnx.ModelProto) -> str:
    node = of_type(model, "QuantizeLinear")
    set_constant(model, node.input[2], np.asarray(3, np.int8))
    return node.name


def _negative_scale(model: onnx.ModelProto) -> str:
    node = of_type(model, "QuantizeLinear")
    set_constant(model, node.input[1], np.asarray(-1, np.float32))
    return node.name


def _two_scales(model: onnx.ModelProto) -> str:
    node = of_type(model, "QuantizeLinear")
    set_constant(model, node.input[1], np.ones(64, np.float32))
    set_constant(model, node.input[2], np.zeros(64, np.int8))
    return node.name


def _no_axis(model: onnx.ModelProto) -> str:
    node = next(n for n in model.graph.node if n.name.endswith("Conv/weight/quantize"))
    del node.attribute[:]
    return node.name


def _computed_shape(model: onnx.ModelProto) -> str:
    node = of_type(model, "Reshape")
    model.graph.node.insert(0, helper.make_node("Identity", [node.input[1]], ["shape"], "copy"))
    node = of_type(model, "Reshape")
    node.input[1] = "shape"
    return node.name


def _quantized_sum(model: onnx.ModelProto) -> str:
    """A quantizer between a block's last convolution and the sum."""
    node = next(n for n in model.graph.node if n.op_type == "Add" and "stages.0.0" in n.name)
    index, pair = list(model.graph.node).index(node), of_type(model, "QuantizeLinear")
    main, inputs = node.input[0], list(pair.input[1:])
    node.input[0] = "sum_dequantized"
    for kind, source, out in (
        ("DequantizeLinear", "sum_quantized", "sum_dequantized"),
        ("QuantizeLinear", main, "sum_quantized"),
    ):
        model.graph.node.insert(index, helper.make_node(kind, [source, *inputs], [out], out))
    return node.name


def _unknown_operator(model: onnx.ModelProto) -> str:
    node = of_type(model, "Relu")
    node.op_type = "Mish"
    return node.name


def _new_opset(model: onnx.ModelProto) -> str:
    model.opset_import[0].version = 18
    return ""


def _foreign_domain(model: onnx.ModelProto) -> str:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return ""


def _integer_weights(model: onnx.ModelProto) -> str:
    node = next(n for n in model.graph.node if n.name.endswith("Conv/weight/dequantize"))
    weight = next(t for t in model.graph.initializer if t.name == node.name[: -len("/dequantize")])
    shape = numpy_helper.to_array(weight).shape
    node.input[0] = "integers"
    set_constant(model, "integers", np.zeros(shape, np.int8))
    return node.name


BROKEN: dict[str, tuple[Callable[[onnx.ModelProto], str], str]] = {
    "a quantizer of two inputs": (_two_inputs, "quantizer"),
    "a zero point that is not zero": (_zero_point, "quantizer"),
    "a scale below zero": (_negative_scale, "quantizer"),
    "an activation with many scales": (_two_scales, "granularity"),
    "weights without an axis": (_no_axis, "granularity"),
    "a shape that is computed": (_computed_shape, "constant"),
    "a sum whose convolution is quantized": (_quantized_sum, "residual"),
    "an operator that is not known": (_unknown_operator, "operator"),
    "operators that are too new": (_new_opset, "opset"),
    "operators of another domain": (_foreign_domain, "operator"),
    "weights as integers": (_integer_weights, "weight"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_graph_is_found(lowered: Lowered, name: str) -> None:
    spoil, rule = BROKEN[name]
    model = weak_graph(onnx.load(lowered.quantized["clip"]))
    node = spoil(model)

    found = [finding for finding in _lint_what_can_be(model) if finding.node == node]

    assert rule in {finding.rule for finding in found}


def _lint_what_can_be(model: onnx.ModelProto) -> tuple:
    """Without the rules that infer types, for a graph that ONNX itself no longer accepts."""
    try:
        return lint_for_tensorrt(model, V8_5)
    except Exception:
        from pkecho_edge.calibration.graph import GraphView
        from pkecho_edge.targets import tensorrt_lint as lint

        rules = (lint._opset, lint._operators, lint._constants, lint._quantizers)
        return tuple(f for rule in rules for f in rule(model, GraphView(model.graph), V8_5))


def test_shapes_and_types_are_looked_at() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], "relu")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    found = lint_for_tensorrt(model, V8_5)

    assert {(f.node, f.rule) for f in found} >= {("x", "shape"), ("x", "type"), ("y", "type")}


def test_a_refusal_names_node_release_and_count(lowered: Lowered) -> None:
    model = onnx.load(lowered.quantized["clip"])

    with pytest.raises(PkechoEdgeError, match=r"TensorRT 8.5 would not read .* \(and \d+ more\)"):
        require_tensorrt(model, (8, 5, 2), Path("clip.onnx"))


def test_every_rule_is_broken_by_a_test() -> None:
    tested = {rule for _, rule in BROKEN.values()} | {"shape", "type"}

    assert tested == set(RULES)
