"""What went into a bundle, written down: the report's lineage and the manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pkecho_edge.building import Built, tool_versions
from pkecho_edge.bundle.engine_entry import EngineEntry
from pkecho_edge.bundle.manifest import (
    GateLimit,
    GoldenTolerances,
    Lineage,
    Manifest,
    Postprocessing,
    Preprocessing,
    Reports,
    Window,
)
from pkecho_edge.bundle.reader import Bundle
from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.measuring import VerifyResult
from pkecho_edge.targets.base import CompileOptions
from pkecho_edge.verify.gates import UNITS, limits_of_mode, verdict

if TYPE_CHECKING:
    from pkecho_edge.pruning_stage import Lineaged

__all__ = ["Order", "build_manifest", "bundle_lineage", "report_lineage"]

_TOLERANCES = GoldenTolerances(pixels_fraction=0.002, area_fraction=0.01)


@dataclass(frozen=True)
class Order:
    """What is to be built, and from what.

    Attributes:
        origin: the network, the checkpoint whose bytes it came from, and its baseline.
        calibration: the set that set the INT8 ranges.
        target, options: what it is compiled for.
        limits: of the gates. seed: of the choice of calibration clips.
    """

    origin: Lineaged
    calibration: CalibrationSet
    target: str
    options: CompileOptions
    limits: Mapping[str, float]
    seed: int

    def pruning_json(self) -> bytes:
        """The file model/pruning.json of a network that was pruned."""
        return (json.dumps(self.origin.report, indent=1, sort_keys=True) + "\n").encode()

    @property
    def pruning_sha256(self) -> str | None:
        """Of that file; None where nothing was pruned."""
        return None if self.origin.report is None else sha256(self.pruning_json()).hexdigest()


def report_lineage(order: Order, built: Built) -> dict[str, object]:
    """What a report says of the bundle that is being built."""
    return {
        "checkpoint_sha256": order.origin.baseline_sha256,
        "pruning_sha256": order.pruning_sha256,
        "calibration_sha256": order.calibration.sha256,
        "onnx_sha256": _graphs_sha256(built),
        "target": order.target,
        "tool_versions": tool_versions(),
        "configuration": _configuration(order, built),
        "quantization": dict(built.quantization),
        "seed": order.seed,
    }


def bundle_lineage(bundle: Bundle, calibration: CalibrationSet) -> dict[str, object]:
    """What a report says of a finished bundle."""
    manifest, lineage = bundle.manifest, bundle.manifest.lineage
    return {
        "manifest_sha256": bundle.manifest_sha256,
        "bundle_id": manifest.bundle_id,
        "checkpoint_sha256": lineage.checkpoint_sha256,
        "pruning_sha256": lineage.pruning_sha256,
        "calibration_sha256": calibration.sha256,
        "target": manifest.target,
        "tool_versions": lineage.tool_versions,
        "configuration": lineage.configuration,
        "seed": lineage.seed,
    }


def _configuration(order: Order, built: Built) -> dict[str, Any]:
    """Of the network and of the build, plain JSON values; nothing that was measured."""
    plan = {name: built.quantization[name] for name in ("scheme", "rule", "float_layers")}
    return {
        "network": json.loads(json.dumps(order.origin.network.config.as_dict())),
        "options": dict(order.options.as_dict()),
        "quantization": {**plan, "clips": len(order.calibration.entries)},
    }


def build_manifest(order: Order, built: Built, result: VerifyResult) -> Manifest:
    """Complete but for the files, which the writer adds."""
    return Manifest(
        target=order.target,
        profile=order.options.profile.name if order.options.profile else None,
        engines=tuple(EngineEntry.of(e, mode=mode) for mode, e in built.engines.items()),
        preprocessing=Preprocessing(size=order.calibration.size),
        postprocessing=Postprocessing(),
        window=Window(length=order.origin.network.config.frames),
        golden=_TOLERANCES,
        lineage=Lineage(
            checkpoint_sha256=order.origin.baseline_sha256,
            onnx_sha256=_graphs_sha256(built),
            calibration_sha256=order.calibration.sha256,
            pruning_sha256=order.pruning_sha256,
            tool_versions=tool_versions(),
            configuration=_configuration(order, built),
            seed=order.seed,
        ),
        gates=tuple(
            GateLimit(name, mode, limit, UNITS[name])
            for mode in built.engines
            for name, limit in limits_of_mode(mode, order.limits).items()
        ),
        reports=Reports(headline=_headline(result)),
    )


def _headline(result: VerifyResult) -> dict[str, str | int | float | bool | None]:
    """The verdict, and each mode's few figures under its name."""
    figures: dict[str, str | int | float | bool | None] = {"verdict": verdict(result.gates)}
    for mode, measured in result.modes.items():
        if (accuracy := measured.accuracy) is not None:
            drift = accuracy.drift
            figures[f"{mode}_n_clips"] = len(accuracy.rows)
            figures[f"{mode}_dsc_drift_points"] = drift.dsc.mean
            figures[f"{mode}_dsc_drift_points_high"] = drift.dsc.high
            figures[f"{mode}_ef_drift_points"] = drift.ef.mean
        if (speed := measured.speed) is not None:
            figures[f"{mode}_fps"] = speed.engine.fps
            figures[f"{mode}_speedup"] = speed.speedup
    return figures


def _graphs_sha256(built: Built) -> str:
    """One hash for all graphs: that of the lines `sha256sum` prints, sorted by name."""
    paths = sorted(built.graphs.values(), key=lambda path: path.name)
    lines = [f"{sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    return sha256("".join(lines).encode()).hexdigest()
