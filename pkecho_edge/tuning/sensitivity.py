"""Which blocks INT8 hurts: each one alone, all but it, the noise it puts out, the time it takes."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pkecho_edge import targets
from pkecho_edge.calibration.graph import GraphView, block_of, layer_of
from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.stages import Observer
from pkecho_edge.tuning.restore import layer_gmacs, quantized_layers
from pkecho_edge.tuning.workbench import Trial, Workbench

__all__ = ["BlockRow", "block_outputs", "measure_sensitivity"]

_NOISE_CLIPS = 2
_PROFILE_RUNS = 5


@dataclass(frozen=True)
class BlockRow:
    """One block.

    Attributes:
        block: its name, "encoder.stages.0.0".
        only: the trial in which it alone is quantized.
        all_but: the trial in which everything else is; None where there is nothing else.
        snr_db: of its outputs in the fully quantized graph against the float one; inf where they
            are the same, nan where a value is not finite or all are zero.
        time_share: of the quantized engine's time; None where the target has no profile.
        gmacs: per clip, of its convolutions.
    """

    block: str
    only: Trial
    all_but: Trial | None
    snr_db: float
    time_share: float | None
    gmacs: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; what is no number is None."""
        trials = {"only": self.only, "all_but": self.all_but}
        figures = {
            name: None if trial is None else trial.as_dict() for name, trial in trials.items()
        }
        snr_db = self.snr_db if math.isfinite(self.snr_db) else None
        return {**asdict(self), **figures, "snr_db": snr_db}


def measure_sensitivity(
    bench: Workbench, plan: QuantizationPlan, observer: Observer
) -> tuple[BlockRow, ...]:
    """Every block that a plan quantizes, in the graph's order.

    Args:
        bench: with the clips to measure on.
        plan: whose quantized layers are looked at; its float layers stay in float in every trial.
        observer: hears about each trial.
    """
    layers = quantized_layers(bench, plan)
    blocks = list(dict.fromkeys(block_of(layer) for layer in layers))
    quantized = bench.folder / "sensitivity.onnx"
    bench.quantize(plan, quantized)
    gmacs, shares = layer_gmacs(bench), _time_shares(bench, quantized)
    noise = _noise(bench, bench.smoothed(plan.rule.smoothing), quantized, blocks)
    rows = []
    for block in blocks:
        inside = [layer for layer in layers if block_of(layer) == block]
        others = [layer for layer in layers if block_of(layer) != block]
        only = bench.trial(_without(plan, others))
        all_but = bench.trial(_without(plan, inside)) if others else None
        observer.advance()
        work = sum(gmacs[layer] for layer in inside)
        share = None if shares is None else shares.get(block, 0.0)
        rows.append(BlockRow(block, only, all_but, noise[block], share, work))
    return tuple(rows)


def _without(plan: QuantizationPlan, layers: Sequence[str]) -> QuantizationPlan:
    return replace(plan, float_layers=(*plan.float_layers, *layers))


def block_outputs(graph: onnx.GraphProto, blocks: Sequence[str]) -> dict[str, list[str]]:
    """Block -> the float tensors that others read of it, or that are the graph's outputs."""
    view = GraphView(graph)
    results = {value.name for value in graph.output}
    found: dict[str, list[str]] = {block: [] for block in blocks}
    for node in graph.node:
        block = _block(node.name)
        if block not in found or node.op_type == "Constant":
            continue
        for name in node.output:
            outside = any(_block(reader.name) != block for reader, _ in view.readers.get(name, ()))
            if outside or name in results:
                found[block].append(name)
    return found


def _block(node: str) -> str:
    """The block of any node: what in the encoder is of no stage is its stem's."""
    name = block_of(layer_of(node))
    return "encoder.stem" if name in ("encoder", "encoder.pool") else name


def _noise(
    bench: Workbench, source: Path, quantized: Path, blocks: Sequence[str]
) -> dict[str, float]:
    """Block -> signal-to-noise of its outputs, dB, by ONNX Runtime on a few of the trial clips."""
    outputs = block_outputs(onnx.load(source).graph, blocks)
    wanted = [name for names in outputs.values() for name in names]
    clips = [clip.frames for clip in bench.clips[:_NOISE_CLIPS]]
    float_, int8 = (_tensors(path, wanted, clips) for path in (source, quantized))
    ratios = {}
    for block, names in outputs.items():
        signal = sum(float(np.square(float_[n], dtype=np.float64).sum()) for n in names)
        noise = sum(float(np.square(int8[n] - float_[n], dtype=np.float64).sum()) for n in names)
        with np.errstate(divide="ignore", invalid="ignore"):  # without noise, without anything
            ratios[block] = float(10 * (np.log10(signal) - np.log10(noise)))
    return ratios


def _tensors(
    graph: Path, names: Sequence[str], clips: Sequence[NDArray[np.uint8]]
) -> Mapping[str, NDArray[np.float32]]:
    """What a graph's tensors hold on these clips, stacked."""
    import onnxruntime

    model = onnx.load(graph)
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in present
    )
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    # as it is written: fusions would take the tensors away
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    runs = [session.run(list(names), {"frames": frames}) for frames in clips]
    return {name: np.stack(held) for name, held in zip(names, zip(*runs, strict=True), strict=True)}


def _time_shares(bench: Workbench, quantized: Path) -> dict[str, float] | None:
    """Block -> share of the quantized engine's time; None where the target has no profile."""
    if bench.target != "cpu":
        return None
    from pkecho_edge.targets.openvino_profile import profile_engine

    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        engine = targets.get("cpu").compile({"clip": quantized}, Path(folder), bench.options)
        frames = bench.clips[0].frames
        profile = profile_engine(engine["clip"], {"frames": frames}, _PROFILE_RUNS)
    spent: dict[str, float] = {}
    block = "encoder.stem"
    for node in profile.nodes:
        # a node without a name of the graph stands behind its maker
        block = _block(node.name) if node.name.startswith("/") else block
        spent[block] = spent.get(block, 0.0) + node.ms
    total = sum(spent.values()) or 1.0
    return {name: ms / total for name, ms in spent.items()}
