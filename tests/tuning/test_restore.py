"""Which layers return to float, on a bench whose accuracy is what the test says it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.calibration.rule import RangeRule
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UsageError
from pkecho_edge.lowering.onnx_export import export_clip_onnx
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.stages import SilentObserver
from pkecho_edge.targets.base import CompileOptions
from pkecho_edge.tuning.choose import QuantizationOrder, choose_plan, choose_rule, rules_of
from pkecho_edge.tuning.restore import (
    RestoreReport,
    all_layers,
    layer_gmacs,
    quantized_layers,
    restore,
)
from pkecho_edge.tuning.workbench import Trial, Workbench
from pkecho_edge.verify.accuracy import AccuracyResult, summarize_rows
from pkecho_edge.verify.scores import score_clip

SIDE = 96
LIMITS = {"pixel_disagreement": 0.5}
STEM, INNER, LAST = "encoder.stem", "encoder.stages.2.0.convolutions.1", "upsamplers.0.scores"


@dataclass
class Scripted(Workbench):
    """Pixels that differ are the sum over the layers in INT8; nothing is compiled.

    Attributes:
        truly: layer -> percent of pixels, for the gates.
        seemingly: the same for single trials, where it is another.
        by_rule: rule -> percent that it adds to trials.
        tried: float layers of every trial.
        pruned: percent of pixels that the float engine itself is away from the reference.
    """

    truly: Mapping[str, float] = field(default_factory=dict)
    seemingly: Mapping[str, float] | None = None
    by_rule: Mapping[str, float] = field(default_factory=dict)
    tried: list[tuple[str, ...]] = field(default_factory=list)
    pruned: float = 0.0

    def _percent(self, plan: QuantizationPlan, costs: Mapping[str, float]) -> float:
        return sum(costs.get(layer, 0.0) for layer in quantized_layers(self, plan))

    def trial(self, plan: QuantizationPlan) -> Trial:
        self.tried.append(plan.float_layers)
        percent = self._percent(plan, self.truly if self.seemingly is None else self.seemingly)
        percent += self.by_rule.get(plan.rule.name, 0.0)
        return Trial(plan, percent, 100 - percent, 0.0, 40.0)

    def accuracy(self, plan: QuantizationPlan | None) -> AccuracyResult:
        expected = np.full((1, 1, SIDE, SIDE), -1, dtype=np.float32)
        expected[..., : SIDE // 2] = 1
        found = expected.copy()
        percent = self.pruned if plan is None else self.pruned + self._percent(plan, self.truly)
        found.reshape(-1)[: round(found.size * percent / 100)] *= -1
        return summarize_rows([score_clip(self.clips[0], expected, found)])


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    inner = (((8,), (8,)), ((8,), (8,)), ((16,), (16,)), ((16,), (16,)))
    network = PKEchoNet(NetworkConfig(frames=3, widths=Widths(8, (8, 8, 16, 16), inner))).eval()
    path = tmp_path_factory.mktemp("graph") / "clip.onnx"
    frames = np.random.default_rng(0).integers(0, 256, (3, 1, SIDE, SIDE), dtype=np.uint8)
    export_clip_onnx(network, (SIDE, SIDE), path, frames)
    return path


@pytest.fixture
def bench(graph: Path, tmp_path: Path) -> Scripted:
    frames = np.zeros((1, 1, SIDE, SIDE), dtype=np.uint8)
    clip = Clip("a", "a", "a", "phantom", frames, (0,), labelled=(False,))
    return Scripted(graph, [clip], [clip], "cpu", CompileOptions(), tmp_path)


def run(bench: Scripted, plan: QuantizationPlan | None = None) -> RestoreReport:
    return restore(bench, plan or QuantizationPlan(), LIMITS, SilentObserver())


def names(report: RestoreReport) -> list[str]:
    return [layer.layer for layer in report.restored]


def test_where_the_gates_pass_nothing_is_tried(bench: Scripted) -> None:
    bench.truly = {STEM: 0.4}

    report = run(bench)

    assert report == RestoreReport(QuantizationPlan(), (), (), (), 1)
    assert bench.tried == []


def test_exactly_the_layers_that_hurt_return(bench: Scripted) -> None:
    bench.truly = {STEM: 2.0, LAST: 1.0, INNER: 0.1}

    report = run(bench)

    assert set(names(report)) == {STEM, LAST} == set(report.plan.float_layers)
    gains = {layer.layer: layer.gain for layer in report.restored}
    assert gains == pytest.approx({STEM: 2.0, LAST: 1.0})
    assert "pixel_disagreement" in report.failed_before[0]
    assert report.failed_after == ()


def test_the_best_gain_for_its_cost_returns_first(bench: Scripted) -> None:
    gmacs = layer_gmacs(bench)
    cheap, dear = sorted((STEM, "reduction.convolution"), key=gmacs.__getitem__)
    assert gmacs[cheap] < gmacs[dear] / 2
    bench.truly = {cheap: 0.6, dear: 1.0}  # the dear one gains more, but not for its cost

    assert names(run(bench)) == [cheap, dear]


def test_a_layer_that_was_not_needed_is_quantized_again(bench: Scripted) -> None:
    bench.truly, bench.seemingly = {INNER: 2.0}, {STEM: 50.0, INNER: 0.01}

    report = run(bench)

    assert names(report) == [INNER]
    assert report.failed_after == ()


def test_what_no_layer_cures_fails_and_one_stays_quantized(bench: Scripted) -> None:
    bench.truly = dict.fromkeys(all_layers(bench), 2.0)

    report = run(bench)

    assert len(report.restored) == len(all_layers(bench)) - 1
    assert len(quantized_layers(bench, report.plan)) == 1
    assert "pixel_disagreement" in report.failed_after[0]


def test_nothing_returns_where_pruning_alone_has_lost_too_much(bench: Scripted) -> None:
    bench.truly, bench.pruned = {STEM: 2.0}, 0.6
    bench.reference = lambda frames: np.zeros(frames.shape, dtype=np.float32)

    report = run(bench)

    assert names(report) == []
    assert report.failed_before == report.failed_after != ()
    assert bench.tried == []


def test_layers_return_where_quantization_is_what_fails(bench: Scripted) -> None:
    bench.truly, bench.pruned = {STEM: 2.0}, 0.2
    bench.reference = lambda frames: np.zeros(frames.shape, dtype=np.float32)

    assert names(run(bench)) == [STEM]


def test_gates_are_held_against_the_reference_where_there_is_one(
    bench: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    other = np.full((1, 1, SIDE, SIDE), 3, dtype=np.float32)
    plain = Workbench(bench.graph, bench.clips, bench.clips, "cpu", CompileOptions(), bench.folder)
    pruned = replace(plain, reference=lambda frames: seen.append(frames) or other)
    monkeypatch.setattr(Workbench, "run", lambda *_: [np.zeros_like(other)])

    assert pruned.reference_logits()[0] is pruned.reference_logits()[0] is other
    assert len(seen) == 1  # asked once
    assert plain.reference_logits() is plain.float_logits()


def test_the_only_quantized_layer_never_returns(bench: Scripted) -> None:
    bench.truly = {STEM: 2.0}
    others = tuple(layer for layer in all_layers(bench) if layer != STEM)

    report = run(bench, QuantizationPlan(float_layers=others))

    assert report.restored == ()
    assert report.failed_after == report.failed_before != ()


def test_layers_that_the_scheme_keeps_in_float_are_not_tried(bench: Scripted) -> None:
    bench.truly = {STEM: 2.0}

    run(bench, QuantizationPlan("onnxruntime"))

    tried = {layer for layers in bench.tried for layer in layers}
    assert STEM in tried
    assert not [layer for layer in tried if layer.endswith("scores")]


def test_of_equal_rules_the_earlier_is_chosen(bench: Scripted) -> None:
    rules = (RangeRule("mse"), RangeRule(), RangeRule(weights="mse"))
    bench.by_rule = {rules[0].name: 1.0}

    trials = choose_rule(bench, QuantizationPlan(), rules, SilentObserver())
    turned = choose_rule(bench, QuantizationPlan(), rules[::-1], SilentObserver())

    assert [trial.plan.rule for trial in trials] == [rules[1], rules[2], rules[0]]
    assert turned[0].plan.rule == rules[2]


def test_no_rule_is_no_choice(bench: Scripted) -> None:
    with pytest.raises(UsageError, match="no range rule"):
        choose_rule(bench, QuantizationPlan(), (), SilentObserver())


def test_an_unknown_rule_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError) as refused:
        rules_of("best")
    assert "best" in str(refused.value)
    assert "minmax, percentile, mse" in str(refused.value)


def test_an_unknown_layer_is_refused_with_those_there_are(bench: Scripted) -> None:
    with pytest.raises(UsageError) as refused:
        choose_plan(bench, "cpu", QuantizationOrder(float_layers=("x",)), LIMITS, SilentObserver())
    assert "'x'" in str(refused.value)
    assert "encoder.stem, encoder.stages.0.0" in str(refused.value)


def test_every_layer_in_float_is_refused(bench: Scripted) -> None:
    order = QuantizationOrder(float_layers=tuple(all_layers(bench)))

    with pytest.raises(UsageError, match="every layer is kept in float"):
        choose_plan(bench, "cpu", order, LIMITS, SilentObserver())
