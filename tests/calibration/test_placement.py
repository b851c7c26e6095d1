"""Where quantizers stand on the lowered graph, scheme by scheme."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx
import pytest

from pkecho_edge.calibration.graph import GraphView, block_of, layer_of, quantizable
from pkecho_edge.calibration.placement import Placement, layers, place, residual_branches
from pkecho_edge.calibration.scheme import load_scheme, scheme_names

BLOCK = "/encoder/stages.0/stages.0.0"
PLAIN = "/encoder/stages.0/stages.0.1"  # its identity is the block before
DOWN = "/encoder/stages.1/stages.1.0"  # its identity is a convolution
POOL, STEM = "/encoder/pool/MaxPool_output_0", "/encoder/Relu_output_0"


@pytest.fixture(scope="module")
def graph(quantized: Any) -> onnx.GraphProto:
    return onnx.load(quantized.graph).graph


def placed(graph: onnx.GraphProto, name: str, *float_layers: str) -> Placement:
    return place(graph, load_scheme(name), float_layers)


def test_layers_are_named_as_in_the_network(graph: onnx.GraphProto) -> None:
    found = layers(graph)

    assert len(found) == len(set(found)) == 20 + 1 + 8
    assert found[:3] == [
        "encoder.stem",
        "encoder.stages.0.0.convolutions.0",
        "encoder.stages.0.0.convolutions.1",
    ]
    assert {"reduction.convolution", "upsamplers.0.depthwise", "upsamplers.0.scores"} < set(found)
    assert "encoder.stages.1.0.downsample" in found
    assert not [layer for layer in found if layer.startswith("head")]


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("encoder.stem", "encoder.stem"),
        ("encoder.stages.0.0.convolutions.1", "encoder.stages.0.0"),
        ("encoder.stages.3.1.downsample", "encoder.stages.3.1"),
        ("reduction.convolution", "reduction"),
        ("upsamplers.2.scores", "upsamplers.2"),
    ],
)
def test_blocks(layer: str, block: str) -> None:
    assert block_of(layer) == block


def test_eight_neighbours_are_one_layer() -> None:
    names = {f"/upsamplers.0/neighbours.{n}/scores/Conv" for n in range(8)}

    assert {layer_of(name) for name in names} == {"upsamplers.0.scores"}


@pytest.mark.parametrize(
    ("name", "is_convolution_work"),
    [
        ("/encoder/stem/Conv", True),
        ("/encoder/stages.0/stages.0.0/Add", True),
        ("/reduction/convolution/Conv", True),
        ("/upsamplers.0/depthwise/Conv", True),
        ("/upsamplers.0/neighbours.3/scores/Conv", True),
        ("/upsamplers.0/Relu", True),
        ("/head/Conv", False),
        ("/head/rounds.0.0/Add", False),
        ("/upsamplers.0/Conv", False),
        ("/upsamplers.0/neighbours.3/Exp", False),
        ("/upsamplers.0/Add_13", False),
    ],
)
def test_what_may_be_quantized(name: str, is_convolution_work: bool) -> None:
    assert quantizable(name) == is_convolution_work


@pytest.mark.parametrize("name", scheme_names())
def test_every_convolution_but_those_that_stay_in_float(graph: onnx.GraphProto, name: str) -> None:
    scheme = load_scheme(name)

    found = {layer_of(node) for node in placed(graph, name).convolutions}

    assert found == {layer for layer in layers(graph) if not scheme.keeps_in_float(layer)}


def test_the_stems_frames_stay_whole_for_tensorrt(graph: onnx.GraphProto) -> None:
    assert "/encoder/Cast_output_0" in placed(graph, "cpu").activations
    assert "/encoder/Cast_output_0" not in placed(graph, "tensorrt").activations


@pytest.mark.parametrize("name", ["cpu", "cpu-avx2", "onnxruntime"])
def test_both_inputs_of_a_sum(graph: onnx.GraphProto, name: str) -> None:
    found = placed(graph, name).activations

    for block in (BLOCK, PLAIN, DOWN):
        assert found[f"{block}/convolutions.1/Conv_output_0"] == [(f"{block}/Add", 0)]
    assert (f"{PLAIN}/Add", 1) in found[f"{BLOCK}/Relu_1_output_0"]
    assert found[f"{DOWN}/downsample/Conv_output_0"] == [(f"{DOWN}/Add", 1)]


def test_the_identity_alone_for_tensorrt(graph: onnx.GraphProto) -> None:
    found = placed(graph, "tensorrt").activations

    for block in (BLOCK, PLAIN, DOWN):
        assert f"{block}/convolutions.1/Conv_output_0" not in found
    assert (f"{PLAIN}/Add", 1) in found[f"{BLOCK}/Relu_1_output_0"]
    assert found[f"{DOWN}/downsample/Conv_output_0"] == [(f"{DOWN}/Add", 1)]


def test_a_sum_of_two_convolutions_has_its_shortcut_as_identity(graph: onnx.GraphProto) -> None:
    view = GraphView(graph)
    add = view.nodes[f"{DOWN}/Add"]
    swapped = onnx.helper.make_node("Add", [add.input[1], add.input[0]], ["sum"], add.name)

    assert residual_branches(view, add) == (0, 1)
    assert residual_branches(view, swapped) == (1, 0)
    assert residual_branches(view, view.nodes[f"{PLAIN}/Add"]) == (0, 1)
    assert residual_branches(view, view.nodes["/upsamplers.0/Add_1"]) is None


@pytest.mark.parametrize("name", ["cpu", "tensorrt"])
def test_a_sum_behind_a_float_convolution_is_in_float(graph: onnx.GraphProto, name: str) -> None:
    found = placed(graph, name, "encoder.stages.0.1.convolutions.1").activations

    assert f"{PLAIN}/convolutions.1/Conv_output_0" not in found
    readers = [reader for each in found.values() for reader in each if PLAIN in reader[0]]
    assert readers == [(f"{PLAIN}/convolutions.0/Conv", 0)]


def test_a_shortcut_in_float_is_quantized_behind_it(graph: onnx.GraphProto) -> None:
    """Its convolution is in float; the sum still adds integers."""
    found = placed(graph, "cpu", "encoder.stages.1.0.downsample")

    assert f"{DOWN}/downsample/Conv" not in found.convolutions
    assert (f"{DOWN}/Add", 1) in found.activations[f"{DOWN}/downsample/Conv_output_0"]
    assert (f"{DOWN}/downsample/Conv", 0) not in found.activations[f"{PLAIN}/Relu_1_output_0"]


def test_before_a_pool_with_the_range_behind_it(graph: onnx.GraphProto) -> None:
    found = placed(graph, "cpu")

    assert found.activations[STEM] == [("/encoder/pool/MaxPool", 0)]
    assert found.ranges_of == {STEM: POOL}
    assert POOL not in found.activations


def test_around_a_pool(graph: onnx.GraphProto) -> None:
    found = placed(graph, "onnxruntime")

    assert found.activations[STEM] == [("/encoder/pool/MaxPool", 0)]
    assert found.ranges_of == {STEM: POOL}
    assert found.activations[POOL] == [(f"{BLOCK}/convolutions.0/Conv", 0), (f"{BLOCK}/Add", 1)]


@pytest.mark.parametrize("name", ["cpu", "onnxruntime"])
@pytest.mark.parametrize(
    ("layer", "reader"),
    [
        ("encoder.stages.0.0.convolutions.0", (f"{BLOCK}/Add", 1)),
        ("encoder.stages.0.0.convolutions.1", (f"{BLOCK}/convolutions.0/Conv", 0)),
    ],
)
def test_behind_a_pool_that_is_read_in_float_too(
    graph: onnx.GraphProto, name: str, layer: str, reader: tuple[str, int]
) -> None:
    """Whoever reads it in float must not get it rounded."""
    found = placed(graph, name, layer)

    assert found.activations[POOL] == [reader]
    assert STEM not in found.activations
    assert found.ranges_of == {}


def test_nothing_is_left_of_a_network_in_float(graph: onnx.GraphProto) -> None:
    everything = replace(load_scheme("cpu"), float_layers=("*",))

    assert place(graph, everything) == Placement()
    assert place(graph, load_scheme("cpu"), layers(graph)) == Placement()


def test_head_and_affinities_read_no_integers(graph: onnx.GraphProto) -> None:
    for name in scheme_names():
        for readers in placed(graph, name).activations.values():
            assert all(quantizable(node) for node, _ in readers)
