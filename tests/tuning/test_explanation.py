"""Sensitivity and triage of a small trained network, and causes in layers drawn by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pkecho_edge.calibration.activations import TensorActivations
from pkecho_edge.calibration.graph import block_of
from pkecho_edge.calibration.histogram import Histogram
from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.calibration.quantize import QuantizationReport
from pkecho_edge.calibration.rule import RangeRule
from pkecho_edge.model.baseline import baseline_runner
from pkecho_edge.stages import SilentObserver
from pkecho_edge.tuning import diagnosis
from pkecho_edge.tuning.diagnosis import diagnose
from pkecho_edge.tuning.restore import all_layers, layer_gmacs
from pkecho_edge.tuning.sensitivity import BlockRow, block_outputs, measure_sensitivity
from pkecho_edge.tuning.triage import triage
from pkecho_edge.tuning.workbench import Trial, Workbench

TWO = "encoder.stages.0.0", "reduction"


@pytest.fixture
def bench(trained: Any, bench_of: Callable[..., Workbench]) -> Workbench:
    return bench_of(trained[0])


# Sensitivity


def test_only_and_all_but_are_trials_of_complements(bench: Workbench) -> None:
    layers, gmacs = all_layers(bench), layer_gmacs(bench)
    kept = tuple(layer for layer in layers if block_of(layer) not in TWO)

    rows = measure_sensitivity(bench, QuantizationPlan(float_layers=kept), SilentObserver())

    assert tuple(row.block for row in rows) == TWO
    assert rows[0].only == rows[1].all_but  # of two blocks
    for row in rows:
        inside = {layer for layer in layers if block_of(layer) == row.block}
        assert set(row.only.plan.float_layers) == set(layers) - inside
        assert row.gmacs == pytest.approx(sum(gmacs[layer] for layer in inside))
        assert 15 < row.snr_db < 80  # 8 bits are about 48 dB
        assert row.time_share is None  # this target has no profile
        assert json.loads(json.dumps(row.as_dict(), allow_nan=False))["block"] == row.block


def test_the_stem_ends_behind_its_pool_and_the_last_upsampler_with_the_logits(
    bench: Workbench,
) -> None:
    blocks = ["encoder.stem", "encoder.stages.3.1", "upsamplers.0"]

    outputs = block_outputs(onnx.load(bench.graph).graph, blocks)

    assert outputs["encoder.stem"] == ["/encoder/pool/MaxPool_output_0"]
    assert outputs["encoder.stages.3.1"] == ["/encoder/stages.3/stages.3.1/Relu_1_output_0"]
    assert "logits" in outputs["upsamplers.0"]


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_ratio_that_is_no_number_is_none_in_json(value: float) -> None:
    trial = Trial(QuantizationPlan(), 0.1, 99.9, float("nan"), 40.0)

    found = BlockRow("reduction", trial, None, value, None, 0.1).as_dict()

    assert found["snr_db"] is None
    json.dumps(found, allow_nan=False)


# Triage


def spoil(path: Path, tensor: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Change one initializer of a graph."""
    model = onnx.load(path)
    (found,) = [each for each in model.graph.initializer if each.name == tensor]
    found.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(found)), tensor))
    onnx.save(model, path)


@dataclass
class BrokenScale(Workbench):
    """A quantizer that writes one scale far too large."""

    def quantize(self, plan: QuantizationPlan, path: Path) -> QuantizationReport:
        report = super().quantize(plan, path)
        name = "/encoder/stages.1/stages.1.1/Relu_output_0_scale"
        if name in {tensor.name for tensor in onnx.load(path).graph.initializer}:
            spoil(path, name, lambda scale: np.asarray(scale * 300, dtype=np.float32))
        return report


def test_a_broken_weight_is_a_fault_of_the_onnx(trained: Any, bench: Workbench) -> None:
    nodes = onnx.load(bench.graph).graph.node
    weight = next(node.input[1] for node in nodes if node.name == "/encoder/stem/Conv")
    spoil(bench.graph, weight, lambda values: np.full_like(values, np.nan))

    walked = triage(bench, QuantizationPlan(), baseline_runner(trained[0]), SilentObserver())

    assert [stage.name for stage in walked.stages] == ["FP32 ONNX in ONNX Runtime"]
    assert walked.stages[0].pixel_disagreement == 100


