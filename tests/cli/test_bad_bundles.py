"""Bundles that were tampered with, and baselines that are not theirs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pkecho_edge.bundle.reader import read_bundle

Refuses = Callable[..., str]
Spoil = Callable[[Path], None]
Type = Callable[[str], Any]

VERIFY = "verify heart.pkb --data data --gates gates.toml"

FILES = (
    "MODEL_CARD.md",
    "engine/clip.xml",
    "engine/stream.xml",
    "engine/weights.bin",
    "golden/clip/areas_px.npy",
    "golden/clip/frames.npy",
    "golden/clip/golden.json",
    "golden/clip/logits.npy",
    "golden/clip/masks.npy",
    "golden/stream/areas_px.npy",
    "golden/stream/frames.npy",
    "golden/stream/golden.json",
    "golden/stream/logits.npy",
    "golden/stream/masks.npy",
    "manifest.json",
    "model/calibration.json",
    "reports/report.html",
    "reports/report.json",
    "sbom.cdx.json",
)


BOTH = pytest.mark.parametrize(
    "command", [pytest.param("inspect heart.pkb", id="inspect"), pytest.param(VERIFY, id="verify")]
)


# A flipped byte


def test_the_files_below_are_those_of_a_bundle(good_world: Path) -> None:
    """A kind of file that bundles gain must be flipped below, too."""
    bundle = good_world / "heart.pkb"
    found = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}

    assert found == set(FILES)


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
@BOTH
def test_a_flipped_byte_is_noticed(world: Path, refuses: Refuses, name: str, command: str) -> None:
    path = world / "heart.pkb" / name
    flip(path, 1 if name == "manifest.json" else path.stat().st_size // 2)

    refuses(command, 6, name, case=f"a flipped byte in {name}")


def test_flipped_bytes_of_the_manifest(world: Path, typed: Type) -> None:
    """Without a signature, the manifest alone vouches for itself.

    Whatever its id, a hash or another rule covers is noticed wherever the bit flips; only what
    compile measured (`reports.headline`) and the white space between the values has no witness.
    """
    path = world / "heart.pkb" / "manifest.json"
    text = path.read_text()
    headline = range(text.index('"headline"') + 12, text.index("}", text.index('"headline"')))
    unnoticed = []
    for position in range(0, len(text), 97):
        path.write_text(text)
        flip(path, position)
        outcome = typed("inspect heart.pkb --quiet")
        if outcome.code == 0:
            unnoticed.append(position)
        else:
            assert outcome.code in (5, 6), outcome.err
            assert outcome.err.startswith("error: ")
            assert outcome.err.count("\n") == 1

    assert len(unnoticed) < len(text) / 97 / 10
    assert [p for p in unnoticed if p not in headline and not text[p].isspace()] == []


# What else can be wrong inside


def unlisted(bundle: Path) -> None:
    (bundle / "engine" / "extra.bin").write_bytes(b"extra")


def hidden(bundle: Path) -> None:
    (bundle / ".DS_Store").write_bytes(b"")


def missing(bundle: Path) -> None:
    (bundle / "engine" / "weights.bin").unlink()


def shortened(bundle: Path) -> None:
    path = bundle / "engine" / "weights.bin"
    path.write_bytes(path.read_bytes()[:-1])


def linked(bundle: Path) -> None:
    path = bundle / "engine" / "weights.bin"
    path.rename(bundle.parent / "elsewhere.bin")
    path.symlink_to(bundle.parent / "elsewhere.bin")


def linked_out(bundle: Path) -> None:
    (bundle / "passwd").symlink_to("/etc/passwd")


def manifest_of(content: bytes) -> Spoil:
    return lambda bundle: _write(bundle / "manifest.json", content)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def without_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()


def half_a_manifest(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text()[:999])


def with_field(value: object, *keys: str | int) -> Spoil:
    """Another value, and nothing else made to fit."""

    def spoil(bundle: Path) -> None:
        path = bundle / "manifest.json"
        document = place = json.loads(path.read_text())
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        path.write_text(json.dumps(document))

    return spoil


def forged(**changes: Any) -> Spoil:
    """A manifest that is consistent: what somebody makes who recomputes the bundle's id."""

    def spoil(bundle: Path) -> None:
        manifest = read_bundle(bundle).manifest
        (bundle / "manifest.json").write_text(replace(manifest, **changes).to_json())

    return spoil


def of_openvino(version: str) -> Spoil:
    def spoil(bundle: Path) -> None:
        engines = read_bundle(bundle).manifest.engines
        newer = tuple(replace(engine, toolchain={"openvino": version}) for engine in engines)
        forged(engines=newer)(bundle)

    return spoil


OUTSIDE = {"path": "../network.safetensors", "size": 1, "sha256": "0" * 64}


