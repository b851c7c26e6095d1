"""The stages between a checkpoint and its engines: export, choose, quantize, compile.

Each fills a folder that is found again by the hash of what went in. Both graphs, clip and stream,
are always made: the clip graph is the one that is calibrated, and the stream graph takes over its
ranges. Only the modes that are asked for are compiled.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkecho_edge import targets
from pkecho_edge.bundle.engine_entry import EngineEntry
from pkecho_edge.bundle.fields import Fields
from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.calibration.quantize import QuantizationReport
from pkecho_edge.calibration.transfer import transfer_quantization
from pkecho_edge.data.clip import Clip
from pkecho_edge.stages import Observer, StageCache, StageResult, package_sha256
from pkecho_edge.targets.base import CompileOptions, Engine
from pkecho_edge.tuning.choose import QuantizationOrder, choose_plan
from pkecho_edge.tuning.workbench import Workbench

if TYPE_CHECKING:
    from pkecho_edge.model.network import PKEchoNet

__all__ = ["CHOICE", "Built", "EngineOrder", "Material", "build_engines", "choose_inputs"]
__all__ += ["choose_scale", "engine_inputs"]
__all__ += ["engine_size", "export_graphs", "export_inputs", "programs_inputs", "quantize_graphs"]
__all__ += ["quantize_inputs", "shape", "tool_versions"]

CHOICE = "choice.json"
"""Of stage choose: the plan, and what led to it."""

_DEAD = "dead.json"
_PARTS = ("numpy", "onnx", "onnxruntime", "openvino", "torch", "torch-pruning")


@dataclass(frozen=True)
class Built:
    """What the stages leave behind.

    Attributes:
        graphs: mode -> the quantized ONNX that was compiled.
        engines: mode -> engine, all in one folder.
        quantization: what was chosen and what led to it, JSON-ready.
        warnings: what a report must say of the quantization.
        reused: names of the stages that were there before.
    """

    graphs: Mapping[str, Path]
    engines: Mapping[str, Engine]
    quantization: Mapping[str, Any]
    warnings: tuple[str, ...]
    reused: tuple[str, ...]


@dataclass(frozen=True)
class EngineOrder:
    """What engines are asked for.

    Attributes:
        target: name of a target.
        modes: of "clip", "stream", at least one.
        options: precision and threads of the engines.
        quantization: what is asked of it.
        limits: of the gates that restoring layers is for.
    """

    target: str
    modes: Sequence[str]
    options: CompileOptions
    quantization: QuantizationOrder
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Material:
    """What engines are built from.

    Attributes:
        network: trained.
        checkpoint_sha256: of its weights.
        calibration: the set whose clips, in its order, set the INT8 ranges.
        clips: those clips.
        trial: other clips, on which quantizations are tried.
        baseline: what the accuracy gates compare with on the trial clips; None for the network
            itself, which it is unless that was pruned.
    """

    network: PKEchoNet
    checkpoint_sha256: str
    calibration: CalibrationSet
    clips: Sequence[Clip]
    trial: Sequence[Clip]
    baseline: PKEchoNet | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the engines' frames."""
        return self.calibration.size


def build_engines(
    material: Material, order: EngineOrder, stages: StageCache, observer: Observer
) -> Built:
    """A checkpoint's network as engines: INT8, or in float where the target has no INT8.

    Args:
        material: the network and its clips.
        order: what is asked.
        stages: where finished stages are kept.
        observer: hears about progress.

    Raises:
        UsageError: an impossible size.
        MissingDependency: a toolchain is not installed.
    """
    if targets.get(order.target).capabilities.takes == "pt2":
        return _build_programs(material, order, stages, observer)
    size, network = material.size, material.network
    observer.start("lower and export", None)
    exported = stages.run(
        "export",
        export_inputs(material.checkpoint_sha256, size),
        lambda folder: export_graphs(network, size, material.clips[0], folder),
        shape(size),
    )
    observer.done(_note(exported, "exact, ONNX opset 17"))
    with tempfile.TemporaryDirectory() as scratch:
        bench = _workbench(material, order, exported.folder, Path(scratch))
        chosen, choice = _chosen(bench, material, order, exported.key, stages, observer)
        quantized = _quantized(bench, material, exported, choice, stages, observer)
    graphs = {mode: quantized.folder / f"{mode}.qdq.onnx" for mode in order.modes}
    floats = {mode: exported.folder / f"{mode}.onnx" for mode in order.modes}
    compiled = _compiled(order, graphs, floats, quantized.key, shape(size), stages, observer)
    named = {"export": exported, "choose": chosen, "quantize": quantized, "engine": compiled}
    return Built(
        graphs,
        _read_engines(compiled.folder),
        choice,
        _warnings(quantized.folder, choice),
        _reused(named),
    )


