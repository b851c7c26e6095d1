"""The linter: a graph of each scheme passes, and one fault gives one finding at its node."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pkecho_edge.calibration.lint import RULES, Finding, lint_graph, lint_model
from pkecho_edge.calibration.quantize import quantize_graph
from pkecho_edge.calibration.rule import DEFAULT_RULE
from pkecho_edge.calibration.scheme import load_scheme, scheme_names
from pkecho_edge.errors import PkechoEdgeError, UnusableInput

BLOCK = "/encoder/stages.0/stages.0.0"
STREAM = f"{BLOCK}/Relu_1_output_0"  # read by a convolution, a sum and an estimator
REDUCTION = "/reduction/convolution/Conv"
WEIGHT = f"{REDUCTION}/weight"
POOL = "/encoder/pool/MaxPool"

Edit = Callable[["Graph"], None]


class Graph:
    """A model, and what a test does to it."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(path)
        self.graph = self.model.graph

    def node(self, name: str) -> onnx.NodeProto:
        return next(node for node in self.graph.node if node.name == name)

    def get(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(next(t for t in self.graph.initializer if t.name == name))

    def put(self, name: str, array: Any) -> None:
        """In place of the constant of that name, or as a new one."""
        for tensor in [each for each in self.graph.initializer if each.name == name]:
            self.graph.initializer.remove(tensor)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))

    def drop(self, *names: str) -> None:
        for name in names:
            self.graph.node.remove(self.node(name))

    def add(self, kind: str, inputs: list[str], name: str, before: str = "", **more: Any) -> None:
        """A node with one output, its name with "_out", behind all others or before one."""
        made = helper.make_node(kind, inputs, [f"{name}_out"], name, **more)
        names = [node.name for node in self.graph.node]
        self.graph.node.insert(names.index(before) if before else len(names), made)


@dataclass(frozen=True)
class Case:
    """One fault, and who is found with it."""

    rule: str
    node: str
    edit: Edit
    scheme: str = "cpu"


def opset(version: int) -> Edit:
    def edit(g: Graph) -> None:
        g.model.opset_import[0].version = version

    return edit


def foreign(g: Graph) -> None:
    g.node("/head/Sigmoid").domain = "com.microsoft"


def later_attribute(g: Graph) -> None:
    g.add("Split", ["logits"], "probe", num_outputs=1)


def later_operator(g: Graph) -> None:
    g.add("Gelu", ["logits"], "probe")


def control_flow(g: Graph) -> None:
    body = helper.make_graph([], "body", [], [])
    g.put("yes", True)
    g.add("If", ["yes"], "probe", then_branch=body, else_branch=body)


def wrong_type(g: Graph) -> None:
    g.node("/head/Sigmoid").input[0] = "frames"


def missing_scale(g: Graph) -> None:
    g.graph.initializer.remove(next(t for t in g.graph.initializer if t.name == f"{STREAM}_scale"))
    g.node(f"{STREAM}/dequantize").input[1] = f"{BLOCK}/Relu_output_0_scale"


def computed_scale(g: Graph) -> None:
    constant = numpy_helper.from_array(g.get(f"{STREAM}_scale"))
    g.add("Constant", [], "probe", before=f"{STREAM}/quantize", value=constant)
    for name in ("quantize", "dequantize"):
        g.node(f"{STREAM}/{name}").input[1] = "probe_out"


def elsewhere(g: Graph) -> None:
    tensor = next(t for t in g.graph.initializer if t.name == f"{WEIGHT}_quantized")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def cut_off(g: Graph) -> None:
    tensor = next(t for t in g.graph.initializer if t.name == f"{WEIGHT}_quantized")
    tensor.raw_data = tensor.raw_data[:-1]


def dynamic_input(g: Graph) -> None:
    g.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "frames"


def dynamic_node(g: Graph) -> None:
    g.add("NonZero", ["logits"], "probe")


