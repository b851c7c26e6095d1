"""The bill of materials: CycloneDX 1.5 JSON, the bundle and the software that it needs.

https://cyclonedx.org/docs/1.5/json/. What is where:

    metadata.component   the bundle: its files with their hashes, the checkpoint that it goes back
                         to as an ancestor, a short model card (the long one is MODEL_CARD.md)
    components           what must be on the device to run the engines, with supplier, licence,
                         package URL and the place of its known anomalies
    formulation          what took part in the build and is not needed on the device
    compositions         that the libraries' own dependencies are not listed

It is material for a list of software of unknown provenance (IEC 62304, 8.1.2), and claims nothing.
A fixed input gives fixed bytes: there is no timestamp, and the serial number is derived from the
content.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from urllib.parse import quote

from pkecho_edge.bundle import statements
from pkecho_edge.bundle.layout import MODEL_CARD, SBOM
from pkecho_edge.bundle.libraries import (
    LIBRARIES,
    build_tools,
    runtime_libraries,
    version_note,
)
from pkecho_edge.bundle.manifest import FileEntry, Manifest
from pkecho_edge.bundle.strict_json import Json, canonical_json

__all__ = ["sbom_json"]

_BUNDLE, _WRITER = "bundle", "pkecho-edge"
_ISSUES = "/issues"


def sbom_json(manifest: Manifest) -> str:
    """The text of sbom.cdx.json.

    Args:
        manifest: with its files, of which this one and the model card are passed over. `reports`
            and so what was measured play no part.
    """
    note = version_note(manifest.target)
    runtime = [
        {**_library(name, version), "scope": "required", "description": note}
        for name, version in runtime_libraries(manifest).items()
    ]
    tools = [_library(name, version, "build:") for name, version in build_tools(manifest).items()]
    writers = [_library(n, v) for n, v in build_tools(manifest).items() if n == _WRITER]
    references: list[Json] = [component["bom-ref"] for component in runtime]
    content: dict[str, Json] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": list(writers)},
            "component": _bundle(manifest),
        },
        "components": list(runtime),
        "dependencies": [{"ref": _BUNDLE, "dependsOn": references}],
        "compositions": [{"aggregate": "incomplete", "dependencies": references}],
        "formulation": [{"bom-ref": "build", "components": list(tools)}],
    }
    digest = hashlib.sha256(canonical_json(content).encode()).digest()
    serial = uuid.UUID(bytes=digest[:16], version=5)
    return canonical_json(content | {"serialNumber": f"urn:uuid:{serial}"})


def _bundle(manifest: Manifest) -> dict[str, Json]:
    """The bundle as a component; its hash and version are those of its engine files together."""
    digest = manifest.engine_sha256
    component: dict[str, Json] = {
        "type": "machine-learning-model",
        "bom-ref": _BUNDLE,
        "name": "pkecho-segmentation",
        "version": digest[:16],
        "description": statements.TASK,
        "hashes": _hashes(digest),
        "components": [
            _file(entry) for entry in manifest.files if entry.path not in (SBOM, MODEL_CARD)
        ],
        "pedigree": {"ancestors": [_checkpoint(manifest)]},
        "modelCard": _model_card(manifest),
        "properties": _properties(
            {
                "hash": "of the lines that sha256sum prints for the files in engine/, by path",
                "security-version": str(manifest.security_version),
                "target": manifest.target,
                "profile": manifest.profile,
                "pruning-sha256": manifest.lineage.pruning_sha256,
                "onnx-sha256": manifest.lineage.onnx_sha256,
            }
        ),
    }
    return component


def _checkpoint(manifest: Manifest) -> dict[str, Json]:
    """The baseline, which is not in the bundle."""
    digest = manifest.lineage.checkpoint_sha256
    component: dict[str, Json] = {
        "type": "machine-learning-model",
        "bom-ref": "checkpoint",
        "name": statements.network_name(manifest),
        "version": digest[:16],
        "description": f"The unpruned FP32 checkpoint. Trained: {statements.training(manifest)}.",
        "scope": "excluded",
        "hashes": _hashes(digest),
    }
    if statements.is_packaged(manifest):
        component["licenses"] = [{"license": {"id": "Apache-2.0"}}]
    return component


def _model_card(manifest: Manifest) -> dict[str, Json]:
    inputs: list[Json] = []
    outputs: list[Json] = []
    for engine in manifest.engines:
        for tensors, listed in ((engine.inputs, inputs), (engine.outputs, outputs)):
            listed.extend(
                {"format": f"{engine.mode}: {t.name} {t.dtype} {list(t.shape)}"} for t in tensors
            )
    training: dict[str, Json] = {
        "type": "dataset",
        "name": "training",
        "description": statements.training(manifest),
    }
    calibration: dict[str, Json] = {
        "type": "dataset",
        "name": "calibration",
        "description": statements.calibration(manifest),
        "contents": {"properties": _properties({"sha256": manifest.lineage.calibration_sha256})},
    }
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "semantic segmentation",
            "architectureFamily": "convolutional neural network",
            "modelArchitecture": statements.network_name(manifest),
            "datasets": [training, calibration],
            "inputs": inputs,
            "outputs": outputs,
        },
        "considerations": {
            "users": list(statements.USERS),
            "useCases": list(statements.USES),
            "technicalLimitations": [
                statements.warning(manifest),
                *(f"Not for: {text}" for text in statements.MISUSES),
                *statements.limitations(manifest),
            ],
        },
    }


def _library(name: str, version: str, prefix: str = "") -> dict[str, Json]:
    """A component; of software that `libraries` does not know, name and version alone."""
    component: dict[str, Json] = {
        "type": "library",
        "bom-ref": f"{prefix}{name}@{version}",
        "name": name,
        "version": version,
    }
    if (known := LIBRARIES.get(name)) is None:
        return component
    licence: dict[str, Json] = {"id" if known.is_spdx else "name": known.licence}
    component |= {"supplier": {"name": known.supplier}, "licenses": [{"license": licence}]}
    if known.anomalies is not None:
        kind = "issue-tracker" if known.anomalies.endswith(_ISSUES) else "release-notes"
        component["externalReferences"] = [{"type": kind, "url": known.anomalies}]
    kind, package = ("pypi", known.pypi) if known.pypi else ("generic", name)
    return component | {"purl": f"pkg:{kind}/{package}@{quote(version, safe='')}"}


def _file(entry: FileEntry) -> dict[str, Json]:
    return {
        "type": "file",
        "bom-ref": entry.path,
        "name": entry.path,
        "hashes": _hashes(entry.sha256),
    }


def _hashes(sha256: str) -> list[Json]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(values: Mapping[str, str | None]) -> list[Json]:
    """Name and value pairs in our own name space; what is None is left out."""
    return [
        {"name": f"pkecho-edge:{name}", "value": value}
        for name, value in values.items()
        if value is not None
    ]
