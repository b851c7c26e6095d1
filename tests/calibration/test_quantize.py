"""Q/DQ ONNX: what is INT8, in which numbers, and that the masks survive it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pkecho_edge.calibration.activations import ClipActivations, merge_activations, observe
from pkecho_edge.calibration.lint import lint_graph
from pkecho_edge.calibration.quantize import mean_output, quantize_graph, quantize_onnx
from pkecho_edge.calibration.rule import DEFAULT_RULE, RULES, RangeRule
from pkecho_edge.calibration.scheme import load_scheme, scheme_names
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.processors import sums_products_exactly

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


def constants(path: Path) -> dict[str, NDArray[Any]]:
    graph = onnx.load(path).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


WORK = """
import hashlib, pickle, sys
from pathlib import Path
from pkecho_edge.calibration.activations import merge_activations, observe
from pkecho_edge.calibration.quantize import quantize_graph
from pkecho_edge.calibration.rule import RangeRule
from pkecho_edge.calibration.scheme import load_scheme

graph, clips, out, threads = sys.argv[1:]
clips = pickle.loads(Path(clips).read_bytes())
statistics = merge_activations(list(observe(Path(graph), clips, int(threads))))
for scheme, rule in (("cpu", "mse/mse+bias"), ("tensorrt", "entropy/minmax+bias")):
    quantize_graph(Path(graph), statistics, load_scheme(scheme), RangeRule.parse(rule), Path(out))
    print(hashlib.sha256(Path(out).read_bytes()).hexdigest())
