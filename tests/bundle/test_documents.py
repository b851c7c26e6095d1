"""The bill of materials and the model card say what the manifest says, and nothing measured."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pkecho_edge import targets
from pkecho_edge.bundle.libraries import LIBRARIES, RUNTIMES
from pkecho_edge.bundle.manifest import Manifest, Postprocessing, Reports
from pkecho_edge.bundle.model_card import model_card
from pkecho_edge.bundle.reader import Bundle
from pkecho_edge.bundle.sbom import sbom_json
from pkecho_edge.calibration.calibration_set import MINIMUM_CLIPS

Configured = Callable[..., Manifest]
Sbom = dict[str, Any]

FACTS: Mapping[str, Any] = {
    "network": {"backbone": "resnet18"},
    "model": {"parameters": 11782272, "gmacs": 6.74},
    "checkpoint": {"packaged": False, "training": "7460 recordings, split TRAIN"},
    "calibration": {"clips": 32, "patients": 31, "rule": "random", "sources": ["echonet"]},
    "quantization": {"scheme": "cpu", "rule": "mse/minmax+bias", "float_layers": ["head.out"]},
}


@pytest.fixture
def configured(draft: Manifest) -> Configured:
    """The small manifest with these sections of its configuration, the others of FACTS."""

    def make(**sections: object) -> Manifest:
        lineage = replace(draft.lineage, configuration={**FACTS, **sections})
        return replace(draft, lineage=lineage)

    return make


def problem(text: str) -> object:
    """What a stock validator says against an SBOM; None where it accepts it."""
    return JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)


def references(value: object) -> list[str]:
    """Every bom-ref in an SBOM."""
    if isinstance(value, list):
        return [name for item in value for name in references(item)]
    if not isinstance(value, dict):
        return []
    found = [name for item in value.values() for name in references(item)]
    return [*found, value["bom-ref"]] if "bom-ref" in value else found


# SBOM


@pytest.mark.parametrize("target", [*targets.names(), "a-later-one"])
def test_a_stock_validator_accepts_the_sbom(configured: Configured, target: str) -> None:
    device = {"tensorrt": "10.3.0", "cuda": "12.6", "jetpack": "6.2"}
    assert problem(sbom_json(replace(configured(device=device), target=target))) is None


def test_a_stock_validator_accepts_what_lies_in_a_bundle(bundle: Bundle, draft: Manifest) -> None:
    assert problem((bundle.path / "sbom.cdx.json").read_text()) is None
    lineage = replace(draft.lineage, configuration={}, tool_versions={}, calibration_sha256=None)
    bare = replace(draft, lineage=lineage, profile=None)
    assert problem(sbom_json(bare)) is None


def _no_type(sbom: Sbom) -> None:
    del sbom["metadata"]["component"]["type"]


def _short_hash(sbom: Sbom) -> None:
    sbom["metadata"]["component"]["components"][0]["hashes"][0]["content"] = "12"


def _unknown_licence(sbom: Sbom) -> None:
    sbom["components"][0]["licenses"][0]["license"]["id"] = "Apache-9"


def _unknown_key(sbom: Sbom) -> None:
    sbom["metadata"]["component"]["modelCard"]["mood"] = "good"


def _serial(sbom: Sbom) -> None:
    sbom["serialNumber"] = "7"


@pytest.mark.parametrize("spoil", [_no_type, _short_hash, _unknown_licence, _unknown_key, _serial])
def test_the_validator_would_notice(bundle: Bundle, spoil: Callable[[Sbom], None]) -> None:
    sbom = json.loads((bundle.path / "sbom.cdx.json").read_text())
    spoil(sbom)
    assert problem(json.dumps(sbom)) is not None


def test_every_reference_is_unique_and_leads_somewhere(bundle: Bundle) -> None:
    sbom = json.loads((bundle.path / "sbom.cdx.json").read_text())
    known = references(sbom)
    assert len(set(known)) == len(known)
    used = {name for entry in sbom["dependencies"] for name in (entry["ref"], *entry["dependsOn"])}
    used |= {name for each in sbom["compositions"] for name in each["dependencies"]}
    assert used <= set(known)


def test_the_bundle_is_a_model_with_its_files_and_its_ancestor(bundle: Bundle) -> None:
    sbom = json.loads((bundle.path / "sbom.cdx.json").read_text())
    assert (sbom["bomFormat"], sbom["specVersion"], sbom["version"]) == ("CycloneDX", "1.5", 1)
    model = sbom["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["modelCard"]["modelParameters"]["inputs"] == [
        {"format": "clip: frames u8 [2, 1, 96, 96]"}
    ]
    (ancestor,) = model["pedigree"]["ancestors"]
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": "1" * 64}]

    listed = {file["name"]: file["hashes"][0]["content"] for file in model["components"]}
    assert set(listed) == {
        entry.path
        for entry in bundle.manifest.files
        if entry.path not in ("sbom.cdx.json", "MODEL_CARD.md")
    }
    for name, digest in listed.items():
        assert hashlib.sha256((bundle.path / name).read_bytes()).hexdigest() == digest


def test_the_models_hash_is_that_of_its_engine_files_as_it_says(bundle: Bundle) -> None:
    model = json.loads((bundle.path / "sbom.cdx.json").read_text())["metadata"]["component"]
    paths = sorted(p for p in bundle.path.rglob("*") if p.is_file() and "engine" in p.parts)
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(bundle.path).as_posix()}\n"
        for p in paths
    ]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert model["hashes"] == [{"alg": "SHA-256", "content": expected}]
    assert model["version"] == expected[:16]


def test_nothing_in_the_sbom_is_a_time_or_chance(draft: Manifest) -> None:
    text = sbom_json(draft)
    assert text == sbom_json(draft)
    assert "timestamp" not in text
    serial = r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert re.fullmatch(serial, json.loads(text)["serialNumber"])


def test_the_serial_number_follows_the_content(draft: Manifest) -> None:
    serial = json.loads(sbom_json(draft))["serialNumber"]
    lineage = replace(draft.lineage, checkpoint_sha256="9" * 64)
    other = json.loads(sbom_json(replace(draft, lineage=lineage)))["serialNumber"]
    assert serial != other


def test_what_the_device_needs_is_apart_from_what_built_the_engine(draft: Manifest) -> None:
    sbom = json.loads(sbom_json(draft))
    (runtime,) = sbom["components"]
    assert runtime["purl"] == "pkg:pypi/openvino@2026.1.0"
    assert runtime["scope"] == "required"
    assert runtime["supplier"] == {"name": "Intel Corporation"}
    assert runtime["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert runtime["externalReferences"][0]["type"] == "issue-tracker"
    assert sbom["dependencies"] == [{"ref": "bundle", "dependsOn": ["openvino@2026.1.0"]}]
    (formula,) = sbom["formulation"]
    tools = {c["name"]: (c["version"], c.get("purl")) for c in formula["components"]}
    assert tools == {
        "nncf": ("3.0.0", "pkg:pypi/nncf@3.0.0"),
        "openvino": ("2026.1.0", "pkg:pypi/openvino@2026.1.0"),
        "python": ("3.11.7", None),
        "torch": ("2.11.0+cpu", "pkg:pypi/torch@2.11.0%2Bcpu"),
    }


@pytest.mark.parametrize("target", targets.names())
def test_every_target_says_what_its_device_needs(configured: Configured, target: str) -> None:
    device = {"name": "orin-nano", "tensorrt": "10.3.0", "cuda": "12.6", "jetpack": "6.2"}
    manifest = configured(device=device)
    (engine,) = manifest.engines
    toolchain = {"openvino": "2026.1.0", "onnxruntime": "1.20.0", "torch": "2.11.0"}
    manifest = replace(manifest, target=target, engines=(replace(engine, toolchain=toolchain),))

    sbom = json.loads(sbom_json(manifest))

    found = {component["name"]: component["version"] for component in sbom["components"]}
    everything = {**device, **toolchain}
    assert found == {name: everything[name] for name in RUNTIMES[target]}
    assert found
    assert all("supplier" in component for component in sbom["components"])
    card = model_card(manifest)
    assert all(f"| {name} | `{version}` |" in card for name, version in found.items())


def test_the_software_of_an_unknown_target_is_its_whole_toolchain(draft: Manifest) -> None:
    sbom = json.loads(sbom_json(replace(draft, target="a-later-one")))
    assert [component["name"] for component in sbom["components"]] == ["openvino"]


@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_licences_are_those_that_the_packages_state(name: str) -> None:
    library = LIBRARIES[name]
    if library.pypi is None:
        pytest.skip("not a package of PyPI")
    try:
        stated = metadata.metadata(library.pypi)
    except metadata.PackageNotFoundError:
        pytest.skip("not installed")
    words = [stated.get("License-Expression"), stated.get("License")]
    words += [text for text in stated.get_all("Classifier") or [] if "License" in text]
    told = " ".join(filter(None, words))
    assert library.licence in told


# Model card


def test_the_card_says_what_it_was_made_of(configured: Configured) -> None:
    manifest = replace(configured(), postprocessing=Postprocessing(component="largest"))
    card = model_card(replace(manifest, security_version=4))
    for fact in (
        "`cpu`, profile `generic-x86-64`",
        "Security version 4.",
        "u8 [2, 1, 96, 96]",
        "`bilinear-half-pixel, aspect ratio not kept`",
        "`largest: only the largest one stays`",
        "`0.5 points`",
        "1" * 64,
        "3" * 64,
        "2.11.0+cpu",
        "`PKEcho-Net, resnet18`",
        "`11,782,272`",
        "`6.740 GMACs`",
        "| pruned | `no` |",
        "`7460 recordings, split TRAIN`",
        "`32 clips of 31 patients, source echonet, chosen by rule random`",
        "`mse/minmax+bias`",
        "`head.out`",
        "0.20% of",
        "2.00% of the golden area",
        "inspect BUNDLE --key release.pub",
    ):
        assert fact in card, fact
    assert "specks" not in card
    assert "fewer than the recommended" not in card
    assert "not recorded" not in card


@pytest.mark.parametrize(
    ("training", "says"),
    [
        ("on phantoms, recipe.toml", "NOT FOR CLINICAL USE. The network was trained on synthetic"),
        ("680 Phantoms; seed 0", "NOT FOR CLINICAL USE. The network was trained on synthetic"),
        ("EchoNet-Dynamic, split TRAIN", "What the checkpoint says of its training was not"),
        (None, "The checkpoint does not say what it was trained on"),
    ],
)
def test_the_first_thing_said_is_what_it_was_trained_on(
    configured: Configured, training: str | None, says: str
) -> None:
    manifest = configured(checkpoint={"packaged": False, "training": training})

    first, second = model_card(manifest).splitlines()[:3:2]
    sbom = json.loads(sbom_json(manifest))

    assert first == "# Model card"
    assert second.startswith("> **NOT ")
    assert says in second
    limits = sbom["metadata"]["component"]["modelCard"]["considerations"]["technicalLimitations"]
    assert says in limits[0]


def test_what_is_not_recorded_is_not_guessed(draft: Manifest) -> None:
    lineage = replace(draft.lineage, configuration={})
    card = model_card(replace(draft, lineage=lineage))
    for name in (
        "trained",
        "parameters",
        "work per clip",
        "calibration set",
        "layers kept in float",
    ):
        assert f"| {name} | `not recorded` |" in card
    assert "Not recorded. Whoever trained the checkpoint" in card


def test_only_the_packaged_checkpoint_has_a_licence_that_is_known(configured: Configured) -> None:
    manifest = configured(checkpoint={"packaged": True, "training": "on phantoms"})
    assert "under Apache-2.0" in model_card(manifest)
    assert "under Apache-2.0" not in model_card(configured())
    ancestors = [
        json.loads(sbom_json(each))["metadata"]["component"]["pedigree"]["ancestors"][0]
        for each in (manifest, configured())
    ]
    assert ["licenses" in ancestor for ancestor in ancestors] == [True, False]


def test_a_weak_calibration_set_is_told(configured: Configured) -> None:
    few = {**FACTS["calibration"], "clips": MINIMUM_CLIPS - 1}
    enough = {**FACTS["calibration"], "clips": MINIMUM_CLIPS}
    drawn = {**FACTS["calibration"], "sources": ["phantom"]}
    assert f"fewer than the recommended {MINIMUM_CLIPS} clips" in model_card(
        configured(calibration=few)
    )
    assert "fewer than the recommended" not in model_card(configured(calibration=enough))
    assert "Calibrated on synthetic phantoms" in model_card(configured(calibration=drawn))
    floats = {"scheme": None, "rule": None, "float_layers": []}
    unquantized = model_card(configured(calibration=drawn, quantization=floats))
    assert "Calibrated on" not in unquantized
    assert "INT8 ranges" not in unquantized


def test_pruning_is_told_with_what_there_was_before(configured: Configured) -> None:
    model = {"parameters": 1000, "gmacs": 7.0, "baseline_parameters": 9000, "baseline_gmacs": 42.1}
    order = {"ratio": 0.83, "scope": "global", "importance": "magnitude", "rounds": 2, "steps": 900}
    manifest = configured(model=model, pruning=order)
    lineage = replace(manifest.lineage, pruning_sha256="4" * 64)
    card = model_card(replace(manifest, lineage=lineage))
    assert (
        "| pruned | `yes, from 42.100 GMACs and 9,000 parameters; see model/pruning.json; "
        "ratio 0.83; scope global; importance magnitude; rounds 2; steps 900` |"
    ) in card


def test_without_gates_the_card_says_so(draft: Manifest) -> None:
    assert "held to no limit" in model_card(replace(draft, gates=()))


def test_a_cell_cannot_break_out_of_its_table(draft: Manifest) -> None:
    lineage = replace(
        draft.lineage,
        tool_versions={"odd": "1`|<b>"},
        configuration={"checkpoint": {"training": "a\n\n# Model card\r\n`|"}},
    )
    card = model_card(replace(draft, lineage=lineage))
    assert "| odd | `1'/<b>` |" in card
    assert "| trained | `a # Model card '/` |" in card


def test_neither_depends_on_what_was_measured(draft: Manifest, bundle: Bundle) -> None:
    bare = replace(draft, reports=Reports(), files=bundle.manifest.files)
    assert sbom_json(bare) == sbom_json(bundle.manifest)
    assert model_card(bare) == model_card(bundle.manifest)
    assert (bundle.path / "sbom.cdx.json").read_text() == sbom_json(bare)
    assert (bundle.path / "MODEL_CARD.md").read_text() == model_card(bare)
