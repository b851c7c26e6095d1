"""Keys and signatures from the command line, checked by stock minisign where it is installed."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Refuses, Type, fingerprints


@pytest.fixture
def signed(world: Path, typed: Type) -> Path:
    """The world with a key pair and a signed bundle."""
    assert typed("keygen keys/release --quiet").code == 0
    assert typed("sign heart.pkb --key keys/release --quiet").code == 0
    return world


def test_a_key_is_private_and_its_bundle_stays_as_it_was(world: Path, typed: Type) -> None:
    made = typed("keygen keys/release")
    before = fingerprints(world)
    outcome = typed("sign heart.pkb --key keys/release")

    assert made.code == outcome.code == 0, outcome.err
    assert stat.S_IMODE((world / "keys" / "release").stat().st_mode) == 0o600
    after = fingerprints(world)
    assert set(after) - set(before) == {"heart.pkb/manifest.json.minisig"}
    assert {name: after[name] for name in before} == before
    assert "Check with: minisign -Vm heart.pkb/manifest.json -p keys/release.pub" in outcome.out


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_stock_minisign_succeeds_as_printed(signed: Path) -> None:
    done = subprocess.run(
        ["minisign", "-Vm", "manifest.json", "-p", "../keys/release.pub"],
        cwd=signed / "heart.pkb",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Trusted comment: bundle pkb-" in done.stdout
    assert "security version 1" in done.stdout


def test_inspect_requires_the_signature_of_the_key_it_is_given(signed: Path, typed: Type) -> None:
    outcome = typed("inspect heart.pkb --key keys/release.pub")

    assert outcome.code == 0, outcome.err
    assert "signed with key" in outcome.out


def test_signing_again_gives_the_same_bytes(signed: Path, typed: Type) -> None:
    signature = signed / "heart.pkb" / "manifest.json.minisig"
    first = signature.read_bytes()

    assert typed("sign heart.pkb --key keys/release --quiet").code == 0
    assert signature.read_bytes() == first


def test_an_unsigned_bundle_is_refused_where_a_key_is_given(
    world: Path, typed: Type, refuses: Refuses
) -> None:
    typed("keygen release --quiet")
    line = "inspect heart.pkb --key release.pub"
    refuses(line, 6, "is not signed", case="unsigned bundle")


def test_another_keys_signature_is_refused(signed: Path, typed: Type, refuses: Refuses) -> None:
    typed("keygen other --quiet")
    line = "inspect heart.pkb --key other.pub"
    refuses(line, 6, "signed with key", case="signature of another key")


def test_a_signature_of_another_manifest_is_refused(signed: Path, refuses: Refuses) -> None:
    manifest = signed / "heart.pkb" / "manifest.json"
    text = manifest.read_text()
    start = text.index('"headline"')
    at = next(i for i in range(start, len(text)) if text[i] in "12345678")
    manifest.write_text(text[:at] + "9" + text[at + 1 :])  # a figure that no hash covers
    line = "inspect heart.pkb --key keys/release.pub"
    refuses(line, 6, "the signature does not match", case="manifest edited after signing")


def test_a_damaged_bundle_is_not_signed(signed: Path, refuses: Refuses) -> None:
    (signed / "heart.pkb" / "MODEL_CARD.md").write_text("better")
    refuses("sign heart.pkb --key keys/release", 6, "MODEL_CARD.md", case="bundle to sign changed")


def test_a_key_that_others_can_read_is_refused(signed: Path, refuses: Refuses) -> None:
    (signed / "keys" / "release").chmod(0o644)
    line = "sign heart.pkb --key keys/release"
    refuses(
        line, 2, "can be read by others (mode 644). Run: chmod 600", case="secret key open to all"
    )


def test_a_key_is_never_overwritten(signed: Path, refuses: Refuses) -> None:
    refuses("keygen keys/release", 2, "exists already", case="key exists")


def test_a_key_does_not_lie_in_a_bundle(world: Path, refuses: Refuses) -> None:
    refuses("keygen heart.pkb/release", 2, "would lie in a bundle", case="key inside a bundle")


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("sign heart.pkb --key nowhere", 7, "not a secret key that can be read"),
        ("sign heart.pkb --key keys/release.pub", 7, "not a minisign secret key"),
        ("sign nowhere.pkb --key keys/release", 2, "not a bundle folder"),
        ("inspect heart.pkb --key keys/release", 7, "not a minisign public key"),
        ("inspect heart.pkb --key nowhere.pub", 7, "is missing"),
    ],
    ids=["no key", "public key to sign", "no bundle", "secret key to check", "no public key"],
)
def test_what_cannot_be_used_is_refused(
    signed: Path, refuses: Refuses, line: str, code: int, says: str
) -> None:
    (signed / "keys" / "release.pub").chmod(0o600)
    refuses(line, code, says)