def _workbench(material: Material, order: EngineOrder, exported: Path, scratch: Path) -> Workbench:
    """Where quantizations of the exported graph are tried."""
    from pkecho_edge.model.baseline import baseline_runner

    return Workbench(
        exported / "clip.onnx",
        material.clips,
        material.trial,
        order.target,
        order.options,
        scratch,
        reference=None if material.baseline is None else baseline_runner(material.baseline),
    )


def _chosen(
    bench: Workbench,
    material: Material,
    order: EngineOrder,
    exported: str,
    stages: StageCache,
    observer: Observer,
) -> tuple[StageResult, dict[str, Any]]:
    """The stage, and what was chosen and what led to it."""
    trial = [clip.content_sha256 for clip in material.trial]
    observer.start("choose the quantization", None)
    done = stages.run(
        "choose",
        choose_inputs(exported, material.calibration.sha256, trial, order),
        lambda folder: _choose(bench, order, folder, observer),
        choose_scale(material.size, order.quantization),
    )
    choice: dict[str, Any] = json.loads((done.folder / CHOICE).read_text(encoding="utf-8"))
    observer.done(_note(done, choice["note"]))
    return done, choice


def _quantized(
    bench: Workbench,
    material: Material,
    exported: StageResult,
    choice: Mapping[str, Any],
    stages: StageCache,
    observer: Observer,
) -> StageResult:
    plan = QuantizationPlan.from_dict(choice)
    observer.start("calibrate and quantize", None)
    done = stages.run(
        "quantize",
        quantize_inputs(exported.key, material.calibration.sha256, plan),
        lambda folder: _quantize(bench, exported.folder, plan, folder),
        shape(material.size),
    )
    observer.done(_note(done, f"INT8 ranges from {len(material.clips)} clips"))
    return done


_UNQUANTIZED: Mapping[str, Any] = {"scheme": None, "rule": None, "float_layers": []}
"""What a build in float says of its quantization."""


def _build_programs(
    material: Material, order: EngineOrder, stages: StageCache, observer: Observer
) -> Built:
    """The street for a target that compiles exported programs: nothing is quantized."""
    precision, size, network = order.options.float_precision, material.size, material.network
    observer.start("lower and export", None)
    exported = stages.run(
        "programs",
        programs_inputs(material.checkpoint_sha256, size, precision),
        lambda folder: _export_programs(network, size, material.clips[0], precision, folder),
        shape(size),
    )
    observer.done(_note(exported, f"programs in {precision}"))
    graphs = {mode: exported.folder / f"{mode}.pt2" for mode in order.modes}
    compiled = _compiled(order, graphs, {}, exported.key, shape(size), stages, observer)
    reused = _reused({"export": exported, "engine": compiled})
    return Built(graphs, _read_engines(compiled.folder), _UNQUANTIZED, (), reused)


def _compiled(
    order: EngineOrder,
    graphs: Mapping[str, Path],
    floats: Mapping[str, Path],
    key: str,
    alike: str,
    stages: StageCache,
    observer: Observer,
) -> StageResult:
    """The engines' stage; `key` is that of the stage which made the graphs."""
    observer.start(f"compile for {order.target}", None)
    compiled = stages.run(
        f"engine-{order.target}",
        engine_inputs(key, order),
        lambda folder: _compile(order, graphs, floats, folder),
        alike,
    )
    size = engine_size(*_read_engines(compiled.folder).values()) / 1e6
    observer.done(_note(compiled, f"{' and '.join(graphs)}, {size:.1f} MB"))
    return compiled


# What goes into a stage, whose hash is its key; planning.py asks for the same


def export_inputs(checkpoint_sha256: str, size: tuple[int, int]) -> dict[str, object]:
    """Of stage export."""
    return {
        "checkpoint": checkpoint_sha256,
        "size": size,
        "versions": tool_versions(),
        "code": package_sha256(),
    }


def programs_inputs(
    checkpoint_sha256: str, size: tuple[int, int], precision: str
) -> dict[str, object]:
    """Of stage programs, which is export for targets that take exported programs."""
    return {**export_inputs(checkpoint_sha256, size), "precision": precision}


def choose_inputs(
    export: str, calibration_sha256: str, trial_sha256: Sequence[str], order: EngineOrder
) -> dict[str, object]:
    """Of stage choose; `export` is the key of stage export.

    The target's own scheme is the same whether it was named or not.
    """
    asked, scheme = order.quantization, targets.get(order.target).capabilities.scheme
    return {
        "export": export,
        "calibration": calibration_sha256,
        "trial": list(trial_sha256),
        "target": [order.target, order.options.as_dict()],
        "order": replace(asked, scheme=asked.scheme or scheme).as_dict(),
        "limits": dict(order.limits),
    }


def choose_scale(size: tuple[int, int], order: QuantizationOrder) -> str:
    """What the duration of stage choose depends on."""
    return f"{shape(size)}, {len(order.rules)} rules"


def quantize_inputs(
    export: str, calibration_sha256: str, plan: QuantizationPlan
) -> dict[str, object]:
    """Of stage quantize; `export` is the key of stage export."""
    return {"export": export, "calibration": calibration_sha256, "plan": plan.as_dict()}


