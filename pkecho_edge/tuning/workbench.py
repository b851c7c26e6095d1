"""One lowered network and what is needed to try a quantization of it: compile, run, compare."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge import targets
from pkecho_edge.calibration.activations import ClipActivations, merge_activations, observe
from pkecho_edge.calibration.equalisation import equalise
from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.calibration.quantize import QuantizationReport, quantize_graph
from pkecho_edge.calibration.scheme import load_scheme
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import MissingDependency
from pkecho_edge.metrics.overlap import dice, disagreement
from pkecho_edge.targets.base import CompileOptions
from pkecho_edge.verify.accuracy import AccuracyResult, summarize_rows
from pkecho_edge.verify.scores import score_clip

__all__ = ["FloatGraph", "Trial", "Workbench", "measuring_target"]

Logits = list[NDArray[np.float32]]


@dataclass(frozen=True)
class FloatGraph:
    """A lowered graph and what its tensors held on the calibration clips."""

    path: Path
    activations: ClipActivations


@dataclass(frozen=True)
class Trial:
    """What one quantization did to the trial clips.

    Attributes:
        plan: the quantization.
        pixel_disagreement: percent of pixels whose mask differs from the float engine's.
        agreement_dsc: percent, mean over frames.
        dsc_drift: points against the truth, mean over clips that have one; nan for none.
        snr_db: of the logits, 20 log10 of their RMS over the RMS of the difference.
    """

    plan: QuantizationPlan
    pixel_disagreement: float
    agreement_dsc: float
    dsc_drift: float
    snr_db: float

    @property
    def badness(self) -> tuple[float, float]:
        """The smaller the better: pixels that differ, then noise."""
        return self.pixel_disagreement, -self.snr_db

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; what is no number is None."""
        figures = ("pixel_disagreement", "agreement_dsc", "dsc_drift", "snr_db")
        values = {name: getattr(self, name) for name in figures}
        finite = {name: v if math.isfinite(v) else None for name, v in values.items()}
        return {**self.plan.as_dict(), **finite}


