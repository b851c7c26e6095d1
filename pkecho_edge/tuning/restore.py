"""Layers return to float, best gain for cost first, until every accuracy gate passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx

from pkecho_edge.calibration.graph import GraphView, layer_of
from pkecho_edge.calibration.placement import layers, place
from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.calibration.scheme import load_scheme
from pkecho_edge.stages import Observer
from pkecho_edge.tuning.workbench import Workbench
from pkecho_edge.verify.gates import Gate, evaluate_gates

__all__ = ["RestoreReport", "RestoredLayer", "all_layers", "failed_gates", "layer_gmacs"]
__all__ += ["quantized_layers", "restore"]


@dataclass(frozen=True)
class RestoredLayer:
    """A layer that returned to float.

    Attributes:
        layer: its name.
        gain: fewer pixels that differ, in percent of the image, when it alone returns.
        gmacs: per clip, that are float now: the cost.
    """

    layer: str
    gain: float
    gmacs: float


@dataclass(frozen=True)
class RestoreReport:
    """What was restored, and whether it was enough.

    Attributes:
        plan: with the restored layers in float.
        restored: in the order in which they returned.
        failed_before: the gates that were false at first, as text.
        failed_after: those that still are; empty where every gate passes or cannot be measured.
        measurements: how often all gates were measured.
    """

    plan: QuantizationPlan
    restored: tuple[RestoredLayer, ...]
    failed_before: tuple[str, ...]
    failed_after: tuple[str, ...]
    measurements: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "restored": [vars(layer) for layer in self.restored],
            "failed_before": list(self.failed_before),
            "failed_after": list(self.failed_after),
            "measurements": self.measurements,
        }


def restore(
    bench: Workbench, plan: QuantizationPlan, limits: Mapping[str, float], observer: Observer
) -> RestoreReport:
    """Return layers to float until the gates pass on the trial clips; none where they pass at once.

    A layer's gain is what its return alone spares in pixels that differ; its cost its MACs, which,
    unlike a timing, are the same in every run. After the gates pass, each restored layer that turns
    out not to be needed is quantized again. The last quantized layer never returns: a network of
    which nothing may be quantized fails its gates, and says so. And none returns where the float
    engine fails its gates itself, as a network may that was pruned too far.

    Args:
        bench: with the clips to measure on.
        plan: to start from.
        limits: of the gates; those of speed do not count here.
        observer: hears about each measurement.
    """
    judge = _Judge(bench, limits, observer)
    before = judge.failed(plan)
    # what a pruned network lost before it was quantized, no layer in float brings back
    beyond = bench.reference is not None and before and judge.failed(None)
    if not before or beyond:
        return RestoreReport(plan, (), before, before, judge.measurements)
    restored: list[RestoredLayer] = []
    failed = before
    for layer in _by_gain(bench, plan, observer)[:-1]:  # one must be left to quantize
        restored.append(layer)
        failed = judge.failed(_with(plan, restored))
        if not failed:
            break
    if not failed:
        restored = _needed(plan, restored, judge)
    return RestoreReport(_with(plan, restored), tuple(restored), before, failed, judge.measurements)


@dataclass
class _Judge:
    """Measures plans against the gates and counts."""

    bench: Workbench
    limits: Mapping[str, float]
    observer: Observer
    measurements: int = 0

    def failed(self, plan: QuantizationPlan | None) -> tuple[str, ...]:
        """The accuracy gates that are false; of the float engine for no plan."""
        self.measurements += 1
        failed = failed_gates(self.bench, plan, self.limits)
        self.observer.advance()
        return failed


def failed_gates(
    bench: Workbench, plan: QuantizationPlan | None, limits: Mapping[str, float]
) -> tuple[str, ...]:
    """The accuracy gates that are false on the trial clips, as text; not those of speed."""
    gates = evaluate_gates("clip", bench.accuracy(plan), None, limits)
    return tuple(str(gate) for gate in gates if _counts(gate))


def _counts(gate: Gate) -> bool:
    return gate.passed is False and not gate.is_speed


def _with(plan: QuantizationPlan, restored: list[RestoredLayer]) -> QuantizationPlan:
    return replace(plan, float_layers=(*plan.float_layers, *(r.layer for r in restored)))


def _by_gain(bench: Workbench, plan: QuantizationPlan, observer: Observer) -> list[RestoredLayer]:
    """The quantized layers, the best gain per MAC first, those without gain last."""
    candidates = quantized_layers(bench, plan)
    if len(candidates) < 2:
        return []
    whole = bench.trial(plan).pixel_disagreement
    gmacs = layer_gmacs(bench)
    found = []
    for layer in candidates:
        alone = replace(plan, float_layers=(*plan.float_layers, layer))
        gain = whole - bench.trial(alone).pixel_disagreement
        found.append(RestoredLayer(layer, gain, gmacs[layer]))
        observer.advance()
    return sorted(
        found, key=lambda r: (r.gain <= 0, -r.gain / r.gmacs if r.gain > 0 else r.gmacs, r.layer)
    )


def _needed(
    plan: QuantizationPlan, restored: list[RestoredLayer], judge: _Judge
) -> list[RestoredLayer]:
    """Without the layers whose return turned out not to matter, the dearest tried first."""
    kept = list(restored)
    for layer in sorted(restored, key=lambda r: (-r.gmacs, r.layer)):
        fewer = [each for each in kept if each is not layer]
        if fewer and not judge.failed(_with(plan, fewer)):
            kept = fewer
    return kept


def all_layers(bench: Workbench) -> list[str]:
    """Every layer that can be quantized, in the graph's order."""
    return layers(onnx.load(bench.graph).graph)


def quantized_layers(bench: Workbench, plan: QuantizationPlan) -> list[str]:
    """The layers that a plan quantizes, in the graph's order."""
    graph = onnx.load(bench.graph).graph
    names = set(place(graph, load_scheme(plan.scheme), plan.float_layers).convolutions)
    chosen = {layer_of(name) for name in names}
    return [layer for layer in layers(graph) if layer in chosen]


def layer_gmacs(bench: Workbench) -> dict[str, float]:
    """Layer -> multiply-accumulates of one clip, in 1e9."""
    model = onnx.shape_inference.infer_shapes(onnx.load(bench.graph))
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.output)
    }
    view = GraphView(model.graph)
    found: dict[str, float] = {}
    for node in view.convolutions():
        frames, channels, height, width = shapes[node.output[0]]
        weight = view.constants[node.input[1]]
        macs = frames * channels * height * width * weight[0].size
        layer = layer_of(node.name)
        found[layer] = found.get(layer, 0.0) + macs / 1e9
    return found