def engine_inputs(graphs: str, order: EngineOrder) -> dict[str, object]:
    """Of stage engine-TARGET; `graphs` is the key of the stage that made them."""
    return {"graphs": graphs, "modes": list(order.modes), "options": order.options.as_dict()}


def shape(size: tuple[int, int]) -> str:
    """ "128x128": what the durations of stages depend on most."""
    return f"{size[0]}x{size[1]}"


def _reused(named: Mapping[str, StageResult]) -> tuple[str, ...]:
    """The names of the stages that were there before."""
    return tuple(name for name, stage in named.items() if stage.reused)


def _export_programs(
    network: PKEchoNet, size: tuple[int, int], probe: Clip, precision: str, folder: Path
) -> None:
    from pkecho_edge.lowering.program_export import export_clip_program, export_stream_program

    export_clip_program(network, size, folder / "clip.pt2", probe.frames, precision)
    export_stream_program(network, size, folder / "stream.pt2", probe.frames, precision)


def engine_size(*engines: Engine) -> int:
    """Bytes of the engines' files; what several of them share counts once."""
    paths = {engine.directory / name for engine in engines for name in engine.files}
    return sum(path.stat().st_size for path in paths)


def tool_versions() -> dict[str, str]:
    """Versions of everything that takes part in a build and is installed."""
    from pkecho_edge import __version__

    found = {"pkecho-edge": __version__}
    for name in _PARTS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def export_graphs(network: PKEchoNet, size: tuple[int, int], probe: Clip, folder: Path) -> None:
    """Lower a network and write clip.onnx and stream.onnx; raises as the exports do."""
    from pkecho_edge.lowering.onnx_export import export_clip_onnx, export_stream_onnx

    export_clip_onnx(network, size, folder / "clip.onnx", probe.frames)
    export_stream_onnx(network, size, folder / "stream.onnx", probe.frames)


def _choose(bench: Workbench, order: EngineOrder, folder: Path, observer: Observer) -> None:
    scheme = targets.get(order.target).capabilities.scheme
    chosen = choose_plan(bench, scheme, order.quantization, order.limits, observer)
    text = json.dumps({**chosen.as_dict(), "note": chosen.note()}, sort_keys=True)
    (folder / CHOICE).write_text(text, encoding="utf-8")


def quantize_graphs(
    bench: Workbench, exported: Path, plan: QuantizationPlan, folder: Path
) -> QuantizationReport:
    """Write clip.qdq.onnx and, with its ranges, stream.qdq.onnx of what `export_graphs` wrote."""
    quantized = bench.quantize(plan, folder / "clip.qdq.onnx")
    transfer_quantization(quantized.path, exported / "stream.onnx", folder / "stream.qdq.onnx")
    return quantized


def _quantize(bench: Workbench, exported: Path, plan: QuantizationPlan, folder: Path) -> None:
    quantized = quantize_graphs(bench, exported, plan, folder)
    (folder / _DEAD).write_text(json.dumps(quantized.dead), encoding="utf-8")


def _warnings(quantized: Path, choice: Mapping[str, Any]) -> tuple[str, ...]:
    """Of tensors without a range, and of gates that no restoring could save."""
    found = []
    if dead := json.loads((quantized / _DEAD).read_text(encoding="utf-8")):
        named = f"{dead[0]} and {len(dead) - 1} more" if len(dead) > 1 else dead[0]
        found.append(
            f"{named} never left zero on the calibration clips, so the range is a guess: "
            "calibrate on clips that show what the network was trained on"
        )
    if (restoring := choice["restoring"]) and restoring["failed_after"]:
        found.append(
            f"with {len(restoring['restored'])} layers back in float still failed on the trial "
            f"clips: {'; '.join(restoring['failed_after'])}"
        )
    return tuple(found)


def _note(stage: StageResult, note: str) -> str:
    return f"{note} (reused)" if stage.reused else note


def _compile(
    order: EngineOrder, graphs: Mapping[str, Path], floats: Mapping[str, Path], folder: Path
) -> None:
    """Compile and write down how the engines are called, so that a later run can reuse them."""
    files = folder / "files"
    files.mkdir()
    backend = targets.get(order.target)
    wanted = floats if backend.capabilities.float_graphs else None
    engines = backend.compile(graphs, files, order.options, wanted)
    entries = [EngineEntry.of(engine, mode=mode).as_json() for mode, engine in engines.items()]
    text = json.dumps({"target": order.target, "engines": entries}, sort_keys=True)
    (folder / "engines.json").write_text(text, encoding="utf-8")


def _read_engines(folder: Path) -> dict[str, Engine]:
    raw = json.loads((folder / "engines.json").read_text(encoding="utf-8"))
    entries = [EngineEntry.from_fields(Fields(entry)) for entry in raw["engines"]]
    return {
        entry.mode: replace(entry.engine(raw["target"], folder), directory=folder / "files")
        for entry in entries
    }
