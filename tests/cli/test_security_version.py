"""Anti-rollback from the command line: raised with compile, asked for with inspect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.cli.conftest import COMPILE, Refuses, Type, fingerprints


def test_raising_it_reuses_every_stage_and_changes_nothing_else(world: Path, typed: Type) -> None:
    outcome = typed(f"{COMPILE} --out newer.pkb --security-version 7")

    assert outcome.code == 0, outcome.err
    assert outcome.out.count("(reused)") == 4
    old, new = (
        json.loads((world / n / "manifest.json").read_text()) for n in ("heart.pkb", "newer.pkb")
    )
    assert (old["security_version"], new["security_version"]) == (1, 7)
    assert new["lineage"] == old["lineage"]
    before, after = fingerprints(world / "heart.pkb"), fingerprints(world / "newer.pkb")
    assert set(before) == set(after)
    assert {n for n in before if before[n] != after[n] and not n.startswith("reports/")} == {
        "manifest.json",
        "MODEL_CARD.md",
        "sbom.cdx.json",
    }
    assert "Security version 7." in (world / "newer.pkb" / "MODEL_CARD.md").read_text()


def test_inspect_shows_it_and_takes_a_bundle_that_is_new_enough(world: Path, typed: Type) -> None:
    outcome = typed("inspect heart.pkb --minimum-security-version 1")

    assert outcome.code == 0, outcome.err
    shown = [line.split() for line in outcome.out.splitlines() if "security" in line]
    assert shown == [["security", "version", "1"]]


def test_an_older_bundle_is_refused(world: Path, refuses: Refuses) -> None:
    refuses(
        "inspect heart.pkb --minimum-security-version 2",
        6,
        "heart.pkb: has security version 1, older than the minimum of 2",
        "compiled with --security-version 2 or higher",
        case="bundle older than the minimum security version",
    )


def test_who_signed_it_is_asked_before_how_new_it_is(
    world: Path, typed: Type, refuses: Refuses
) -> None:
    """Of a bundle that somebody else signed, the version is worth nothing."""
    typed("keygen release --quiet")
    line = "inspect heart.pkb --key release.pub --minimum-security-version 2"
    refuses(line, 6, "is not signed", case="unsigned bundle, minimum security version")


@pytest.mark.parametrize("number", [0, -1, 1 << 31])
def test_a_number_that_no_manifest_holds_is_refused_before_the_work(
    refuses: Refuses, number: int
) -> None:
    line = f"{COMPILE} --out new.pkb --security-version={number}"
    case = f"security version {number}"
    refuses(line, 2, f"security version {number} is not between 1 and 2147483647", case=case)


def test_a_minimum_below_zero_is_refused(refuses: Refuses) -> None:
    line = "inspect heart.pkb --minimum-security-version=-1"
    refuses(line, 2, "--minimum-security-version", case="minimum security version -1")


def test_the_documents_of_a_compiled_bundle_are_filled(world: Path) -> None:
    """By the street itself, of a checkpoint that says nothing of its training."""
    sbom = (world / "heart.pkb" / "sbom.cdx.json").read_text()
    card = (world / "heart.pkb" / "MODEL_CARD.md").read_text()

    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(sbom) is None
    assert "The checkpoint does not say what it was trained on" in card
    assert "`2 clips of 2 patients, source phantom, chosen by rule random`" in card
    assert "Calibrated on synthetic phantoms" in card
    rows = [line for line in card.splitlines() if "not recorded" in line]
    assert rows == ["| trained | `not recorded` |"]
