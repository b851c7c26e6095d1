"""What is observed: the figures of the tensors themselves, whatever the number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pkecho_edge.calibration import activations
from pkecho_edge.calibration.activations import (
    ClipActivations,
    channel_ranges,
    merge_activations,
    observe,
    observed_tensors,
)
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CalibrationError


def tensors_of(path: Path, names: list[str], clip: Clip) -> dict[str, NDArray[np.float32]]:
    """The tensors themselves, by a plain run."""
    model = onnx.load(path)
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(names, {"frames": clip.frames}), strict=True))


def equal(one: ClipActivations, other: ClipActivations) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(a.minimum, b.minimum)
        and np.array_equal(a.maximum, b.maximum)
        and np.array_equal(a.mean, b.mean)
        and np.array_equal(a.histogram.counts, b.histogram.counts)
        and a.histogram.exponent == b.histogram.exponent
        for a, b in ((one[name], other[name]) for name in one)
    )


def test_the_figures_are_those_of_the_tensors(
    quantized: Any, observed: list[ClipActivations], phantoms: list[Clip]
) -> None:
    for clip, found in zip(phantoms, observed, strict=True):
        tensors = tensors_of(quantized.graph, list(found), clip)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(found[name].minimum, tensor.min(axis=(0, 2, 3)))
            np.testing.assert_array_equal(found[name].maximum, tensor.max(axis=(0, 2, 3)))
            mean = tensor.mean(axis=0, dtype=np.float64)
            np.testing.assert_allclose(found[name].mean, mean, rtol=1e-5, atol=1e-6)
            # small tensors are counted whole, large ones by a lattice of about 2 ** 18
            assert 0.2 * 2**18 < found[name].histogram.counts.sum() <= 2**18 or (
                found[name].histogram.counts.sum() == tensor.size
            )


def test_a_large_tensor_is_sampled_on_a_lattice(
    quantized: Any, phantoms: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "SAMPLES_PER_CLIP", 1 << 12)
    (found,) = observe(quantized.graph, phantoms[:1])
    name = "/encoder/pool/MaxPool_output_0"  # 4 x 16 x 24 x 24 values: every third row and column
    tensor = tensors_of(quantized.graph, [name], phantoms[0])[name]
    lattice = tensor[:, :, ::3, ::3]

    assert found[name].histogram.counts.sum() == lattice.size
    centres = np.repeat(found[name].histogram.centres, found[name].histogram.counts)
    np.testing.assert_allclose(
        centres, np.sort(lattice, axis=None), atol=found[name].histogram.width / 2
    )
    np.testing.assert_array_equal(found[name].maximum, tensor.max(axis=(0, 2, 3)))


def test_what_any_scheme_quantizes_is_observed(quantized: Any, schemed: Any) -> None:
    names = set(observed_tensors(onnx.load(quantized.graph).graph))

    for paths in schemed.values():
        graph = onnx.load(paths["clip"]).graph
        constants = {tensor.name for tensor in graph.initializer}
        quantizers = [node for node in graph.node if node.op_type == "QuantizeLinear"]
        assert quantizers
        for node in quantizers:
            if node.input[0] not in constants | {"/encoder/Relu_output_0"}:  # as its pool's output
                assert node.input[0] in names


def test_the_number_of_threads_changes_no_figure(
    quantized: Any, phantoms: list[Clip], observed: list[ClipActivations]
) -> None:
    for threads in (1, 2):
        found = list(observe(quantized.graph, phantoms, threads))

        assert len(found) == len(observed)
        assert all(map(equal, found, observed))


def test_clips_are_taken_as_they_are_needed(quantized: Any, phantoms: list[Clip]) -> None:
    """A set that is read from a disk must not lie in memory as a whole."""
    taken = []

    def one_by_one() -> Iterator[Clip]:
        for clip in phantoms * 2:
            taken.append(threading.get_ident())
            yield clip

    found = observe(quantized.graph, one_by_one(), threads=2)
    next(found)

    assert len(taken) == 2
    assert len(list(found)) == 5


def test_together_is_the_mean_of_all_and_the_extremes_of_any(
    observed: list[ClipActivations], statistics: ClipActivations
) -> None:
    for name, tensor in statistics.items():
        parts = [clip[name] for clip in observed]
        assert tensor.clips == 3
        np.testing.assert_array_equal(tensor.minimum, np.min([p.minimum for p in parts], axis=0))
        np.testing.assert_array_equal(tensor.maximum, np.max([p.maximum for p in parts], axis=0))
        expected = np.mean([p.mean for p in parts], axis=0, dtype=np.float64)
        np.testing.assert_allclose(tensor.mean, expected)
        total = sum(part.histogram.counts.sum() for part in parts)
        assert tensor.histogram.counts.sum() == total


def test_means_weigh_by_clips(observed: list[ClipActivations]) -> None:
    two = merge_activations(observed[:2])

    assert all(
        np.allclose(a.mean, b.mean)
        for a, b in zip(
            merge_activations([two, observed[2]]).values(),
            merge_activations(observed).values(),
            strict=True,
        )
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(
    quantized: Any, phantoms: list[Clip], tmp_path: Path, value: float
) -> None:
    """One channel of many, behind a ReLU that may or may not let it pass."""
    model = onnx.load(quantized.graph)
    name = "encoder.stages.1.0.downsample.bias"
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(bias).copy()
    values[3] = value
    bias.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "wild.onnx")
    clips = [phantoms[0], replace(phantoms[1], identifier="second")]

    with pytest.raises(CalibrationError, match=r"not finite in /encoder/stages.1/stages.1.0/") as r:
        list(observe(tmp_path / "wild.onnx", clips))

    assert phantoms[0].identifier in str(r.value)
    assert str(tmp_path / "wild.onnx") in str(r.value)


def test_a_single_value_that_is_not_a_number_is_named(phantoms: list[Clip], tmp_path: Path) -> None:
    """Extrema of ONNX Runtime pass over it where it is not the first."""
    shape = list(phantoms[0].frames.shape)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frames"], ["grey"], "/cast", to=TensorProto.FLOAT),
            helper.make_node("Div", ["grey", "grey"], ["share"], "/share"),
            helper.make_node("Conv", ["share", "weight"], ["logits"], "/stem/Conv"),
        ],
        "graph",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "weight")],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "some.onnx")
    frames = np.full(shape, 255, np.uint8)
    frames[1, 0, 40, 50] = 0  # 0 / 0

    with pytest.raises(CalibrationError, match="not finite in share"):
        list(observe(tmp_path / "some.onnx", [replace(phantoms[0], frames=frames)]))


def test_without_clips_there_is_nothing_to_observe(quantized: Any) -> None:
    assert list(observe(quantized.graph, [])) == []
    assert channel_ranges(quantized.graph, []).shape == (0, 0, 2)
    with pytest.raises(CalibrationError, match="no calibration clips"):
        merge_activations([])


def test_ranges_of_channels_are_the_extrema_clip_by_clip(
    quantized: Any, phantoms: list[Clip], observed: list[ClipActivations]
) -> None:
    ranges = channel_ranges(quantized.graph, phantoms)

    for row, found in zip(ranges, observed, strict=True):
        minima, maxima = (
            np.concatenate([getattr(tensor, which) for tensor in found.values()])
            for which in ("minimum", "maximum")
        )
        np.testing.assert_array_equal(row, np.stack([minima, maxima], axis=-1))
