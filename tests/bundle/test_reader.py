"""A bundle is accepted only as it was written: each kind of tampering names the file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pkecho_edge.bundle.reader import Bundle, check_bundle, check_security_version, read_bundle
from pkecho_edge.errors import EnvironmentMismatch, IntegrityError, UsageError
from pkecho_edge.targets.base import Engine

EVERY_FILE = (
    "MODEL_CARD.md",
    "engine/clip.bin",
    "engine/clip.xml",
    "golden/clip/areas_px.npy",
    "golden/clip/frames.npy",
    "golden/clip/golden.json",
    "golden/clip/logits.npy",
    "golden/clip/masks.npy",
    "model/network.json",
    "reports/report.json",
    "sbom.cdx.json",
)


def refused(bundle: Bundle, name: str) -> str:
    """The message of the check, which must name this file."""
    with pytest.raises(IntegrityError) as caught:
        check_bundle(bundle.path)
    assert caught.value.path == bundle.path / name
    return str(caught.value)


def test_an_untouched_bundle_passes(bundle: Bundle) -> None:
    assert check_bundle(bundle.path) == bundle
    assert tuple(sorted(entry.path for entry in bundle.manifest.all_files)) == EVERY_FILE


def test_a_signature_beside_the_manifest_is_not_an_extra_file(bundle: Bundle) -> None:
    (bundle.path / "manifest.json.minisig").write_text("untrusted comment: none\n")
    check_bundle(bundle.path)


def test_the_engine_is_ready_to_be_loaded(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.path.parent)
    shipped = read_bundle(bundle.path.name).engine()
    assert shipped.directory == bundle.path / "engine"
    assert (shipped.target, shipped.files) == (engine.target, engine.files)
    assert (shipped.inputs, shipped.outputs) == (engine.inputs, engine.outputs)
    assert (shipped.options, shipped.toolchain) == (engine.options, engine.toolchain)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_one_flipped_bit_is_noticed(bundle: Bundle, name: str) -> None:
    path = bundle.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "SHA-256" in refused(bundle, name)


def test_no_flipped_bit_of_the_manifest_goes_unnoticed(bundle: Bundle) -> None:
    path = bundle.path / "manifest.json"
    original = path.read_bytes()
    for position in range(0, len(original), 61):
        data = bytearray(original)
        data[position] ^= 1
        path.write_bytes(data)
        try:
            changed = check_bundle(bundle.path)
        except (IntegrityError, EnvironmentMismatch):
            continue
        # Only the headline figures and the hashes of reports have no second witness in here.
        assert changed.manifest_sha256 != bundle.manifest_sha256
        assert changed.manifest.bundle_id == bundle.manifest.bundle_id


@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_missing_file_is_noticed(bundle: Bundle, name: str) -> None:
    (bundle.path / name).unlink()
    with pytest.raises(IntegrityError) as caught:
        check_bundle(bundle.path)
    assert caught.value.path == bundle.path / name
    assert "is missing" in str(caught.value)


@pytest.mark.parametrize("name", ["engine/clip.bin", "reports/report.json"])
def test_a_longer_or_shorter_file_is_noticed(bundle: Bundle, name: str) -> None:
    path = bundle.path / name
    data = path.read_bytes()
    path.write_bytes(data + b"\n")
    assert f"has {len(data) + 1} bytes, the manifest lists {len(data)}" in refused(bundle, name)
    path.write_bytes(data[:-1])
    assert f"has {len(data) - 1} bytes" in refused(bundle, name)


@pytest.mark.parametrize(
    "name", ["extra", "engine/extra.bin", ".hidden", "golden/.DS_Store", "manifest.json.bak"]
)
def test_an_unlisted_file_is_noticed(bundle: Bundle, name: str) -> None:
    (bundle.path / name).write_bytes(b"")
    assert "is not listed" in refused(bundle, name)


def test_an_unlisted_folder_is_noticed(bundle: Bundle) -> None:
    (bundle.path / "engine" / "cache").mkdir()
    assert "folder without listed files" in refused(bundle, "engine/cache")


@pytest.mark.parametrize("name", ["engine/clip.bin", "manifest.json", "MODEL_CARD.md"])
def test_a_link_is_refused_even_to_the_same_bytes(bundle: Bundle, name: str) -> None:
    path = bundle.path / name
    elsewhere = bundle.path.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert "symbolic link" in refused(bundle, name)


def test_a_linked_folder_is_refused(bundle: Bundle) -> None:
    elsewhere = bundle.path.parent / "elsewhere"
    (bundle.path / "engine").rename(elsewhere)
    (bundle.path / "engine").symlink_to(elsewhere, target_is_directory=True)
    assert "symbolic link" in refused(bundle, "engine")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["manifest.json", "engine/clip.bin"])
def test_a_pipe_is_refused_without_waiting_for_a_writer(bundle: Bundle, name: str) -> None:
    (bundle.path / name).unlink()
    os.mkfifo(bundle.path / name)
    assert "not a regular file" in refused(bundle, name)


@pytest.mark.parametrize("name", ["manifest.json", "engine/clip.bin"])
def test_a_folder_in_place_of_a_file_is_refused(bundle: Bundle, name: str) -> None:
    (bundle.path / name).unlink()
    (bundle.path / name).mkdir()
    refused(bundle, name)


def test_a_manifest_without_end_is_not_read_whole(bundle: Bundle) -> None:
    with (bundle.path / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: takes no room on the disk
    assert "too many for this file" in refused(bundle, "manifest.json")


def test_a_bundle_of_another_schema_says_so(bundle: Bundle) -> None:
    path = bundle.path / "manifest.json"
    document = json.loads(path.read_text())
    document["schema"] = "pkecho-edge/bundle/3"
    path.write_text(json.dumps(document))
    with pytest.raises(EnvironmentMismatch, match="Update pkecho-edge") as caught:
        check_bundle(bundle.path)
    assert caught.value.path == path


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a bundle folder"):
        read_bundle(tmp_path / "absent.pkb")
    with pytest.raises(IntegrityError, match="is missing"):
        read_bundle(tmp_path)


def test_read_returns_only_bytes_that_the_manifest_lists(bundle: Bundle) -> None:
    assert bundle.read("engine/clip.xml") == b"<net/>"
    (bundle.path / "engine" / "clip.xml").write_bytes(b"<NET/>")
    with pytest.raises(IntegrityError, match="SHA-256"):
        bundle.read("engine/clip.xml")
    (bundle.path / "engine" / "clip.xml").write_bytes(b"<net/>longer")
    with pytest.raises(IntegrityError, match="too many"):
        bundle.read("engine/clip.xml")
    with pytest.raises(IntegrityError, match="not listed"):
        bundle.read("../heart.pkb/engine/clip.xml")


def test_a_copied_bundle_is_the_same_bundle(bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "renamed.pkb"
    shutil.copytree(bundle.path, copy)
    assert check_bundle(copy).manifest_sha256 == bundle.manifest_sha256


def test_a_device_without_torch_can_check_a_bundle(bundle: Bundle) -> None:
    program = (
        "import sys\n"
        "from pkecho_edge.bundle import golden, manifest, model_card, reader, sbom, writer\n"
        "reader.check_bundle(sys.argv[1])\n"
        "heavy = {'torch', 'openvino', 'onnx', 'onnxruntime', 'safetensors', 'scipy', 'av'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(bundle.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("minimum", [0, 1])
def test_a_bundle_that_is_new_enough_is_accepted(bundle: Bundle, minimum: int) -> None:
    check_security_version(bundle, minimum)


def test_a_bundle_that_is_too_old_is_refused_and_told_what_would_do(bundle: Bundle) -> None:
    with pytest.raises(IntegrityError) as caught:
        check_security_version(bundle, 2)
    assert caught.value.exit_code == 6
    assert str(caught.value) == (
        f"{bundle.path}: has security version 1, older than the minimum of 2. "
        "Use a bundle that was compiled with --security-version 2 or higher"
    )