@dataclass
class Workbench:
    """Everything that trials of one network at one size share.

    Attributes:
        graph: the lowered clip graph, FP32 ONNX.
        calibration: clips that set the ranges.
        clips: clips to measure on, of the graph's size; at least one.
        target: name of the target whose engine is measured.
        options: of its engines.
        folder: for what is made on the way.
        reference: the baseline as a function of a clip, u8 [T, 1, H, W] -> logits f32 of the same
            shape, where that is another network: accuracy is held against it. None for the lowered
            network itself.
    """

    graph: Path
    calibration: Sequence[Clip]
    clips: Sequence[Clip]
    target: str
    options: CompileOptions
    folder: Path
    reference: Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None = None
    _graphs: dict[float, FloatGraph] = field(default_factory=dict)
    _float_logits: Logits = field(default_factory=list)
    _reference_logits: Logits = field(default_factory=list)

    def smoothed(self, smoothing: float) -> Path:
        """The graph that a rule with this smoothing quantizes; made once."""
        if not smoothing:
            return self.graph
        path = self.folder / f"smooth-{smoothing:g}.onnx"
        if not path.exists():
            equalise(self.graph, self.float_graph().activations, smoothing, path)
        return path

    def float_graph(self, smoothing: float = 0.0) -> FloatGraph:
        """That graph and what its tensors hold on the calibration clips; observed once."""
        if smoothing not in self._graphs:
            path = self.smoothed(smoothing)
            found = merge_activations(observe(path, self.calibration))
            self._graphs[smoothing] = FloatGraph(path, found)
        return self._graphs[smoothing]

    def with_statistics(self, smoothing: float, graph: FloatGraph) -> Workbench:
        """The same bench, but for what the calibration clips are said to have given."""
        self.float_logits()  # shared by both
        return replace(self, _graphs={**self._graphs, smoothing: graph})

    def quantize(self, plan: QuantizationPlan, path: Path) -> QuantizationReport:
        """Write the Q/DQ graph of a plan."""
        source = self.float_graph(plan.rule.smoothing)
        return quantize_graph(
            source.path,
            source.activations,
            load_scheme(plan.scheme),
            plan.rule,
            path,
            plan.float_layers,
        )

    def float_logits(self) -> Logits:
        """Of the float engine on the trial clips, f32 [T, 1, H, W] each: what trials are held to.

        The lowering is exact, so it stands for the PyTorch baseline here; verification asks the
        baseline itself.
        """
        if not self._float_logits:
            self._float_logits = self.run(self.graph)
        return self._float_logits

    def reference_logits(self) -> Logits:
        """Of the baseline on the trial clips, f32 [T, 1, H, W] each: what gates are held to."""
        if self.reference is None:
            return self.float_logits()
        if not self._reference_logits:
            self._reference_logits = [self.reference(clip.frames) for clip in self.clips]
        return self._reference_logits

    def logits(self, plan: QuantizationPlan) -> Logits:
        """Of the compiled engine of a plan."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            path = Path(folder, "trial.onnx")
            self.quantize(plan, path)
            return self.run(path)

    def run(self, graph: Path) -> Logits:
        """Compile a clip graph for the target and run it on the trial clips."""
        target = targets.get(self.target)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            engine = target.compile({"clip": graph}, Path(folder), self.options)["clip"]
            with target.load(engine) as session:
                return [
                    session.run({"frames": clip.frames})["logits"].astype(np.float32, copy=False)
                    for clip in self.clips
                ]

    def trial(self, plan: QuantizationPlan) -> Trial:
        """Quantize, compile, run, compare with the float engine."""
        sides = zip(self.clips, self.float_logits(), self.logits(plan), strict=True)
        figures = [_figures(*side) for side in sides]
        pixels, agreement, drift, signal, noise = np.array(figures).T
        known = drift[~np.isnan(drift)]
        ratio = signal.sum() / max(noise.sum(), np.finfo(np.float64).tiny)
        return Trial(
            plan,
            float(pixels.mean()),
            float(agreement.mean()),
            float(known.mean()) if len(known) else float("nan"),
            float(10 * np.log10(max(ratio, np.finfo(np.float64).tiny))),
        )

    def accuracy(self, plan: QuantizationPlan | None) -> AccuracyResult:
        """Everything that gates ask, on the trial clips; of the float engine for no plan."""
        found = self.float_logits() if plan is None else self.logits(plan)
        sides = zip(self.clips, self.reference_logits(), found, strict=True)
        return summarize_rows([score_clip(*side) for side in sides])


def measuring_target(scheme: str) -> str:
    """The target whose engine a scheme is measured on: one of TensorRT in ONNX Runtime.

    Raises:
        MissingDependency: it is not installed.
    """
    name = "cpu" if scheme.startswith("cpu") else "onnxruntime"
    if command := targets.get(name).missing():
        raise MissingDependency(f"target {name} is not installed", remedy=f"Run: {command}")
    return name


def _figures(
    clip: Clip, expected: NDArray[np.float32], found: NDArray[np.float32]
) -> tuple[float, float, float, float, float]:
    """Percent of pixels that differ, agreement, drift, power of the signal and of the noise."""
    theirs, ours = expected[:, 0] > 0, found[:, 0] > 0  # [T, H, W]
    drift = float("nan")
    if clip.truth is not None:
        frames = np.flatnonzero(clip.labelled)
        truth = clip.truth[frames]
        drift = float(np.mean(dice(truth, theirs[frames]) - dice(truth, ours[frames])))
    noise = np.square(found - expected, dtype=np.float64).sum()
    return (
        100 * float(disagreement(theirs, ours).mean()),
        100 * float(dice(theirs, ours).mean()),
        100 * drift,
        float(np.square(expected, dtype=np.float64).sum()),
        float(noise) if np.isfinite(noise) else float("inf"),
    )
