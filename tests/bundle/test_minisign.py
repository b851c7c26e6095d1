"""Keys and signatures: stock minisign reads ours and we read its; nothing altered passes."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkecho_edge.bundle import minisign
from pkecho_edge.bundle.minisign import PublicKey, SecretKey

DATA = b'{"schema": "pkecho-edge/bundle/2"}\n'
KEY = SecretKey.generate()
needs_minisign = pytest.mark.skipif(
    shutil.which("minisign") is None, reason="minisign is not installed"
)


def stock(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["minisign", *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_a_signature_of_the_same_bytes_passes_and_gives_its_comment() -> None:
    signature = minisign.sign(DATA, KEY, "bundle pkb-1")

    assert minisign.verify(DATA, signature, KEY.public) == "bundle pkb-1"
    assert minisign.verify(DATA, signature.replace("\n", "\r\n"), KEY.public) == "bundle pkb-1"
    assert minisign.sign(DATA, KEY, "bundle pkb-1") == signature


def test_keys_survive_their_files() -> None:
    assert SecretKey.from_text(KEY.to_text()) == KEY
    assert PublicKey.from_text(KEY.public.to_text()) == KEY.public
    assert PublicKey.from_text(KEY.public.to_text().splitlines()[1]) == KEY.public
    assert KEY.seed.hex() not in repr(KEY)
    assert SecretKey.generate() != SecretKey.generate()


@needs_minisign
def test_stock_minisign_verifies_ours(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(DATA)
    (tmp_path / "m.json.minisig").write_text(minisign.sign(DATA, KEY, "bundle pkb-1"))
    (tmp_path / "k.pub").write_text(KEY.public.to_text())
    line = ("-Vm", str(tmp_path / "m.json"), "-p", str(tmp_path / "k.pub"))

    passed = stock(*line)
    (tmp_path / "m.json").write_bytes(DATA + b" ")
    failed = stock(*line)

    assert passed.returncode == 0, passed.stderr
    assert "Trusted comment: bundle pkb-1" in passed.stdout
    assert failed.returncode != 0


@needs_minisign
def test_stock_minisign_signs_with_our_key(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(DATA)
    (tmp_path / "k").write_text(KEY.to_text())

    done = stock("-Sm", str(tmp_path / "m.json"), "-s", str(tmp_path / "k"), "-t", "by hand", "-W")

    assert done.returncode == 0, done.stderr
    signature = (tmp_path / "m.json.minisig").read_text()
    assert minisign.verify(DATA, signature, KEY.public) == "by hand"


@needs_minisign
def test_a_key_of_stock_minisign_signs(tmp_path: Path) -> None:
    made = stock("-GW", "-p", str(tmp_path / "k.pub"), "-s", str(tmp_path / "k"))
    assert made.returncode == 0, made.stderr

    key = SecretKey.from_text((tmp_path / "k").read_text())

    assert key.public == PublicKey.from_text((tmp_path / "k.pub").read_text())
    written = f"minisign public key {int(key.public.name, 16):X}"  # it drops leading zeros
    assert written in (tmp_path / "k.pub").read_text()


@given(st.data())
def test_no_altered_byte_passes(data: st.DataObject) -> None:
    """Of the signature's four lines the first is free, as in minisign; of the others no bit is."""
    signature = minisign.sign(DATA, KEY, "bundle pkb-1")
    first = signature.index("\n") + 1
    at = data.draw(st.integers(first, len(signature) - 2))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    altered = signature[:at] + other + signature[at + 1 :]
    if altered == signature:
        return

    with pytest.raises(ValueError, match=r"signature|signed"):
        minisign.verify(DATA, altered, KEY.public)


@pytest.mark.parametrize(
    ("signature", "says"),
    [
        ("", "not a minisign signature"),
        ("x" * 10_000, "too long"),
        (b"\xff\xfe\n\n\n\n", "decode"),
        (minisign.sign(DATA, SecretKey.generate(), "c"), "it was signed with key"),
        (minisign.sign(DATA + b" ", KEY, "c"), "does not match"),
    ],
    ids=["empty", "long", "binary", "another key", "other bytes"],
)
def test_what_is_no_signature_of_these_bytes_is_refused(signature: str | bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        minisign.verify(DATA, signature, KEY.public)


def test_a_comment_of_two_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="one line"):
        minisign.sign(DATA, KEY, "one\ntwo")


def _changed(text: str, at: int, to: bytes) -> str:
    head, line, _ = text.split("\n")
    data = bytearray(base64.b64decode(line))
    data[at : at + len(to)] = to
    return f"{head}\n{base64.b64encode(data).decode()}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (KEY.public.to_text(), "not a minisign secret key"),
        (_changed(KEY.to_text(), 0, b"XX"), "not a minisign secret key"),
        (_changed(KEY.to_text(), 2, b"Sc"), "encrypted"),
        (_changed(KEY.to_text(), 70, b"\0\0\0\0"), "checksum"),
        (_changed(_changed(KEY.to_text(), 126, bytes(32)), 70, b"\0\0\0\0"), "two halves"),
    ],
    ids=["public", "other algorithm", "encrypted", "damaged", "damaged, of stock minisign"],
)
def test_what_is_no_secret_key_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SecretKey.from_text(text)


@pytest.mark.parametrize("text", ["", KEY.to_text(), "untrusted comment: x\nAAAA\n", "a\nb\nc"])
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a minisign public key"):
        PublicKey.from_text(text)
