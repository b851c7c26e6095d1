"""Quantization on its own: Q/DQ graphs for any toolchain, with the reasons for what was chosen."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from pkecho_edge.building import export_graphs, quantize_graphs
from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.calibration.graph import block_of
from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.calibration.scheme import load_scheme
from pkecho_edge.clip_roles import calibration_clips_of, trial_clips_of
from pkecho_edge.data.sources import ClipSource
from pkecho_edge.errors import MissingDependency
from pkecho_edge.files import write_atomically
from pkecho_edge.stages import Observer, SilentObserver
from pkecho_edge.targets.base import CompileOptions
from pkecho_edge.tuning.choose import ChosenPlan, QuantizationOrder, choose_plan
from pkecho_edge.tuning.diagnosis import Diagnosis, diagnose
from pkecho_edge.tuning.pictures import draw_sensitivity
from pkecho_edge.tuning.restore import failed_gates
from pkecho_edge.tuning.sensitivity import BlockRow, measure_sensitivity
from pkecho_edge.tuning.triage import Network, Triage, triage
from pkecho_edge.tuning.workbench import Workbench, measuring_target
from pkecho_edge.verify.gates import DEFAULT_LIMITS

__all__ = ["Explanation", "QuantizeResult", "quantize"]


@dataclass(frozen=True)
class Explanation:
    """Where INT8 hurts.

    Attributes:
        rows: one per block.
        whole: percent of pixels that differ with every block quantized.
        diagnoses: causes found in weights and statistics.
        triage: the walk from the network to the engine.
    """

    rows: tuple[BlockRow, ...]
    whole: float
    diagnoses: tuple[Diagnosis, ...]
    triage: Triage

    @property
    def reasons(self) -> tuple[Diagnosis, ...]:
        """The causes in the block at which the engine first leaves its network."""
        first = self.triage.first
        return tuple(d for d in self.diagnoses if first and block_of(d.layer) == first.block)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "schema": "pkecho-edge/explanation/1",
            "pixel_disagreement": self.whole,
            "blocks": [row.as_dict() for row in self.rows],
            "diagnoses": [diagnosis.as_dict() for diagnosis in self.diagnoses],
            "triage": self.triage.as_dict(),
        }


@dataclass(frozen=True)
class QuantizeResult:
    """What was written into `folder`, and why.

    Attributes:
        folder: clip.qdq.onnx, stream.qdq.onnx, plan.json; explain.json and, with matplotlib,
            sensitivity.png.
        chosen: the plan and what led to it.
        failed: the accuracy gates that fail on the trial clips, as text.
        explanation: None where it was not asked for and no gate failed.
    """

    folder: Path
    chosen: ChosenPlan
    failed: tuple[str, ...]
    explanation: Explanation | None


def quantize(
    checkpoint: Path,
    folder: Path,
    *,
    calibration: ClipSource,
    trial: ClipSource | None = None,
    calibration_clips: int = 32,
    calibration_set: CalibrationSet | None = None,
    order: QuantizationOrder | None = None,
    limits: Mapping[str, float] = DEFAULT_LIMITS,
    explain: bool = False,
    seed: int = 0,
    observer: Observer | None = None,
) -> QuantizeResult:
    """From a checkpoint to Q/DQ graphs; arguments as of `pipeline.CompileOrder`.

    Where an accuracy gate fails on the trial clips at first, or `explain` is set, every block is
    looked at. A scheme of TensorRT is measured in ONNX Runtime.

    Raises:
        CheckpointError, DatasetError, CalibrationError: unusable input.
        UsageError: an impossible size, an unknown scheme or layer.
        MissingDependency: a toolchain is not installed.
    """
    from pkecho_edge.model.baseline import baseline_runner
    from pkecho_edge.model.identity import load_identified

    observer, order = observer or SilentObserver(), order or QuantizationOrder()
    scheme = load_scheme(order.scheme or "cpu").name
    target = measuring_target(scheme)
    network, _ = load_identified(checkpoint)
    length = network.config.frames
    calibration, trial = (
        replace(calibration, length=length),
        trial and replace(trial, length=length),
    )
    chosen_set, clips, rest = calibration_clips_of(
        calibration, calibration_set, calibration_clips, seed, observer
    )
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch)
        observer.start("lower and export", None)
        export_graphs(network, chosen_set.size, clips[0], exported)
        observer.done("exact, ONNX opset 17")
        trial_clips = trial_clips_of(trial, rest, clips)
        graph = exported / "clip.onnx"
        bench = Workbench(graph, clips, trial_clips, target, CompileOptions(), exported)
        observer.start("choose the quantization", None)
        chosen = choose_plan(bench, scheme, order, limits, observer)
        observer.done(chosen.note())
        quantize_graphs(bench, exported, chosen.plan, folder)
        _write(folder / "plan.json", chosen.as_dict())
        restoring = chosen.restoring
        if restoring is None:
            failed = before = failed_gates(bench, chosen.plan, limits)
        else:
            failed, before = restoring.failed_after, restoring.failed_before
        if not explain and not before:
            return QuantizeResult(folder, chosen, failed, None)
        # what hurts is seen before layers return to float
        unrestored = replace(chosen.plan, float_layers=order.float_layers)
        found = _explain(bench, unrestored, baseline_runner(network), observer)
    _write(folder / "explain.json", found.as_dict())
    with suppress(MissingDependency):  # the figures are there without matplotlib
        draw_sensitivity(found.rows, found.whole, folder / "sensitivity.png")
    return QuantizeResult(folder, chosen, failed, found)


def _explain(
    bench: Workbench, plan: QuantizationPlan, baseline: Network, observer: Observer
) -> Explanation:
    observer.start("look at every block", None)
    rows = measure_sensitivity(bench, plan, observer)
    whole = bench.trial(plan).pixel_disagreement
    held = bench.float_graph(plan.rule.smoothing)
    diagnoses = diagnose(onnx.load(held.path).graph, held.activations, plan.rule)
    walked = triage(bench, plan, baseline, observer)
    observer.done(f"{len(rows)} blocks, {len(diagnoses)} findings")
    return Explanation(rows, whole, diagnoses, walked)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    write_atomically(path, text.encode())