def test_a_broken_scale_is_a_fault_of_its_block(trained: Any, bench: Workbench) -> None:
    broken = BrokenScale(
        bench.graph, bench.calibration, bench.clips, bench.target, bench.options, bench.folder
    )

    walked = triage(broken, QuantizationPlan(), baseline_runner(trained[0]), SilentObserver())

    assert walked.first is not None
    assert walked.first.block == "encoder.stages.1.1"


def test_a_network_that_overflows_is_no_fault_of_the_engine(bench: Workbench) -> None:
    def overflows(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full(frames.shape, np.inf, dtype=np.float32)

    walked = triage(bench, QuantizationPlan(), overflows, SilentObserver())

    assert [stage.name for stage in walked.stages] == ["PyTorch network"]
    assert walked.first is walked.stages[0]


def test_evened_channels_are_a_stage_of_their_own(trained: Any, bench: Workbench) -> None:
    kept = tuple(layer for layer in all_layers(bench) if layer != "reduction.convolution")
    plan = QuantizationPlan(rule=RangeRule(smoothing=0.5), float_layers=kept)

    walked = triage(bench, plan, baseline_runner(trained[0]), SilentObserver())

    assert [stage.name for stage in walked.stages[1:]] == [
        "float engine",
        "float engine, channels evened out",
        "INT8 up to reduction",
    ]
    assert walked.first is None


# Causes

EVEN = np.random.default_rng(0).normal(size=(8, 4, 3, 3)).astype(np.float32)


def graph_of(weight: NDArray[np.float32]) -> onnx.GraphProto:
    """One convolution, which reads `x`."""
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="/encoder/stem/Conv")
    return helper.make_graph([node], "one", [], [], [numpy_helper.from_array(weight, "w")])


def held(*channels: float) -> TensorActivations:
    """Channels that each fill zero to their largest value evenly."""
    values = np.concatenate([np.linspace(0, top, 1000, dtype=np.float32) for top in channels])
    largest = np.array(channels, dtype=np.float32)
    histogram = Histogram.of(values, float(values.max()))
    return TensorActivations(
        np.zeros_like(largest), largest, np.zeros((len(channels), 1, 1)), histogram
    )


def causes(
    weight: NDArray[np.float32], tensor: TensorActivations
) -> list[tuple[str, int | None, float]]:
    found = diagnose(graph_of(weight), {"x": tensor}, RangeRule())
    return [(each.kind, each.channel, each.ratio) for each in found]


def test_an_even_layer_has_no_cause_nor_have_dead_channels() -> None:
    assert causes(EVEN, held(1, 2, 1, 0.5)) == []
    assert causes(EVEN, held(1, 0, 1, 0)) == []


@pytest.mark.parametrize(("ratio", "told"), [(19, False), (21, True)])
def test_an_uneven_channel_is_told_from_twenty_times_on(ratio: float, told: bool) -> None:
    found = causes(EVEN, held(1, 1, ratio, 1))

    assert found == ([("uneven channels", 2, pytest.approx(ratio))] if told else [])


def test_an_input_that_never_leaves_zero_is_dead() -> None:
    ((kind, channel, ratio),) = causes(EVEN, held(0, 0, 0, 0))

    assert (kind, channel) == ("dead input", None)
    assert np.isnan(ratio)


def test_outlier_weights_are_told_also_where_two_cancel() -> None:
    weight = EVEN.copy()
    weight[5].reshape(-1)[:2] = 100, -100

    kinds = {kind: channel for kind, channel, _ in causes(weight, held(1, 1, 1, 1))}

    assert kinds["outlier weights"] == 5


def test_an_amplified_channel_is_no_outlier() -> None:
    weight = EVEN.copy()
    weight[3] *= 100

    ((kind, channel, ratio),) = causes(weight, held(1, 1, 1, 1))

    assert (kind, channel) == ("amplified channel", 3)
    assert ratio == pytest.approx(100, rel=0.5)


def test_what_a_rule_cuts_off_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "activation_range", lambda *_: (0.0, 0.75))

    ((kind, channel, ratio),) = causes(EVEN, held(1, 1, 1, 1))

    assert (kind, channel) == ("clipped input", None)
    assert ratio == pytest.approx(25, abs=0.5)


def test_a_finding_says_layer_channel_figure_and_remedy() -> None:
    (found,) = diagnose(graph_of(EVEN), {"x": held(1, 1, 1000, 1)})

    assert found.message.startswith("encoder.stem: input channel 2 reaches 1,000 times")
    assert "smooth 0.5" in found.message
