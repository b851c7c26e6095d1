"""The C library opens what the Python reader trusts, and names what is wrong with other bundles.

Most tests lay out many bundles and let one process open them all.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pkecho_edge.bundle import minisign
from pkecho_edge.bundle.layout import MANIFEST, SIGNATURE
from pkecho_edge.bundle.minisign import PublicKey, SecretKey
from pkecho_edge.bundle.reader import check_bundle
from pkecho_edge.errors import PkechoEdgeError
from tests.firmware.small_bundle import copy_bundle, seal
from tests.firmware.trust_program import UNSIGNED, Library, Verdict

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
LISTED = (
    "MODEL_CARD.md",
    "device/README.md",
    "engine/clip/net.bin",
    "engine/clip/net.xml",
    "engine/stream/net.bin",
    "golden/clip/frames.npy",
    "golden/stream/golden.json",
    "model/network.json",
    "reports/report.json",
    "sbom.cdx.json",
)


@dataclass(frozen=True)
class Key:
    """A key pair, the public half in a file."""

    secret: SecretKey
    option: tuple[str, str]


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy; the files named may be overwritten, any may be deleted."""
    numbers = iter(range(1 << 20))
    return lambda *changed: copy_bundle(original, tmp_path / f"{next(numbers)}.pkb", *changed)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Key]:
    return _key(tmp_path_factory.mktemp("a")), _key(tmp_path_factory.mktemp("b"))


def _key(folder: Path) -> Key:
    secret = SecretKey.generate()
    (folder / "k.pub").write_text(secret.public.to_text())
    return Key(secret, ("--key", str(folder / "k.pub")))


def signed(bundle: Path, key: Key, comment: str = "checked by hand") -> Path:
    text = minisign.sign((bundle / MANIFEST).read_bytes(), key.secret, comment)
    (bundle / SIGNATURE).write_text(text)
    return bundle


def python_accepts(bundle: Path) -> bool:
    try:
        check_bundle(bundle)
    except PkechoEdgeError:
        return False
    return True