def integers_elsewhere(g: Graph) -> None:
    g.add("Cast", [f"{STREAM}_quantized"], "probe", to=TensorProto.FLOAT)


def integer_result(g: Graph) -> None:
    shape = [4, 16, 24, 24]
    g.graph.output.append(
        helper.make_tensor_value_info(f"{STREAM}_quantized", TensorProto.UINT8, shape)
    )


def other_scale(g: Graph) -> None:
    g.put("own", np.float32(0.5))
    g.node(f"{STREAM}/dequantize").input[1] = "own"


def other_zero_point(g: Graph) -> None:
    g.put("own", np.uint8(7))
    g.node(f"{STREAM}/dequantize").input[2] = "own"


def quantized_twice(g: Graph) -> None:
    """The chain is (Q, DQ), (Q, DQ): the second Q reads what was dequantized."""
    numbers = [f"{STREAM}_scale", f"{STREAM}_zero_point"]
    g.add("QuantizeLinear", [f"{STREAM}_dequantized", *numbers], "again", f"{BLOCK[:-1]}1/Add")
    g.add("DequantizeLinear", ["again_out", *numbers], "back", f"{BLOCK[:-1]}1/Add")
    g.node(f"{BLOCK[:-1]}1/Add").input[1] = "back_out"


def dequantized_frames(g: Graph) -> None:
    """Eight bits become numbers by a DequantizeLinear in place of the Cast."""
    tensor = "/encoder/Cast_output_0"
    g.drop(f"{tensor}/quantize")
    g.node(f"{tensor}/dequantize").input[0] = "frames"


def unread(g: Graph) -> None:
    numbers = [f"{STREAM}_scale", f"{STREAM}_zero_point"]
    g.add("DequantizeLinear", [f"{STREAM}_quantized", *numbers], "probe")


def constant(name: str, make: Callable[[np.ndarray], Any]) -> Edit:
    def edit(g: Graph) -> None:
        g.put(name, make(g.get(name)))

    return edit


def without_zero_point(*names: str) -> Edit:
    def edit(g: Graph) -> None:
        for name in names:
            del g.node(name).input[2]

    return edit


def without_axis(name: str) -> Edit:
    def edit(g: Graph) -> None:
        del g.node(name).attribute[:]

    return edit


def weights_per_tensor(g: Graph) -> None:
    g.put(f"{WEIGHT}_scale", np.float32(1))
    g.put(f"{WEIGHT}_zero_point", np.int8(0))


def integer_weights(g: Graph) -> None:
    """The FP32 weights and their quantizer become the integers that it makes."""
    steps = g.get(f"{WEIGHT}_scale").reshape(-1, 1, 1, 1)
    g.drop(f"{WEIGHT}/quantize")
    g.put(f"{WEIGHT}_quantized", np.rint(g.get(WEIGHT) / steps).astype(np.int8))


def float_weights(g: Graph) -> None:
    numbers = [f"{WEIGHT}_scale", f"{WEIGHT}_zero_point"]
    g.put("own", np.zeros(g.get(f"{WEIGHT}_quantized").shape, np.float32))
    g.add("QuantizeLinear", ["own", *numbers], "probe", f"{WEIGHT}/dequantize", axis=0)
    g.node(f"{WEIGHT}/dequantize").input[0] = "probe_out"


def unsigned_weights(g: Graph) -> None:
    g.put(f"{WEIGHT}_quantized", np.abs(g.get(f"{WEIGHT}_quantized")).astype(np.uint8))
    g.put(f"{WEIGHT}_zero_point", np.zeros(32, np.uint8))


