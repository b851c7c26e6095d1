"""The bill of materials: CycloneDX 1.5 JSON, the model and the tools that made its engine.

https://cyclonedx.org/docs/1.5/json/. A fixed input gives fixed bytes: there is no timestamp, and
the serial number is derived from the content.
"""

from __future__ import annotations

import hashlib
import uuid
from urllib.parse import quote

from pkecho_edge.bundle.manifest import Manifest
from pkecho_edge.bundle.strict_json import Json, canonical_json

__all__ = ["sbom_json"]

_MODEL = "model"
_ON_PYPI = frozenset(
    {"hatchling", "nncf", "numpy", "onnx", "onnxruntime", "openvino", "safetensors", "torch"}
)
"""Names for which a package URL of type pypi is right; others get none."""


def sbom_json(manifest: Manifest) -> str:
    """The text of sbom.cdx.json; `files`, `reports` and so the bundle id play no part in it."""
    components = _components(manifest)
    references: list[Json] = [component["bom-ref"] for component in components]
    content: dict[str, Json] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": _model(manifest)},
        "components": list(components),
        "dependencies": [{"ref": _MODEL, "dependsOn": references}],
    }
    digest = hashlib.sha256(canonical_json(content).encode()).digest()
    serial = uuid.UUID(bytes=digest[:16], version=5)
    return canonical_json(content | {"serialNumber": f"urn:uuid:{serial}"})


def _model(manifest: Manifest) -> dict[str, Json]:
    lineage = manifest.lineage
    engine = manifest.engines[0]
    inputs: list[Json] = [{"format": f"{t.name} {t.dtype} {list(t.shape)}"} for t in engine.inputs]
    outputs: list[Json] = [
        {"format": f"{t.name} {t.dtype} {list(t.shape)}"} for t in engine.outputs
    ]
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": "pkecho-segmentation",
        "version": lineage.checkpoint_sha256[:16],
        "hashes": [{"alg": "SHA-256", "content": lineage.checkpoint_sha256}],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "segmentation of echocardiography clips",
                "inputs": inputs,
                "outputs": outputs,
            }
        },
    }


def _components(manifest: Manifest) -> list[dict[str, Json]]:
    """One library per name and version; which side named it stands in its properties."""
    roles: dict[tuple[str, str], set[str]] = {}
    for name, version in manifest.lineage.tool_versions.items():
        roles.setdefault((name, version), set()).add("build")
    for engine in manifest.engines:
        for name, version in engine.toolchain.items():
            roles.setdefault((name, version), set()).add("engine-toolchain")
    return [
        _library(name, version, sorted(roles[name, version])) for name, version in sorted(roles)
    ]


def _library(name: str, version: str, roles: list[str]) -> dict[str, Json]:
    component: dict[str, Json] = {
        "type": "library",
        "bom-ref": f"{name}@{version}",
        "name": name,
        "version": version,
        "properties": [{"name": "pkecho-edge:role", "value": role} for role in roles],
    }
    if name in _ON_PYPI:
        component["purl"] = f"pkg:pypi/{name}@{quote(version, safe='')}"
    return component
