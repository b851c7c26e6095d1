"""The bill of materials and the model card say what the manifest says, and nothing measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from pkecho_edge.bundle.manifest import Manifest, Postprocessing, Reports
from pkecho_edge.bundle.model_card import model_card
from pkecho_edge.bundle.reader import Bundle
from pkecho_edge.bundle.sbom import sbom_json


def test_the_sbom_is_cyclonedx_with_the_model_in_it(draft: Manifest) -> None:
    sbom = json.loads(sbom_json(draft))
    assert (sbom["bomFormat"], sbom["specVersion"], sbom["version"]) == ("CycloneDX", "1.5", 1)
    serial = r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert re.fullmatch(serial, sbom["serialNumber"])
    model = sbom["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["hashes"] == [{"alg": "SHA-256", "content": "1" * 64}]
    assert model["modelCard"]["modelParameters"]["inputs"] == [
        {"format": "frames u8 [2, 1, 96, 96]"}
    ]
    assert "timestamp" not in sbom["metadata"]


def test_the_sbom_lists_every_tool_and_toolchain_once(draft: Manifest) -> None:
    sbom = json.loads(sbom_json(draft))
    found = {c["name"]: (c["version"], c.get("purl")) for c in sbom["components"]}
    assert found == {
        "nncf": ("3.0.0", "pkg:pypi/nncf@3.0.0"),
        "openvino": ("2026.1.0", "pkg:pypi/openvino@2026.1.0"),
        "python": ("3.11.7", None),
        "torch": ("2.11.0+cpu", "pkg:pypi/torch@2.11.0%2Bcpu"),
    }
    references = [c["bom-ref"] for c in sbom["components"]]
    assert sbom["dependencies"] == [{"ref": "model", "dependsOn": references}]
    assert len(set(references)) == len(references)


def test_the_serial_number_follows_the_content(draft: Manifest) -> None:
    serial = json.loads(sbom_json(draft))["serialNumber"]
    lineage = replace(draft.lineage, checkpoint_sha256="9" * 64)
    other = json.loads(sbom_json(replace(draft, lineage=lineage)))["serialNumber"]
    assert serial != other


def test_the_card_says_what_it_was_made_of(draft: Manifest) -> None:
    card = model_card(replace(draft, postprocessing=Postprocessing(component="largest")))
    for fact in (
        "`cpu`, profile `generic-x86-64`",
        "u8 [2, 1, 96, 96]",
        "`bilinear-half-pixel`",
        "`largest`",
        "`0.5 points`",
        "1" * 64,
        "2.11.0+cpu",
        '"backbone": "resnet18"',
    ):
        assert fact in card


def test_without_gates_the_card_says_so(draft: Manifest) -> None:
    assert "held to no limit" in model_card(replace(draft, gates=()))


def test_a_cell_cannot_break_out_of_its_table(draft: Manifest) -> None:
    lineage = replace(draft.lineage, tool_versions={"odd": "1`|<b>"})
    card = model_card(replace(draft, lineage=lineage))
    assert "| odd | `1'/<b>` |" in card


def test_neither_depends_on_what_was_measured(draft: Manifest, bundle: Bundle) -> None:
    bare = replace(draft, reports=Reports(), files=())
    assert sbom_json(bare) == sbom_json(bundle.manifest)
    assert model_card(bare) == model_card(bundle.manifest)
    assert (bundle.path / "sbom.cdx.json").read_text() == sbom_json(bare)
    assert (bundle.path / "MODEL_CARD.md").read_text() == model_card(bare)