def first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """The array with another first value."""

    def changed(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.flat[0] = value
        return array

    return changed


def float_bias(g: Graph) -> None:
    g.drop(f"{REDUCTION}/bias/dequantize")
    g.put("own", np.zeros(32, np.float32))
    g.node(REDUCTION).input[2] = "own"


def integer_bias(g: Graph) -> None:
    g.put("own", np.zeros(32, np.int32))
    inputs = ["own", f"{WEIGHT}_scale"]
    g.add("DequantizeLinear", inputs, "probe", REDUCTION, axis=0)
    g.node(REDUCTION).input[2] = "probe_out"


def float_input(g: Graph) -> None:
    g.node(f"{BLOCK[:-1]}1/convolutions.0/Conv").input[0] = STREAM


def plain_weights(g: Graph) -> None:
    g.drop(f"{WEIGHT}/dequantize")
    g.put("own", np.zeros(g.get(f"{WEIGHT}_quantized").shape, np.float32))
    g.node(REDUCTION).input[1] = "own"


def float_main(g: Graph) -> None:
    tensor = f"{BLOCK}/convolutions.1/Conv_output_0"
    g.drop(f"{tensor}/quantize", f"{tensor}/dequantize")
    g.node(f"{BLOCK}/Add").input[0] = tensor


def float_identity(g: Graph) -> None:
    g.node(f"{BLOCK[:-1]}1/Add").input[1] = STREAM


def integer_main(g: Graph) -> None:
    tensor, numbers = f"{BLOCK}/convolutions.1/Conv_output_0", ["own_scale", "own_zero_point"]
    g.put("own_scale", np.float32(1))
    g.put("own_zero_point", np.int8(0))
    g.add("QuantizeLinear", [tensor, *numbers], "q", f"{BLOCK}/Add")
    g.add("DequantizeLinear", ["q_out", *numbers], "dq", f"{BLOCK}/Add")
    g.node(f"{BLOCK}/Add").input[0] = "dq_out"


def pool_once_more(g: Graph) -> None:
    """Quantizers around a max-pool, where the scheme wants them before it alone."""
    numbers = ["/encoder/Relu_output_0_scale", "/encoder/Relu_output_0_zero_point"]
    following = f"{BLOCK}/convolutions.0/Conv"
    g.add("QuantizeLinear", [f"{POOL}_output_0", *numbers], "q", following)
    g.add("DequantizeLinear", ["q_out", *numbers], "dq", following)
    for name, index in ((following, 0), (f"{BLOCK}/Add", 1)):
        g.node(name).input[index] = "dq_out"


def pool_in_float(g: Graph) -> None:
    """Quantizers behind a max-pool alone."""
    pool_once_more(g)
    tensor = "/encoder/Relu_output_0"
    g.drop(f"{tensor}/quantize", f"{tensor}/dequantize")
    g.node(POOL).input[0] = tensor


def pool_of_another_zero_point(g: Graph) -> None:
    g.put(f"{POOL}_output_0_zero_point", np.uint8(7))


def pool_without_its_second(g: Graph) -> None:
    tensor = f"{POOL}_output_0"
    g.drop(f"{tensor}/quantize", f"{tensor}/dequantize")
    for name, index in ((f"{BLOCK}/convolutions.0/Conv", 0), (f"{BLOCK}/Add", 1)):
        g.node(name).input[index] = tensor


def probe_in(part: str) -> Edit:
    def edit(g: Graph) -> None:
        g.add("Relu", [f"{STREAM}_dequantized"], f"/{part}/probe")

    return edit


def dequantized_result(g: Graph) -> None:
    shape = [4, 16, 24, 24]
    g.graph.output.append(
        helper.make_tensor_value_info(f"{STREAM}_dequantized", TensorProto.FLOAT, shape)
    )


STREAM_Q, STREAM_DQ = f"{STREAM}/quantize", f"{STREAM}/dequantize"
SCALES = {"zero": 0, "negative": -1, "nan": np.nan, "infinite": np.inf, "subnormal": 1e-40}

CASES = {
    "a later opset": Case("opset", "", opset(22)),
    "TensorRT reads 17": Case("opset", "", opset(18), "tensorrt"),
    "an operator of another house": Case("operator", "/head/Sigmoid", foreign),
    "an attribute of a later opset": Case("operator", "probe", later_attribute),
    "an operator of a later opset": Case("operator", "probe", later_operator),
    "control flow": Case("operator", "probe", control_flow),
    "integers for floats": Case("operator", "/head/Sigmoid", wrong_type),
    "a missing scale": Case("constant", STREAM_Q, missing_scale),
    "a computed scale": Case("constant", STREAM_Q, computed_scale),
    "values in another file": Case("constant", f"{WEIGHT}_quantized", elsewhere),
    "values cut off": Case("constant", f"{WEIGHT}_quantized", cut_off),
    "frames of any number": Case("shape", "frames", dynamic_input),
    "a result of any length": Case("shape", "probe", dynamic_node),
    "integers read as such": Case("pair", STREAM_Q, integers_elsewhere),
    "integers as a result": Case("pair", STREAM_Q, integer_result),
    "another scale": Case("pair", STREAM_DQ, other_scale),
    "another zero point": Case("pair", STREAM_DQ, other_zero_point),
    "quantized twice": Case("pair", "again", quantized_twice),
    "dequantized only": Case("pair", "/encoder/Cast_output_0/dequantize", dequantized_frames),
    "read by nobody": Case("pair", "probe", unread),
    "signed activations": Case(
        "type", STREAM_Q, constant(f"{STREAM}_zero_point", lambda _: np.int8(0))
    ),
    "unsigned activations": Case(
        "type", STREAM_Q, constant(f"{STREAM}_zero_point", lambda _: np.uint8(0)), "tensorrt"
    ),
    "asymmetric activations": Case(
        "zero-point", STREAM_Q, constant(f"{STREAM}_zero_point", lambda _: np.int8(3)), "tensorrt"
    ),
    "no zero point": Case(
        "zero-point", STREAM_Q, without_zero_point(STREAM_Q, STREAM_DQ), "tensorrt"
    ),
    "asymmetric weights": Case(
        "zero-point", f"{WEIGHT}/dequantize", constant(f"{WEIGHT}_zero_point", first(1))
    ),
    "asymmetric biases": Case(
        "zero-point",
        f"{REDUCTION}/bias/dequantize",
        constant(f"{REDUCTION}/bias_zero_point", first(1)),
        "onnxruntime",
    ),
    "one zero point of many": Case(
        "zero-point",
        f"{WEIGHT}/dequantize",
        constant(f"{WEIGHT}_zero_point", lambda zeros: zeros[:1]),
    ),
    "no zero point of weights": Case(
        "zero-point", f"{WEIGHT}/dequantize", without_zero_point(f"{WEIGHT}/dequantize")
    ),
    **{
        f"a scale that is {name}": Case(
            "scale", STREAM_Q, constant(f"{STREAM}_scale", lambda _, v=value: np.float32(v))
        )
        for name, value in SCALES.items()
    },
    "a weight scale of zero": Case(
        "scale", f"{WEIGHT}/dequantize", constant(f"{WEIGHT}_scale", first(0))
    ),
    "activations per channel": Case(
        "granularity", STREAM_Q, constant(f"{STREAM}_scale", lambda scale: scale.reshape(1))
    ),
    "weights along axis 1": Case(
        "granularity", f"{WEIGHT}/dequantize", without_axis(f"{WEIGHT}/dequantize")
    ),
    "their quantizer along axis 1": Case(
        "granularity", f"{WEIGHT}/quantize", without_axis(f"{WEIGHT}/quantize"), "tensorrt"
    ),
    "weights per tensor": Case(
        "granularity",
        f"{WEIGHT}/dequantize",
        weights_per_tensor,
    ),
    "integers for FP32": Case("weight", REDUCTION, integer_weights, "tensorrt"),
    "FP32 for integers": Case("weight", REDUCTION, float_weights),
    "unsigned weights": Case("weight", REDUCTION, unsigned_weights),
    "a weight of -128": Case(
        "level", f"{WEIGHT}/dequantize", constant(f"{WEIGHT}_quantized", first(-128))
    ),
    "a weight of eight bits": Case(
        "level", f"{WEIGHT}/dequantize", constant(f"{WEIGHT}_quantized", first(64)), "cpu-avx2"
    ),
    "an FP32 weight beyond": Case(
        "level", f"{WEIGHT}/quantize", constant(WEIGHT, lambda w: w * 1.01), "tensorrt"
    ),
    "an FP32 weight that is none": Case(
        "level", f"{WEIGHT}/quantize", constant(WEIGHT, first(np.nan)), "tensorrt"
    ),
    "a bias in other steps": Case(
        "bias",
        f"{REDUCTION}/bias/dequantize",
        constant(f"{REDUCTION}/bias_scale", lambda scale: scale * np.float32(1.001)),
        "onnxruntime",
    ),
    "a bias in float": Case("bias", REDUCTION, float_bias, "onnxruntime"),
    "a bias in integers": Case("bias", REDUCTION, integer_bias),
    "an input in float": Case("coverage", f"{BLOCK[:-1]}1/convolutions.0/Conv", float_input),
    "weights in float": Case("coverage", REDUCTION, plain_weights),
    "a convolution in float": Case("residual", f"{BLOCK}/Add", float_main),
    "an identity in float": Case("residual", f"{BLOCK[:-1]}1/Add", float_identity),
    "TensorRT's identity in float": Case(
        "residual", f"{BLOCK[:-1]}1/Add", float_identity, "tensorrt"
    ),
    "TensorRT's convolution in integers": Case(
        "residual", f"{BLOCK}/Add", integer_main, "tensorrt"
    ),
    "a pool once more": Case("pool", POOL, pool_once_more),
    "a pool in float": Case("pool", POOL, pool_in_float),
    "around a pool, unlike": Case("pool", POOL, pool_of_another_zero_point, "onnxruntime"),
    "around a pool, once": Case("pool", POOL, pool_without_its_second, "onnxruntime"),
    "the head": Case("float-part", "/head/probe", probe_in("head")),
    "affinity arithmetic": Case("float-part", "/upsamplers.0/probe", probe_in("upsamplers.0")),
    "other work": Case("float-part", "/encoder/probe", probe_in("encoder")),
    "a dequantized result": Case("float-part", STREAM_DQ, dequantized_result),
}


@pytest.mark.parametrize("mode", ["clip", "stream"])
@pytest.mark.parametrize("name", scheme_names())
def test_what_quantizing_wrote_obeys(schemed: Any, name: str, mode: str) -> None:
    assert lint_graph(schemed[name][mode], load_scheme(name)) == ()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_one_fault_gives_one_finding_at_its_node(schemed: Any, case: Case) -> None:
    graph = Graph(schemed[case.scheme]["clip"])
    case.edit(graph)

    found = lint_model(graph.model, load_scheme(case.scheme))

    assert [(each.rule, each.node) for each in found] == [(case.rule, case.node)], found
    assert "\n" not in str(found[0])
    assert case.node in str(found[0])


def test_every_rule_is_broken_above_or_below() -> None:
    assert {case.rule for case in CASES.values()} | {"float-layer"} == set(RULES)


@pytest.mark.parametrize(
    ("layer", "node"),
    [
        pytest.param("reduction.convolution", REDUCTION, id="directly"),
        pytest.param(
            "encoder.stages.0.0.convolutions.0", f"{BLOCK}/convolutions.0/Conv", id="by a pool"
        ),
    ],
)
def test_a_layer_in_float_reads_no_integers(schemed: Any, layer: str, node: str) -> None:
    (found,) = lint_graph(schemed["cpu"]["clip"], load_scheme("cpu"), [layer])

    assert (found.rule, found.node) == ("float-layer", node)


def test_a_layer_of_float_weights_may_not_keep_its_quantizers(schemed: Any) -> None:
    """Its input alone in float: the weights are integers still."""
    graph = Graph(schemed["cpu"]["clip"])
    float_input(graph)

    found = lint_model(graph.model, load_scheme("cpu"), ["encoder.stages.0.1.convolutions.0"])

    assert [each.rule for each in found] == ["float-layer"]


def test_a_sum_behind_a_float_convolution_stays_in_float(
    quantized: Any, statistics: Any, schemed: Any, tmp_path: Path
) -> None:
    layer = "encoder.stages.0.0.convolutions.1"
    path = tmp_path / "some.onnx"
    scheme = load_scheme("cpu")

    quantize_graph(quantized.graph, statistics, scheme, DEFAULT_RULE, path, [layer])

    assert lint_graph(path, scheme, [layer]) == ()
    rules = {each.rule for each in lint_graph(schemed["cpu"]["clip"], scheme, [layer])}
    assert rules == {"float-layer", "residual"}


@pytest.mark.parametrize("name", scheme_names())
@pytest.mark.parametrize("other", scheme_names())
def test_the_schemes_are_told_apart(schemed: Any, name: str, other: str) -> None:
    found = lint_graph(schemed[name]["clip"], load_scheme(other))

    # weights of seven bits are weights of eight
    assert (not found) == (name == other or (name, other) == ("cpu-avx2", "cpu"))


def test_a_float_graph_is_not_quantized(quantized: Any) -> None:
    found = lint_graph(quantized.graph, load_scheme("cpu"))

    assert found == (Finding("", "coverage", "nothing is quantized"),)


def test_nothing_is_written_that_does_not_obey(
    quantized: Any, statistics: Any, tmp_path: Path
) -> None:
    tensor = statistics[STREAM]
    endless = replace(tensor, maximum=np.full_like(tensor.maximum, np.inf))
    scheme = replace(load_scheme("cpu"), max_opset=16, name="old")

    with pytest.raises(PkechoEdgeError) as raised:
        quantize_graph(
            quantized.graph,
            statistics | {STREAM: endless},
            scheme,
            DEFAULT_RULE,
            tmp_path / "int8.onnx",
        )

    assert "does not obey scheme old: opset 17 is above 16 (opset), and 1 more" in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"# not a graph at all\n", id="text"),
        pytest.param(b"\xff" * 64, id="noise"),
    ],
)
def test_what_is_no_onnx_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "some.onnx").write_bytes(content)

    with pytest.raises(UnusableInput, match="no ONNX can be read") as raised:
        lint_graph(tmp_path / "some.onnx", load_scheme("cpu"))

    assert "\n" not in str(raised.value)


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(UnusableInput, match="no ONNX can be read"):
            lint_graph(path, load_scheme("cpu"))


def test_an_empty_file_is_an_empty_graph(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")

    (found,) = lint_graph(tmp_path / "empty.onnx", load_scheme("cpu"))

    assert found.rule == "operator"


@settings(max_examples=40)
@given(st.data())
def test_damage_never_ends_in_a_traceback(
    schemed: Any, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(schemed["tensorrt"]["clip"].read_bytes())
    nodes = 90_000  # they stand before the weights, and most of the damage is to strike them
    for _ in range(data.draw(st.integers(1, 3), label="bytes")):
        last = data.draw(st.sampled_from([len(content), nodes, nodes]), label="up to") - 1
        content[data.draw(st.integers(0, last), label="at")] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)

    with contextlib.suppress(UnusableInput):
        found = lint_graph(path, load_scheme("tensorrt"))
        assert all("\n" not in str(each) for each in found)


def test_a_rule_that_there_is_not_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no rule 'typo'"):
        Finding("node", "typo", "message")
