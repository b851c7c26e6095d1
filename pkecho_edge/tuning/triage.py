"""Where an engine first leaves its network: FP32 ONNX, float engine, INT8 block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge import targets
from pkecho_edge.calibration.graph import block_of
from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.stages import Observer
from pkecho_edge.tuning.restore import quantized_layers
from pkecho_edge.tuning.workbench import Workbench

__all__ = ["LIMIT", "Network", "Stage", "Triage", "triage"]

LIMIT = 0.5
"""Percent of pixels: a stage that differs by more has diverged. INT8 differs by 0.02 to 0.05."""

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Stage:
    """One step on the way.

    Attributes:
        name: "PyTorch network" where already its logits are not finite, "FP32 ONNX in ONNX
            Runtime", "float engine", the same with channels evened out where the rule does so,
            "INT8 up to encoder.stages.0.0", ...
        block: that was quantized last; "" before INT8.
        pixel_disagreement: percent of pixels that differ from the baseline's; 100 where a logit is
            not finite.
    """

    name: str
    block: str
    pixel_disagreement: float


@dataclass(frozen=True)
class Triage:
    """The stages in order, and the first that diverges."""

    stages: tuple[Stage, ...]

    @property
    def first(self) -> Stage | None:
        """The first stage beyond the limit; None where none is."""
        return next((s for s in self.stages if s.pixel_disagreement > LIMIT), None)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        first = self.first
        return {
            "limit": LIMIT,
            "stages": [asdict(stage) for stage in self.stages],
            "first": None if first is None else first.name,
        }


def triage(
    bench: Workbench, plan: QuantizationPlan, baseline: Network, observer: Observer
) -> Triage:
    """Walk from the network to the engine until a stage diverges.

    Args:
        bench: with the clips to measure on.
        plan: of the engine.
        baseline: the PyTorch network, u8 [T, 1, H, W] -> f32 [T, 1, H, W].
        observer: hears about each stage.
    """
    logits = [baseline(clip.frames) for clip in bench.clips]
    if not _finite(logits):
        return Triage((Stage("PyTorch network", "", 100.0),))
    expected = [each > 0 for each in logits]
    stages: list[Stage] = []
    for name, block, found in _stages(bench, plan):
        stages.append(Stage(name, block, _differing(expected, found)))
        observer.advance()
        if stages[-1].pixel_disagreement > LIMIT:
            break
    return Triage(tuple(stages))


def _stages(
    bench: Workbench, plan: QuantizationPlan
) -> Iterator[tuple[str, str, Sequence[NDArray[np.float32]]]]:
    # one after the other: a graph that is broken cannot be observed, or evened out
    if targets.get("onnxruntime").missing() is None:
        yield "FP32 ONNX in ONNX Runtime", "", replace(bench, target="onnxruntime").run(bench.graph)
    yield "float engine", "", bench.float_logits()
    if plan.rule.smoothing:
        even = bench.smoothed(plan.rule.smoothing)
        yield "float engine, channels evened out", "", bench.run(even)
    layers = quantized_layers(bench, plan)
    blocks = list(dict.fromkeys(block_of(layer) for layer in layers))
    for number, block in enumerate(blocks, start=1):
        later = [layer for layer in layers if block_of(layer) in blocks[number:]]
        partial = replace(plan, float_layers=(*plan.float_layers, *later))
        yield f"INT8 up to {block}", block, bench.logits(partial)


def _differing(
    expected: Sequence[NDArray[np.bool_]], logits: Sequence[NDArray[np.float32]]
) -> float:
    if not _finite(logits):
        return 100.0
    shares = [(mask != (found > 0)).mean() for mask, found in zip(expected, logits, strict=True)]
    return 100 * float(np.mean(shares))


def _finite(logits: Sequence[NDArray[np.float32]]) -> bool:
    return all(np.isfinite(found).all() for found in logits)