def document_of(bundle: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((bundle / MANIFEST).read_text())
    return document


# ---- Signatures ----------------------------------------------------------------------------------


def test_a_signed_bundle_opens_with_its_key(
    library: Library, copied: Callable[..., Path], keys: tuple[Key, Key]
) -> None:
    bundle = signed(copied(), keys[0], "bundle of May ½")
    name, bundle_id = keys[0].secret.public.name, document_of(bundle)["bundle_id"]

    assert library.says(bundle, *keys[0].option) == Verdict(
        "OK", f"{bundle_id} {name} bundle of May ½"
    )
    for options in (
        (*keys[1].option, *keys[0].option),
        (*keys[0].option, *keys[1].option),
        (*keys[0].option, *UNSIGNED),
        (*keys[0].option, "--minimum", "3"),
    ):
        assert library.says(bundle, *options).status == "OK"


def test_another_key_is_refused(
    library: Library, copied: Callable[..., Path], keys: tuple[Key, Key]
) -> None:
    bundle = signed(copied(), keys[0])
    for options in (keys[1].option, (*keys[1].option, *UNSIGNED)):
        verdict = library.says(bundle, *options)
        assert verdict.status == "SIGNATURE_KEY"
        assert keys[0].secret.public.name in verdict.message


def test_another_key_with_the_same_id_is_refused(
    library: Library, copied: Callable[..., Path], keys: tuple[Key, Key], tmp_path: Path
) -> None:
    bundle = signed(copied(), keys[0])
    twin = PublicKey(keys[0].secret.public.key_id, keys[1].secret.public.key)
    (tmp_path / "twin.pub").write_text(twin.to_text())
    option = ("--key", str(tmp_path / "twin.pub"))
    assert library.says(bundle, *option).status == "SIGNATURE"
    assert library.says(bundle, *option, *keys[0].option).status == "OK"


def test_an_unsigned_bundle_opens_only_where_that_is_allowed(
    library: Library, original: Path, keys: tuple[Key, Key]
) -> None:
    verdict = library.says(original, *keys[0].option)
    assert verdict.status == "UNSIGNED"
    assert SIGNATURE in verdict.message
    for options in (UNSIGNED, (*UNSIGNED, *keys[0].option)):
        verdict = library.says(original, *options)
        assert verdict.status == "OK"
        assert "is not signed" in verdict.message  # what was logged


def test_an_unchecked_signature_is_said_to_be_one(
    library: Library, copied: Callable[..., Path], keys: tuple[Key, Key]
) -> None:
    verdict = library.says(signed(copied(), keys[0]), *UNSIGNED)
    assert verdict.status == "OK"
    assert "not checked" in verdict.message


@pytest.mark.parametrize("text", ["", "\n", "RWQ", "untrusted comment: x\n", "x" * 9000, "\0", "ä"])
def test_a_text_that_is_no_key_is_refused(
    library: Library, original: Path, keys: tuple[Key, Key], tmp_path: Path, text: str
) -> None:
    (tmp_path / "k.pub").write_text(text)
    with pytest.raises(ValueError, match="it is"):
        PublicKey.from_text(text)
    options = ("--key", str(tmp_path / "k.pub"), *keys[0].option, *UNSIGNED)
    assert library.says(original, *options).status == "PUBLIC_KEY"


def test_no_key_at_all_is_refused(library: Library, original: Path) -> None:
    assert library.says(original).status == "PUBLIC_KEY"


def test_keys_are_read_as_python_reads_them(
    library: Library, copied: Callable[..., Path], keys: tuple[Key, Key], tmp_path: Path
) -> None:
    bundle, text = signed(copied(), keys[0]), keys[0].secret.public.to_text()
    comment, line = text.splitlines()
    good = (
        text,
        text.replace("\n", "\r\n"),
        f"{comment}\n{line}",
        line,
        f"{line}\n",
        f"{line}\r\n",
    )
    bad: tuple[str, ...] = (
        f"{line}\n\n",
        f"{line} ",
        f" {line}",
        f"{line}\r",
        f"{line}=",
        line[:-4],
        f"{line}AAAA",
    )
    bad += (f"#{text}", f"{text}{line}\n", line.replace("RW", "RX", 1), f"{comment}\r{line}\n")
    for content in (*good, *bad):
        (tmp_path / "k.pub").write_bytes(content.encode())
        verdict = library.says(bundle, "--key", str(tmp_path / "k.pub"))
        assert verdict.status == ("OK" if content in good else "PUBLIC_KEY"), content
        try:
            assert PublicKey.from_text(content.encode()) == keys[0].secret.public
        except ValueError:
            assert content in bad


def test_a_changed_signature_is_refused_as_python_refuses_it(
    library: Library, copied: Callable[..., Path], keys: tuple[Key, Key]
) -> None:
    data = (copied() / MANIFEST).read_bytes()
    public = keys[0].secret.public
    text = minisign.sign(data, keys[0].secret, "ä comment").encode()
    other = minisign.sign(data + b" ", keys[0].secret, "ä comment").encode()
    lines, other_lines = text.split(b"\n"), other.split(b"\n")
    changed = [
        text,
        other,
        b"",
        text + b"\n",
        text[:-1],
        b"\n" + text,
        text.replace(b"\n", b"\r\n"),
    ]
    changed += [text[:length] for length in range(0, len(text), 3)]
    for position in range(len(text)):
        for bit in (0, 3, 7):
            flipped = bytearray(text)
            flipped[position] ^= 1 << bit
            changed.append(bytes(flipped))
    for i in range(4):  # a line of another signature
        changed.append(b"\n".join([*lines[:i], other_lines[i], *lines[i + 1 :]]))
    legacy = base64.b64encode(b"Ed" + base64.b64decode(lines[1])[2:])
    changed.append(b"\n".join([lines[0], legacy, *lines[2:]]))
    bundles = [copied() for _ in changed]
    for bundle, content in zip(bundles, changed, strict=True):
        (bundle / SIGNATURE).write_bytes(content)

    verdicts = library.open(bundles, *keys[0].option)

    accepted = 0
    for content, verdict in zip(changed, verdicts, strict=True):
        status = _python_status(data, content, public)
        assert verdict.status == status, content
        accepted += status == "OK"
    assert 5 < accepted < len(changed) / 4  # untrusted comments and ends of lines are free


def _python_status(data: bytes, signature: bytes, key: PublicKey) -> str:
    try:
        minisign.verify(data, signature, key)
    except ValueError as error:
        return "SIGNATURE_KEY" if "it was signed with key" in str(error) else "SIGNATURE"
    return "OK"


def test_nothing_in_a_manifest_counts_before_its_signature(
    library: Library, copied: Callable[..., Path], keys: tuple[Key, Key]
) -> None:
    for content in (b"{", b"[" * 1000, b'{"schema": "pkecho-edge/bundle/3"}'):
        bundle = signed(copied(MANIFEST), keys[0])
        (bundle / MANIFEST).write_bytes(content)
        assert library.says(bundle, *keys[0].option).status == "SIGNATURE"
        assert library.says(bundle, *keys[0].option, *UNSIGNED).status == "SIGNATURE"
        assert library.says(bundle, *keys[1].option).status == "SIGNATURE_KEY"
        status = library.says(signed(bundle, keys[0]), *keys[0].option).status
        assert status == ("SCHEMA_VERSION" if b"schema" in content else "MANIFEST")
        (bundle / SIGNATURE).unlink()
        assert library.says(bundle, *keys[0].option).status == "UNSIGNED"


def test_an_older_bundle_is_refused_before_its_files_are_read(
    library: Library, copied: Callable[..., Path], keys: tuple[Key, Key]
) -> None:
    bundle = signed(copied(), keys[0])
    (bundle / "engine/clip/net.bin").unlink()
    for minimum in (4, (1 << 32) - 1):
        verdict = library.says(bundle, *keys[0].option, "--minimum", str(minimum))
        assert verdict.status == "ROLLBACK"
        assert "security version 3" in verdict.message
    assert library.says(bundle, *keys[0].option, "--minimum", "3").status == "FILE_MISSING"


# ---- Files ---------------------------------------------------------------------------------------


def test_every_shortened_or_changed_file_is_named(
    library: Library, copied: Callable[..., Path], original: Path
) -> None:
    cases = []
    for name in LISTED:
        content = (original / name).read_bytes()
        steps = range(0, len(content), max(1, len(content) // 7))
        flipped = [
            content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] for at in steps
        ]
        for changed in (*(content[:at] for at in steps), *flipped, content + b"\0"):
            bundle = copied(name)
            (bundle / name).write_bytes(changed)
            cases.append((bundle, name))

    verdicts = library.open([bundle for bundle, _ in cases], *UNSIGNED)

    assert len(cases) > 100
    for (bundle, name), verdict in zip(cases, verdicts, strict=True):
        assert verdict.status == "FILE_CHANGED"
        assert verdict.message.startswith(f"{name}: ")
        assert not python_accepts(bundle)


def test_every_missing_file_is_named(library: Library, copied: Callable[..., Path]) -> None:
    bundles = [copied() for _ in LISTED]
    for bundle, name in zip(bundles, LISTED, strict=True):
        (bundle / name).unlink()
    for name, verdict in zip(LISTED, library.open(bundles, *UNSIGNED), strict=True):
        assert verdict.status == "FILE_MISSING"
        assert verdict.message.startswith(f"{name}: is missing")


def test_a_missing_manifest_or_folder_is_named(
    library: Library, copied: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = copied()
    (bundle / MANIFEST).unlink()
    assert library.says(bundle, *UNSIGNED).status == "FILE_MISSING"
    assert library.says(bundle / "LICENSE", *UNSIGNED).status == "BUNDLE_NOT_FOUND"
    assert library.says(bundle / "MODEL_CARD.md", *UNSIGNED).status == "BUNDLE_NOT_FOUND"
    assert library.says(tmp_path / "\x1b[2J.pkb", *UNSIGNED).status == "BUNDLE_NOT_FOUND"


def test_every_byte_of_the_manifest_is_signed(
    library: Library, copied: Callable[..., Path], keys: tuple[Key, Key]
) -> None:
    bundle = signed(copied(MANIFEST), keys[0])
    (bundle / MANIFEST).write_bytes((bundle / MANIFEST).read_bytes()[:-1])  # a newline
    assert library.says(bundle, *UNSIGNED).status == "OK"
    assert library.says(bundle, *keys[0].option).status == "SIGNATURE"


EXTRAS = (
    *("extra", ".hidden", "manifest.json.bak", "Manifest.json", "engine/extra", "engine/clip/x"),
    *("engine/clip/NET.BIN", "golden/.DS_Store", "engine/manifest.json", "reports/x", "a\nb\t\x1b"),
    *(
        "engine/" + "ä" * 127,
        "engine/" + "a" * 255,
        "engine/clip/-",
        "engine/manifest.json.minisig",
    ),
)


@pytest.mark.parametrize("name", EXTRAS)
def test_an_unlisted_file_folder_link_or_pipe_is_refused(
    library: Library, copied: Callable[..., Path], name: str
) -> None:
    makers: tuple[Callable[[Path], object], ...] = (
        Path.touch,
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to("MODEL_CARD.md"),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("nowhere"),
    )
    bundles = [copied() for _ in makers]
    for bundle, make in zip(bundles, makers, strict=True):
        make(bundle / name)
        assert not python_accepts(bundle)
    for verdict in library.open(bundles, *UNSIGNED):
        assert verdict.status == "FILE_UNLISTED"


def _link(path: Path) -> None:
    bundle = next(folder for folder in path.parents if folder.suffix == ".pkb")
    path.symlink_to(path.rename(bundle.with_suffix(".elsewhere")))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _socket(path: Path) -> None:
    path.unlink()
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")  # the path itself may be too long
    os.close(here)


@pytest.mark.parametrize("name", ["MODEL_CARD.md", "engine/clip/net.bin", MANIFEST, SIGNATURE])
@pytest.mark.parametrize("replace", [_link, _folder, _pipe, _socket, _endless])
def test_what_is_no_regular_file_is_neither_read_nor_waited_for(
    library: Library,
    copied: Callable[..., Path],
    keys: tuple[Key, Key],
    name: str,
    replace: Callable[[Path], None],
) -> None:
    bundle = signed(copied(), keys[0])
    replace(bundle / name)
    assert not python_accepts(bundle)
    for options in (keys[0].option, UNSIGNED):
        verdict = library.says(bundle, *options)
        assert verdict.status == "FILE_UNLISTED"
        assert name in verdict.message


@pytest.mark.parametrize("name", ["engine", "engine/clip", "reports"])
def test_a_linked_folder_is_refused_and_a_file_in_its_place_too(
    library: Library, copied: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    bundle = copied()
    (bundle / name).rename(tmp_path / "elsewhere")
    (bundle / name).symlink_to(tmp_path / "elsewhere")
    verdict = library.says(bundle, *UNSIGNED)
    assert verdict == Verdict("FILE_UNLISTED", verdict.message)
    assert verdict.message.startswith(f"{name}: is a symbolic link")
    (bundle / name).unlink()
    assert library.says(bundle, *UNSIGNED).status == "FILE_MISSING"
    (bundle / name).touch()
    assert library.says(bundle, *UNSIGNED).status == "FILE_UNLISTED"


def test_a_bundle_may_lie_behind_a_link_and_under_any_name(
    library: Library, copied: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = copied().rename(tmp_path / "ein Bündel")
    (tmp_path / "current").symlink_to(bundle)  # how an update is switched to
    for path in (bundle, tmp_path / "current", Path(f"{bundle}/.")):
        assert python_accepts(path)
        assert library.says(path, *UNSIGNED).status == "OK"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        (MANIFEST, "TOO_LARGE"),
        (SIGNATURE, "SIGNATURE"),
        ("engine/clip/net.bin", "FILE_CHANGED"),
        ("sbom.cdx.json", "FILE_CHANGED"),
    ],
)
def test_a_file_without_end_is_not_read(
    library: Library, copied: Callable[..., Path], keys: tuple[Key, Key], name: str, status: str
) -> None:
    bundle = signed(copied(name), keys[0])
    with (bundle / name).open("r+b") as file:
        file.truncate(1 << 40)  # sparse: takes no room on the disk
    assert library.says(bundle, *keys[0].option).status == status


@pytest.mark.parametrize(
    ("sizes", "status"),
    [
        ({"engine/clip/net.bin": 1 << 40}, "TOO_LARGE"),
        ({"engine/clip/net.bin": (1 << 30) + 1}, "TOO_LARGE"),
        ({"engine/clip/net.bin": 1 << 30}, "FILE_CHANGED"),
        ({"engine/clip/net.bin": 1 << 30, "engine/clip/net.xml": 1 << 30}, "TOO_LARGE"),
        ({"golden/clip/masks.npy": 1 << 30, "engine/stream/net.bin": 1 << 30}, "TOO_LARGE"),
        ({"device/README.md": 1 << 40}, "FILE_CHANGED"),
        ({"device/README.md": (1 << 40) + 1}, "MANIFEST"),
    ],
)
def test_sizes_that_no_engine_has_are_refused_before_memory_is_taken(
    library: Library, copied: Callable[..., Path], sizes: dict[str, int], status: str
) -> None:
    bundle = copied(MANIFEST)
    document = document_of(bundle)
    for entry in document["files"]:
        entry["size"] = sizes.get(entry["path"], entry["size"])
    (bundle / MANIFEST).write_text(json.dumps(seal(document)))
    assert library.says(bundle, *UNSIGNED).status == status
    assert not python_accepts(bundle)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", [MANIFEST, "engine/clip/net.bin", "engine", "."])
def test_what_the_system_does_not_let_us_read_is_named(
    library: Library, copied: Callable[..., Path], name: str
) -> None:
    bundle = copied(name)
    (bundle / name).chmod(0)
    verdict = library.says(bundle, *UNSIGNED)
    (bundle / name).chmod(0o755)
    assert verdict.status == "UNREADABLE"


def test_no_descriptor_is_left_open(library: Library, copied: Callable[..., Path]) -> None:
    bundles = []
    for i in range(60):
        bundle = copied("engine/clip/net.bin")
        if i % 4 == 1:
            (bundle / "engine/clip/net.bin").write_bytes(b"")
        elif i % 4 == 2:
            (bundle / "golden/x").mkdir()
        elif i % 4 == 3:
            (bundle / MANIFEST).unlink()
        bundles.append(bundle)
    statuses = [verdict.status for verdict in library.open(bundles, *UNSIGNED, descriptors=16)]
    assert statuses == ["OK", "FILE_CHANGED", "FILE_UNLISTED", "FILE_MISSING"] * 15


def test_memory_may_end_at_any_allocation(
    library: Library, copied: Callable[..., Path], keys: tuple[Key, Key]
) -> None:
    """With 16 descriptors: none may be left behind either."""
    command = [str(library.program), *keys[0].option, "--starve", str(signed(copied(), keys[0]))]
    run = subprocess.run(
        ["sh", "-c", f"ulimit -n 16; exec {shlex.join(command)}"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = run.stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["PKECHO_OUT_OF_MEMORY", "PKECHO_OK"]
    assert int(lines[1].split("\t")[1]) > 300  # so many does one bundle take


# ---- The header ----------------------------------------------------------------------------------


def test_every_status_has_its_name(firmware_build: Path) -> None:
    header = (FIRMWARE / "include" / "pkecho.h").read_text()
    enum = re.search(r"typedef enum pkecho_status \{(.*?)\} pkecho_status;", header, re.DOTALL)
    assert enum is not None
    names = {int(n): name for name, n in re.findall(r"(PKECHO_\w+) = (\d+)", enum[1])}
    shown = subprocess.run(
        [firmware_build / "pkecho-trust", "--statuses"], capture_output=True, text=True, check=True
    ).stdout.split("\n")[:-1]
    assert len(names) > 30
    assert shown == [names.get(n, "PKECHO_?") for n in range(100)]
