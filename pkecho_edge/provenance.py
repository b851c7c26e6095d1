"""What went into a bundle, written down: the report's lineage and the manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
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

__all__ = ["Provenance", "build_manifest", "bundle_facts", "bundle_lineage", "report_lineage"]

_TOLERANCES = GoldenTolerances(pixels_fraction=0.002, area_fraction=0.01)
_MAX_TEXT = 300


@dataclass(frozen=True)
class Provenance:
    """What a bundle is built from, and as what.

    Attributes:
        origin: the network, the checkpoint whose bytes it came from, and its baseline.
        calibration: the set that set the INT8 ranges.
        target, options: what it is compiled for.
        limits: of the gates. seed: of the choice of calibration clips.
        sources: of the calibration clips: "phantom", "echonet" and the like.
        notes: of the baseline's header.
        security_version: of the bundle.
    """

    origin: Lineaged
    calibration: CalibrationSet
    target: str
    options: CompileOptions
    limits: Mapping[str, float]
    seed: int
    sources: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    security_version: int = 1

    def pruning_json(self) -> bytes:
        """The file model/pruning.json of a network that was pruned."""
        return (json.dumps(self.origin.report, indent=1, sort_keys=True) + "\n").encode()

    @property
    def pruning_sha256(self) -> str | None:
        """Of that file; None where nothing was pruned."""
        return None if self.origin.report is None else sha256(self.pruning_json()).hexdigest()

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the model card says of network, training and calibration; nothing measured."""
        from pkecho_edge.model.checkpoint import checkpoint_sha256, default_checkpoint_path

        origin, entries = self.origin, self.calibration.entries
        return {
            "model": _sizes(self),
            "pruning": None if origin.report is None else _pruning(origin.report),
            "checkpoint": {
                "packaged": origin.baseline_sha256 == checkpoint_sha256(default_checkpoint_path()),
                "training": _training(self.notes),
            },
            "calibration": {
                "clips": len(entries),
                "patients": len({entry.patient for entry in entries}),
                "rule": self.calibration.rule,
                "sources": [_one_line(source) for source in self.sources],
            },
        }


def report_lineage(provenance: Provenance, built: Built) -> dict[str, object]:
    """What a report says of the bundle that is being built."""
    return {
        "checkpoint_sha256": provenance.origin.baseline_sha256,
        "pruning_sha256": provenance.pruning_sha256,
        "calibration_sha256": provenance.calibration.sha256,
        "onnx_sha256": _graphs_sha256(built),
        "target": provenance.target,
        "tool_versions": tool_versions(),
        "configuration": _configuration(provenance, built),
        "quantization": dict(built.quantization),
        "seed": provenance.seed,
    }


def bundle_lineage(bundle: Bundle, calibration: CalibrationSet) -> dict[str, object]:
    """What a report says of a finished bundle."""
    manifest, lineage = bundle.manifest, bundle.manifest.lineage
    return {
        **bundle_facts(bundle),
        "checkpoint_sha256": lineage.checkpoint_sha256,
        "pruning_sha256": lineage.pruning_sha256,
        "calibration_sha256": calibration.sha256,
        "target": manifest.target,
        "tool_versions": lineage.tool_versions,
        "configuration": lineage.configuration,
        "seed": lineage.seed,
    }


def bundle_facts(bundle: Bundle) -> dict[str, object]:
    """Which bundle it is."""
    return {
        "manifest_sha256": bundle.manifest_sha256,
        "bundle_id": bundle.manifest.bundle_id,
    }


def _configuration(provenance: Provenance, built: Built) -> dict[str, Any]:
    """Of the network and of the build, plain JSON values; nothing that was measured."""
    plan = {name: built.quantization[name] for name in ("scheme", "rule", "float_layers")}
    return {
        "network": json.loads(json.dumps(provenance.origin.network.config.as_dict())),
        "options": dict(provenance.options.as_dict()),
        "quantization": {**plan, "clips": len(provenance.calibration.entries)},
        "device": provenance.options.profile.as_dict() if provenance.options.profile else None,
        **provenance.facts,
    }


def _sizes(provenance: Provenance) -> dict[str, Any]:
    """Parameters, and GMACs of a clip; of the baseline as well where the network was pruned."""
    from pkecho_edge.model.network import count_gmacs, count_parameters

    size, origin = provenance.calibration.size, provenance.origin
    found = {
        "parameters": count_parameters(origin.network),
        "gmacs": round(count_gmacs(origin.network, size), 3),
    }
    if origin.report is not None:
        found["baseline_parameters"] = count_parameters(origin.baseline)
        found["baseline_gmacs"] = round(count_gmacs(origin.baseline, size), 3)
    return found


def _pruning(report: Mapping[str, Any]) -> dict[str, Any]:
    """The few words of a pruning report; it may come with a foreign checkpoint."""
    order, rounds = report.get("order"), report.get("rounds")
    order = order if isinstance(order, dict) else {}
    found = {name: order.get(name) for name in ("ratio", "scope", "importance")}
    if isinstance(rounds, list):
        taken = [each.get("steps") for each in rounds if isinstance(each, dict)]
        found |= {"rounds": len(rounds), "steps": sum(n for n in taken if isinstance(n, int))}
    return {name: v for name, v in found.items() if isinstance(v, str | int | float)}


def _training(notes: Mapping[str, str]) -> str | None:
    """What a checkpoint's header says of its training; None where it says nothing."""
    told = [notes[name] for name in ("trained", "training.data") if name in notes]
    told += [f"{n} {notes[f'training.{n}']}" for n in _TRAINING if f"training.{n}" in notes]
    return _one_line("; ".join(told)) or None


_TRAINING = ("sizes", "epoch", "step", "seed")


def _one_line(text: str) -> str:
    """Of a file's text what may stand in a table: printable, on one line, not too long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def build_manifest(provenance: Provenance, built: Built, result: VerifyResult) -> Manifest:
    """Complete but for the files, which the writer adds."""
    return Manifest(
        target=provenance.target,
        profile=provenance.options.profile.name if provenance.options.profile else None,
        engines=tuple(EngineEntry.of(e, mode=mode) for mode, e in built.engines.items()),
        preprocessing=Preprocessing(size=provenance.calibration.size),
        postprocessing=Postprocessing(),
        window=Window(length=provenance.origin.network.config.frames),
        golden=_TOLERANCES,
        lineage=Lineage(
            checkpoint_sha256=provenance.origin.baseline_sha256,
            onnx_sha256=_graphs_sha256(built),
            calibration_sha256=provenance.calibration.sha256,
            pruning_sha256=provenance.pruning_sha256,
            tool_versions=tool_versions(),
            configuration=_configuration(provenance, built),
            seed=provenance.seed,
        ),
        gates=tuple(
            GateLimit(name, mode, limit, UNITS[name])
            for mode in built.engines
            for name, limit in limits_of_mode(mode, provenance.limits).items()
        ),
        security_version=provenance.security_version,
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