"""


def test_the_same_bytes_whatever_threads_there_are(
    quantized: Any, phantoms: list[Clip], tmp_path: Path
) -> None:
    """Threads of ours side by side, and threads of the libraries below."""
    (tmp_path / "clips").write_bytes(pickle.dumps(phantoms))

    def hashes(threads: str, omp: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", WORK, quantized.graph, "clips", "int8.onnx", threads],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": omp, "PYTHONHASHSEED": omp},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    first = hashes("1", "1")

    assert len(set(first.split())) == 2
    assert hashes("2", "3") == first


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize(
    ("kernel", "pads"),
    [((1, 1), (0, 0, 0, 0)), ((3, 3), (1, 1, 1, 1)), ((3, 2), (2, 0, 1, 1))],
)
def test_the_mean_output_is_that_of_the_convolution(
    groups: int, strides: tuple[int, int], kernel: tuple[int, int], pads: tuple[int, ...]
) -> None:
    random = np.random.default_rng(0)
    frames = random.normal(1, 2, (5, 4, 9, 8))
    weight = random.normal(size=(8, 4 // groups, *kernel))
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=strides, pads=pads, group=groups, kernel_shape=kernel
    )
    top, left, bottom, right = pads
    padded = torch.nn.functional.pad(torch.from_numpy(frames), (left, right, top, bottom))
    output = torch.nn.functional.conv2d(
        padded, torch.from_numpy(weight), stride=strides, groups=groups
    )

    found = mean_output(node, frames.mean(axis=0), weight)

    np.testing.assert_allclose(found, output.mean(dim=(0, 2, 3)).numpy(), rtol=1e-9, atol=1e-12)


def test_a_convolution_without_attributes_has_strides_of_one_and_no_pads() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])

    found = mean_output(node, np.full((1, 4, 4), 2.0), np.full((1, 1, 3, 3), 0.5))

    assert found.tolist() == [9.0]


LAYERS = [
    "/encoder/stages.1/stages.1.0/convolutions.0/Conv",  # stride 2
    "/encoder/stages.1/stages.1.0/downsample/Conv",  # 1x1, stride 2
    "/reduction/convolution/Conv",
    "/upsamplers.0/depthwise/Conv",
]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("scheme", ["cpu-avx2", "tensorrt"])
def test_bias_correction_takes_the_mean_error_of_the_weights(
    quantized: Any, statistics: ClipActivations, tmp_path: Path, scheme: str, name: str
) -> None:
    """On the float input, whose mean it was made for: what is left is rounding of FP32."""
    before = constants(quantized.graph)
    node = next(n for n in onnx.load(quantized.graph).graph.node if n.name == name)
    mean = statistics[node.input[0]].mean
    wanted = mean_output(node, mean, before[node.input[1]]) + before[node.input[2]]
    error = {}
    for rule in (DEFAULT_RULE, replace(DEFAULT_RULE, bias_correction=False)):
        path = tmp_path / "int8.onnx"
        quantize_graph(quantized.graph, statistics, load_scheme(scheme), rule, path)
        values = constants(path)
        if scheme == "tensorrt":
            weight = values[f"{name}/weight"]
        else:
            steps = values[f"{name}/weight_scale"].reshape(-1, 1, 1, 1)
            weight = values[f"{name}/weight_quantized"] * steps
        found = mean_output(node, mean, weight) + values[f"{name}/bias"]
        error[rule.bias_correction] = np.abs(found - wanted).max() / np.abs(wanted).max()

    assert error[True] < 1e-6
    assert error[False] > 100 * error[True]


def test_weights_of_seven_bits_end_at_63(schemed: Any) -> None:
    for scheme, level in (("cpu", 127), ("cpu-avx2", 63), ("onnxruntime", 63)):
        stored = {
            name: values
            for name, values in constants(schemed[scheme]["clip"]).items()
            if name.endswith("/weight_quantized")
        }
        assert stored
        for values in stored.values():
            assert values.dtype == np.int8
            # every channel reaches its end, or is one of zeros
            assert set(np.abs(values.astype(int)).max(axis=(1, 2, 3))) <= {0, level}


def test_biases_of_32_bits_are_those_of_fp32(
    quantized: Any, statistics: ClipActivations, tmp_path: Path
) -> None:
    rule = replace(DEFAULT_RULE, bias_correction=False)
    path = tmp_path / "int8.onnx"
    quantize_graph(quantized.graph, statistics, load_scheme("onnxruntime"), rule, path)
    values, before = constants(path), constants(quantized.graph)

    convolutions = [
        node
        for node in onnx.load(quantized.graph).graph.node
        if f"{node.name}/bias_quantized" in values
    ]
    assert len(convolutions) == 20 + 1 + 4
    for node in convolutions:
        integers, steps = (values[f"{node.name}/bias_{what}"] for what in ("quantized", "scale"))
        assert integers.dtype == np.int32
        np.testing.assert_array_less(np.abs(integers * steps - before[node.input[2]]), steps)


@pytest.mark.parametrize("scheme", ["onnxruntime", "cpu"])
def test_a_channel_of_next_to_no_weights_keeps_its_bias(
    quantized: Any, statistics: ClipActivations, tmp_path: Path, scheme: str
) -> None:
    """Weight decay takes BatchNorm factors there; the bias alone is then what the channel gives."""
    model = onnx.load(quantized.graph)
    name = "encoder.stages.2.0.convolutions.0"
    for tensor in model.graph.initializer:
        if tensor.name in (f"{name}.weight", f"{name}.bias"):
            values = numpy_helper.to_array(tensor).copy()
            values[5] = 1e-20 if "weight" in tensor.name else 0.75
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "quiet.onnx")
    path = tmp_path / "int8.onnx"

    quantize_graph(tmp_path / "quiet.onnx", statistics, load_scheme(scheme), DEFAULT_RULE, path)

    values = constants(path)
    node = "/encoder/stages.2/stages.2.0/convolutions.0/Conv/bias"
    if scheme == "onnxruntime":
        bias = values[f"{node}_quantized"] * values[f"{node}_scale"]
    else:
        bias = values[node]
    assert bias[5] == pytest.approx(0.75, rel=1e-6)


def test_tensorrts_weights_pass_their_quantizer_unchanged(schemed: Any) -> None:
    """Rounding what is rounded already: FP32 weights, integers and back are the same to the bit."""
    model = onnx.load(schemed["tensorrt"]["clip"])
    names = [node.input[0] for node in model.graph.node if node.name.endswith("weight/quantize")]
    for name in names:
        output = helper.make_tensor_value_info(f"{name}_dequantized", TensorProto.FLOAT, None)
        model.graph.output.append(output)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), unoptimized(), providers=["CPUExecutionProvider"]
    )
    frames = np.zeros((4, 1, 96, 96), np.uint8)
    found = session.run([f"{name}_dequantized" for name in names], {"frames": frames})
    before = constants(schemed["tensorrt"]["clip"])

    assert len(names) == 35
    for name, weight in zip(names, found, strict=True):
        np.testing.assert_array_equal(weight, before[name])


@pytest.mark.parametrize("scheme", ["cpu", "cpu-avx2", "onnxruntime"])
def test_frames_of_eight_bits_stay_as_they_are(
    quantized: Any, statistics: ClipActivations, tmp_path: Path, scheme: str
) -> None:
    """Whatever the calibration clips held: a grey value is an integer already."""
    tensor = "/encoder/Cast_output_0"
    dark = replace(statistics[tensor], maximum=np.full(1, 99, np.float32))
    path = tmp_path / "int8.onnx"

    quantize_graph(
        quantized.graph, statistics | {tensor: dark}, load_scheme(scheme), DEFAULT_RULE, path
    )

    values = constants(path)
    assert (values[f"{tensor}_scale"], values[f"{tensor}_zero_point"]) == (1, 0)


def test_every_activation_covers_what_it_held(schemed: Any, statistics: ClipActivations) -> None:
    """minmax: no value of a calibration clip is cut off by more than a rounding."""
    for name in scheme_names():
        values = constants(schemed[name]["clip"])
        lowest, highest = load_scheme(name).activation_levels
        checked = 0
        for tensor, held in statistics.items():
            if f"{tensor}_scale" in values:
                scale = float(values[f"{tensor}_scale"])
                zero = int(values[f"{tensor}_zero_point"])
                assert (lowest - zero) * scale <= held.minimum.min() + scale * 0.51
                assert (highest - zero) * scale >= held.maximum.max() - scale * 0.51
                checked += 1
        assert checked > 20


@pytest.fixture(scope="module")
def dead(
    quantized: Any, phantoms: list[Clip], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ClipActivations]:
    """A graph with a convolution that gives nothing above zero, so that its ReLU never opens."""
    model = onnx.load(quantized.graph)
    for tensor in model.graph.initializer:
        if tensor.name == "encoder.stages.2.1.convolutions.0.bias":
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(values, -1e4), tensor.name))
    path = tmp_path_factory.mktemp("dead") / "dead.onnx"
    onnx.save(model, path)
    return path, merge_activations(list(observe(path, phantoms[:1])))


@pytest.mark.parametrize("scheme", scheme_names())
def test_a_dead_tensor_is_told(
    dead: tuple[Path, ClipActivations], phantoms: list[Clip], tmp_path: Path, scheme: str
) -> None:
    graph, statistics = dead
    for rule in RULES:
        report = quantize_graph(
            graph, statistics, load_scheme(scheme), rule, tmp_path / "int8.onnx"
        )
        assert report.dead == ("/encoder/stages.2/stages.2.1/Relu_output_0",)
    assert np.isfinite(run(tmp_path / "int8.onnx", phantoms[0].frames)).all()


@pytest.mark.parametrize(
    "rule", [*RULES, RangeRule("entropy"), RangeRule(weights="mse")], ids=lambda rule: rule.name
)
def test_every_rule_gives_an_obedient_graph_whose_masks_agree(
    quantized: Any,
    statistics: ClipActivations,
    phantoms: list[Clip],
    tmp_path: Path,
    rule: RangeRule,
) -> None:
    path = tmp_path / "int8.onnx"
    report = quantize_graph(quantized.graph, statistics, load_scheme("cpu"), rule, path)

    assert (report.scheme, report.rule, report.dead) == ("cpu", rule.name, ())
    assert lint_graph(path, load_scheme("cpu")) == ()
    frames = phantoms[0].frames
    assert ((run(path, frames) > 0) != (run(quantized.graph, frames) > 0)).mean() < 0.02


def unoptimized() -> onnxruntime.SessionOptions:
    """Every node in FP32 by itself, quantizers too: what the graph says, without a fusion."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return settings


def as_written(path: Path, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, unoptimized(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"frames": frames})
    return np.asarray(logits)


def by_openvino(path: Path, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    # OpenVINO 2026.4 dies of its attention fusion where a quantized graph has 4, 6 or 8 frames
    options["SNIPPETS_MODE"] = "DISABLE"
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    return np.asarray(compiled({"frames": frames})[0])


@pytest.mark.parametrize("engine", [run, by_openvino], ids=["onnxruntime", "openvino"])
@pytest.mark.parametrize("scheme", scheme_names())
def test_runtimes_compute_what_the_graph_says(
    schemed: Any, phantoms: list[Clip], scheme: str, engine: Any
) -> None:
    if (
        engine is by_openvino
        and load_scheme(scheme).weight_bits == 8
        and not sums_products_exactly()
    ):
        pytest.skip("without VNNI OpenVINO sums products of 8-bit weights in 16 bits")
    path = schemed[scheme]["clip"]
    differing = []
    for clip in phantoms:
        expected, found = as_written(path, clip.frames), engine(path, clip.frames)
        assert 0.05 < (expected > 0).mean() < 0.95, "one class only proves nothing"
        differing.append(((expected > 0) != (found > 0)).mean())

    assert np.mean(differing) < 1e-3