@BOTH
@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        pytest.param(unlisted, 6, "engine/extra.bin: is not listed", id="an unlisted extra file"),
        pytest.param(hidden, 6, ".DS_Store: is not listed", id="a hidden extra file"),
        pytest.param(missing, 6, "engine/weights.bin: is missing", id="a missing bundle file"),
        pytest.param(shortened, 6, "the manifest lists", id="a bundle file one byte short"),
        pytest.param(linked, 6, "weights.bin: is a symbolic link", id="a link inside the bundle"),
        pytest.param(linked_out, 6, "passwd: is a symbolic link", id="a link out of the bundle"),
        pytest.param(
            without_manifest, 6, "manifest.json: is missing", id="a bundle without manifest"
        ),
        pytest.param(manifest_of(b""), 6, "is not JSON", id="zero-byte manifest"),
        pytest.param(half_a_manifest, 6, "is not JSON", id="truncated manifest"),
        pytest.param(
            manifest_of(b"[" * 99_999), 6, "nested deeper", id="manifest of 99999 brackets"
        ),
        pytest.param(manifest_of(bytes(99)), 6, "is not JSON", id="manifest of NUL bytes"),
        pytest.param(
            with_field("pkecho-edge/bundle/3", "schema"),
            5,
            "Update pkecho-edge",
            id="a manifest of a newer schema version",
        ),
        pytest.param(
            with_field("pkecho-edge/bundle/1", "schema"),
            5,
            "Compile it again",
            id="a manifest of an older schema version",
        ),
        pytest.param(
            with_field([9, 65_536, 65_536, 8], "engines", 1, "inputs", 1, "shape"),
            6,
            "the stream engine has no history f32 [9, C, 3, 3]",
            id="a history as large as a disk",
        ),
        pytest.param(
            with_field([4, 32, 3, 3], "engines", 1, "inputs", 1, "shape"),
            6,
            "the stream engine has no history",
            id="a history that does not fit the window",
        ),
        pytest.param(
            with_field("past", "engines", 1, "inputs", 1, "name"),
            6,
            "the stream engine has no history",
            id="a stream engine without a history",
        ),
        pytest.param(
            with_field([9, 16, 3, 3], "engines", 1, "outputs", 1, "shape"),
            6,
            "different shapes",
            id="histories of different shapes",
        ),
        pytest.param(
            with_field("somebody/else/1", "schema"),
            6,
            "the schema is",
            id="a manifest of another tool",
        ),
        pytest.param(
            with_field([OUTSIDE], "files"), 6, "is not a path", id="a path that leaves the bundle"
        ),
        pytest.param(
            with_field("/etc/passwd", "files", 0, "path"), 6, "is not a path", id="an absolute path"
        ),
        pytest.param(
            with_field("cpu\x1b[2J", "target"), 6, "printable", id="escape sequence in the manifest"
        ),
        pytest.param(
            with_field("[/red]", "engines", 0, "mode"), 6, "[/red]", id="markup in the manifest"
        ),
    ],
)
def test_a_bundle_is_refused(
    world: Path,
    refuses: Refuses,
    spoil: Spoil,
    code: int,
    says: str,
    command: str,
    request: pytest.FixtureRequest,
) -> None:
    spoil(world / "heart.pkb")

    case = request.node.callspec.id.rpartition("-")[0]
    refuses(command, code, "heart.pkb", says, case=case)


def test_an_engine_of_a_newer_openvino_is_refused(world: Path, refuses: Refuses) -> None:
    of_openvino("2099.1.0")(world / "heart.pkb")

    refuses(VERIFY, 5, "2099.1.0", case="engine of a newer OpenVINO")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"files": ("clip.xml", "weights.bin")}, "it takes and gives", id="topology"),
        pytest.param({"files": ("stream.xml",)}, "expected 2", id="one file"),
        pytest.param(
            {"files": ("stream.xml", "weights.bin", "clip.xml")}, "expected 2", id="three"
        ),
        pytest.param({"options": {"threads": "many"}}, "many", id="threads"),
        pytest.param({"options": {"float_precision": "f8"}}, "f8", id="precision"),
    ],
)
def test_an_engine_that_is_not_what_its_entry_says_is_refused(
    world: Path, refuses: Refuses, changes: dict[str, Any], says: str
) -> None:
    clip, stream = read_bundle(world / "heart.pkb").manifest.engines
    forged(engines=(clip, replace(stream, **changes)))(world / "heart.pkb")

    refuses(VERIFY, 5, "OpenVINO cannot load the engine", says)


@pytest.mark.parametrize("target", ["toaster", "[/red]"])
def test_a_bundle_for_an_unknown_target_is_refused(
    world: Path, refuses: Refuses, target: str
) -> None:
    forged(target=target)(world / "heart.pkb")

    refuses(VERIFY, 5, "heart.pkb", target, case="bundle for an unknown target")


def test_inspect_shows_markup_as_it_is(world: Path, typed: Type) -> None:
    forged(target="[/red]")(world / "heart.pkb")

    outcome = typed("inspect heart.pkb")

    assert outcome.code == 0, outcome.err
    assert "[/red]" in outcome.out


# The baseline


def another(folder: Path) -> None:
    data = bytearray((folder / "network.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "other.safetensors").write_bytes(data)


def forgotten(folder: Path) -> None:
    """Neither where it was nor in the cache."""
    (folder / "network.safetensors").unlink()
    shutil.rmtree(folder / "cache")


@pytest.mark.parametrize(
    ("spoil", "option", "says"),
    [
        pytest.param(
            another, "--baseline other.safetensors", "is not the checkpoint", id="another baseline"
        ),
        pytest.param(another, "--baseline data", "is a folder", id="a folder as baseline"),
        pytest.param(
            another, "--baseline nowhere.pt", "there is no such file", id="missing baseline"
        ),
        pytest.param(forgotten, "", "--baseline CHECKPOINT", id="a baseline that is nowhere"),
    ],
)
def test_a_baseline_is_refused(
    world: Path, refuses: Refuses, spoil: Spoil, option: str, says: str
) -> None:
    spoil(world)

    refuses(f"{VERIFY} {option}", 7, says)
