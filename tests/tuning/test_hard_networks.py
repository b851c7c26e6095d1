"""Networks that INT8 breaks: found, explained, repaired."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.calibration.rule import DEFAULT_RULE, RULES
from pkecho_edge.model.baseline import baseline_runner
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.processors import sums_products_exactly
from pkecho_edge.stages import SilentObserver
from pkecho_edge.tuning.choose import QuantizationOrder, choose_plan
from pkecho_edge.tuning.diagnosis import diagnose
from pkecho_edge.tuning.sensitivity import measure_sensitivity
from pkecho_edge.tuning.triage import triage
from pkecho_edge.tuning.workbench import Workbench

import onnx  # isort: skip

FACTOR = 1000
LIMITS = {"pixel_disagreement": 0.5, "ef_drift": 3.0, "hd95_drift": 3.0}


def one_large_channel(network: PKEchoNet) -> PKEchoNet:
    """A channel scaled by 1000 and its consumer by 1/1000: the same network in FP32."""
    hard = copy.deepcopy(network)
    block = hard.encoder_layer1[0]
    with torch.no_grad():
        block.bn1.weight[3] *= FACTOR
        block.bn1.bias[3] = block.bn1.bias[3] * FACTOR
        block.conv2.weight[:, 3] /= FACTOR
    return hard


def variance_near_zero(network: PKEchoNet) -> PKEchoNet:
    """A channel that hardly varies, so that its BatchNorm divides by next to nothing.

    It reads a channel that is constant, which FP32 subtracts again exactly; INT8 rounds the
    constant, and folding multiplies what it rounds off by 1 / sqrt(eps) = 316.
    """
    hard = copy.deepcopy(network)
    block = hard.encoder_layer2[0]
    with torch.no_grad():
        block.bn1.weight[3], block.bn1.bias[3] = 0, 0.37
        block.conv2.weight[5] = 0
        block.conv2.weight[5, 3, 1, 1] = 1
        block.bn2.running_mean[5], block.bn2.running_var[5] = 0.37, 0
        block.bn2.weight[5] = 1
    return hard


def pixels(bench: Workbench, plan: QuantizationPlan) -> float:
    return bench.trial(plan).pixel_disagreement


def found(bench: Workbench) -> set[tuple[str, str, int | None]]:
    held = bench.float_graph().activations
    return {(d.layer, d.kind, d.channel) for d in diagnose(onnx.load(bench.graph).graph, held)}


def test_an_ordinary_network_has_no_findings(
    trained: Any, bench_of: Callable[[PKEchoNet], Workbench]
) -> None:
    bench = bench_of(trained[0])

    assert found(bench) == set()
    assert pixels(bench, QuantizationPlan()) < 0.5
    walked = triage(bench, QuantizationPlan(), baseline_runner(trained[0]), SilentObserver())
    assert walked.first is None
    assert [stage.name for stage in walked.stages[:2]] == [
        "FP32 ONNX in ONNX Runtime",
        "float engine",
    ]
    assert walked.stages[-1].block == "upsamplers.0"


def test_a_large_channel_is_found_explained_and_repaired(
    trained: Any, bench_of: Callable[[PKEchoNet], Workbench]
) -> None:
    hard = one_large_channel(trained[0])
    bench = bench_of(hard)
    before = pixels(bench, QuantizationPlan())
    layer = "encoder.stages.0.0.convolutions.1"

    assert ("encoder.stages.0.0.convolutions.1", "uneven channels", 3) in found(bench)
    rows = measure_sensitivity(bench, QuantizationPlan(), SilentObserver())
    worst = max(rows, key=lambda row: row.only.pixel_disagreement)
    assert layer.startswith(worst.block)
    assert min(rows, key=lambda row: row.all_but.badness).block == worst.block  # type: ignore[union-attr]

    order = QuantizationOrder(rules=(DEFAULT_RULE, RULES[-1]))
    chosen = choose_plan(bench, "cpu", order, LIMITS, SilentObserver())
    assert chosen.plan.rule.smoothing > 0
    after = pixels(bench, chosen.plan)
    print(f"one channel x1000: {before:.3f} % of pixels, repaired {after:.3f} %")
    assert after < before / 3


def test_where_no_rule_helps_layers_return_to_float(
    trained: Any, bench_of: Callable[[PKEchoNet], Workbench]
) -> None:
    """The same network, without the rule that repairs it."""
    bench = bench_of(one_large_channel(trained[0]))
    before = pixels(bench, QuantizationPlan())
    limits = {"pixel_disagreement": before / 2, "ef_drift": 100.0, "hd95_drift": 100.0}

    order = QuantizationOrder(rules=(DEFAULT_RULE,))
    chosen = choose_plan(bench, "cpu", order, limits, SilentObserver())

    assert chosen.restoring is not None
    assert "encoder.stages.0.0.convolutions.1" in chosen.plan.float_layers
    assert len(chosen.restoring.restored) <= 2
    assert chosen.restoring.failed_before
    assert not chosen.restoring.failed_after
    assert pixels(bench, chosen.plan) <= before / 2


def test_outlier_weights_are_found_and_the_layer_returns_to_float(
    outliers: PKEchoNet, bench_of: Callable[[PKEchoNet], Workbench]
) -> None:
    """Each kernel of the first layer has two large weights; it was trained around them."""
    bench = bench_of(outliers)
    before = pixels(bench, QuantizationPlan())
    limits = {"pixel_disagreement": before * 0.7, "ef_drift": 100.0, "hd95_drift": 100.0}

    assert {(layer, kind) for layer, kind, _ in found(bench)} == {
        ("encoder.stem", "outlier weights")
    }
    order = QuantizationOrder(rules=(DEFAULT_RULE,))
    chosen = choose_plan(bench, "cpu", order, limits, SilentObserver())
    after = pixels(bench, chosen.plan)

    print(f"outlier weights: {before:.3f} % of pixels, repaired {after:.3f} %")
    assert "encoder.stem" in chosen.plan.float_layers
    assert after <= before * 0.7


def test_a_variance_near_zero_is_found_and_the_layer_returns_to_float(
    trained: Any, bench_of: Callable[[PKEchoNet], Workbench]
) -> None:
    layer = "encoder.stages.1.0.convolutions.1"
    bench = bench_of(variance_near_zero(trained[0]))
    # elsewhere sums that saturate would hide what this layer does
    scheme = "cpu" if sums_products_exactly() else "cpu-avx2"
    before = pixels(bench, QuantizationPlan(scheme))
    limits = {"pixel_disagreement": before / 2, "ef_drift": 100.0, "hd95_drift": 100.0}

    assert (layer, "amplified channel", 5) in found(bench)
    order = QuantizationOrder(rules=(DEFAULT_RULE,))
    chosen = choose_plan(bench, scheme, order, limits, SilentObserver())
    after = pixels(bench, chosen.plan)

    print(f"variance near zero: {before:.3f} % of pixels, repaired {after:.3f} %")
    assert layer in chosen.plan.float_layers
    assert after <= before / 2


def test_triage_names_the_first_stage_that_diverges(
    trained: Any, bench_of: Callable[[PKEchoNet], Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(one_large_channel(trained[0]))
    monkeypatch.setattr("pkecho_edge.tuning.triage.LIMIT", 0.3)

    walked = triage(bench, QuantizationPlan(), baseline_runner(trained[0]), SilentObserver())

    first = walked.first
    assert first is not None
    assert first.block == "encoder.stages.0.0"
    assert walked.as_dict()["first"] == "INT8 up to encoder.stages.0.0"
