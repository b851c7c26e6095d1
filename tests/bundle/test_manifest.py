"""The manifest survives a round trip, and whatever is not a manifest is refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkecho_edge.bundle.manifest import (
    EngineEntry,
    FileEntry,
    GateLimit,
    GoldenTolerances,
    Lineage,
    Manifest,
    Postprocessing,
    Preprocessing,
    Reports,
    Window,
)
from pkecho_edge.bundle.reader import Bundle
from pkecho_edge.errors import EnvironmentMismatch, IntegrityError
from pkecho_edge.targets.base import TensorSpec

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)

SHAPE = (2, 1, 96, 96)
FILES = ("MODEL_CARD.md", "engine/a.xml", "sbom.cdx.json")
MINIMAL = Manifest(
    target="cpu",
    profile=None,
    engines=(
        EngineEntry(
            mode="clip",
            directory="engine",
            files=("a.xml",),
            inputs=(TensorSpec("frames", "u8", SHAPE),),
            outputs=(TensorSpec("logits", "f32", SHAPE),),
            options={"threads": "1"},
            toolchain={},
        ),
    ),
    preprocessing=Preprocessing(size=(96, 96)),
    postprocessing=Postprocessing(),
    window=Window(length=2),
    golden=GoldenTolerances(0.0, 0.0),
    lineage=Lineage("0" * 64, None, None, None, {"torch": "2"}),
    files=tuple(FileEntry(path, 1, "0" * 64) for path in FILES),
)


@pytest.fixture
def document(bundle: Bundle) -> dict[str, Any]:
    """The parsed manifest of a finished bundle, to be tampered with."""
    parsed: dict[str, Any] = json.loads(bundle.manifest.to_json())
    return parsed


def refused(text: str | bytes) -> str:
    with pytest.raises(IntegrityError) as caught:
        Manifest.from_json(text)
    message = str(caught.value)
    assert message.startswith("manifest.json: ")
    assert "\n" not in message
    return message


def test_a_round_trip_changes_nothing(bundle: Bundle) -> None:
    text = bundle.manifest.to_json()
    assert Manifest.from_json(text) == bundle.manifest
    assert Manifest.from_json(text.encode()).to_json() == text


def test_the_json_is_canonical(bundle: Bundle) -> None:
    text = bundle.manifest.to_json()
    again = json.dumps(json.loads(text), sort_keys=True, indent=2)
    assert text == f"{again}\n"
    assert text.isascii()


def test_every_section_of_the_format_is_there(document: dict[str, Any]) -> None:
    assert document.keys() == {
        "schema",
        "bundle_id",
        "security_version",
        "target",
        "profile",
        "engines",
        "preprocessing",
        "postprocessing",
        "window",
        "golden",
        "lineage",
        "gates",
        "files",
        "reports",
    }
    assert document["schema"] == "pkecho-edge/bundle/2"
    assert document["preprocessing"]["resize"] == "bilinear-half-pixel"
    assert document["postprocessing"] == {
        "threshold": 0.0,
        "threshold_on": "logits",
        "component": "none",
    }


def test_the_bundle_id_names_the_content_but_not_the_reports(bundle: Bundle) -> None:
    manifest = bundle.manifest
    measured_again = replace(manifest, reports=Reports(headline={"fps": 12.5}))
    assert measured_again.bundle_id == manifest.bundle_id
    assert replace(manifest, security_version=2).bundle_id != manifest.bundle_id
    assert manifest.bundle_id.startswith("pkb-")


def test_a_figure_that_could_not_be_measured_is_null() -> None:
    reports = Reports(headline={"fps": float("nan"), "ratio": float("inf"), "n_clips": 3})
    assert reports.headline == {"fps": None, "ratio": None, "n_clips": 3}


def test_another_mode_is_not_in_the_bundle(bundle: Bundle) -> None:
    with pytest.raises(EnvironmentMismatch, match="no 'stream' engine, only clip"):
        bundle.manifest.engine("stream")


@pytest.mark.parametrize(
    ("version", "remedy"), [(1, "Compile it again"), (3, "Update pkecho-edge"), (900, "Update")]
)
def test_another_schema_version_says_what_to_do(
    document: dict[str, Any], version: int, remedy: str
) -> None:
    document["schema"] = f"pkecho-edge/bundle/{version}"
    document["something"] = "new"
    with pytest.raises(EnvironmentMismatch, match=remedy) as caught:
        Manifest.from_json(json.dumps(document))
    assert f"schema version {version}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "must be an object"),
        ("null", "must be an object"),
        ("{}", "schema is missing"),
        ('{"schema": "other/1"}', "the schema is"),
        ('{"schema": 1}', "schema must be text"),
        ('{"schema": "a", "schema": "b"}', "twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": 1e999}', "range of a double"),
        ('{"a": 9007199254740993}', "2^53"),
        ('{"a": ' + "9" * 5000 + "}", "2^53"),
        ('{"a": "\\ud800"}', "surrogate"),
        ("[" * 100_000, "nested deeper"),
        ('{"a": ' + "[" * 40 + "]" * 40 + "}", "nested deeper"),
        (b'{"a": "\xff"}', "UTF-8"),
        (" " * (4 << 20) + " ", "larger than 4 MiB"),
    ],
)
def test_text_that_is_no_manifest_is_refused(text: str | bytes, what: str) -> None:
    assert what in refused(text)


def test_every_truncation_is_refused(bundle: Bundle) -> None:
    text = bundle.manifest.to_json()
    for length in range(0, len(text) - 2, 37):
        assert "is not JSON" in refused(text[:length])


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "engine/../../x",
        "/etc/passwd",
        "engine//x",
        "engine/./x",
        "engine\\x",
        "C:/x",
        "engine/",
        "engine",
        "",
        "x",
        "other/x",
        "engine/.hidden",
        "engine/a b",
        "engine/a\x00b",
        "engine/a\n",
        "engine/ä",
        "manifest.json",
        "manifest.json.minisig",
        "engine/" + "a" * 300,
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(document: dict[str, Any], path: str) -> None:
    document["files"].append({"path": path, "size": 1, "sha256": "0" * 64})
    message = refused(json.dumps(document))
    assert "is not a path" in message or "has no place" in message


@pytest.mark.parametrize(
    ("keys", "value", "what"),
    [
        (("surprise",), 1, "surprise is not a known key"),
        (("window", "surprise"), 1, "window.surprise is not a known key"),
        (("target",), 7, "target must be text"),
        (("target",), "cpu\x1b[2J", "printable"),
        (("target",), "gpu", "bundle_id does not match"),
        (("security_version",), True, "must be an integer"),
        (("security_version",), -1, "security version"),
        (("engines",), [], "at least one"),
        (("engines", 0, "mode"), "both", "clip or stream"),
        (("engines", 0, "directory"), "model", "lies in engine/"),
        (("engines", 0, "directory"), "engine/..", "is not a path"),
        (("engines", 0, "files"), [], "at least one file"),
        (("engines", 0, "files"), ["../x"], "is not a path"),
        (("engines", 0, "files"), ["absent.bin"], "engine/absent.bin is not among the files"),
        (("engines", 0, "inputs", 0, "shape"), [10, 1, 96, 96], "no input frames"),
        (("engines", 0, "inputs", 0, "shape"), [], "shape"),
        (("engines", 0, "inputs", 0, "shape"), [1.5], "array of integers"),
        (("engines", 0, "inputs", 0, "dtype"), "f64", "u8 or f32"),
        (("engines", 0, "outputs"), [], "no output logits"),
        (("engines", 0, "options"), {"threads": 2}, "text to text"),
        (("preprocessing", "size"), [96], "height and width"),
        (("preprocessing", "size"), [96, 100], "multiples of 32"),
        (("preprocessing", "size"), [96, 1 << 40], "multiples of 32"),
        (("preprocessing", "resize"), "nearest", "resize rule"),
        (("postprocessing", "threshold_on"), "probability", "logits"),
        (("postprocessing", "component"), "all", "component rule"),
        (("window", "length"), 1, "window length"),
        (("golden", "pixels_fraction"), 1.5, "between 0 and 1"),
        (("golden", "area_fraction"), "0", "must be a number"),
        (("lineage", "checkpoint_sha256"), "F" * 64, "hexadecimal"),
        (("lineage", "onnx_sha256"), "", "hexadecimal"),
        (("lineage", "engine_sha256"), "0" * 64, "does not match the engine files"),
        (("lineage", "seed"), -1, "seed"),
        (("gates", 0, "mode"), "sliding", "mode of gate"),
        (("files", 0, "size"), -1, "size"),
        (("files", 0, "sha256"), "0", "SHA-256"),
        (("files", 0), "model", "files[0] must be an object"),
        (("files",), {}, "files must be an array"),
        (("reports", "headline"), {"fps": [1]}, "one figure"),
        (("bundle_id",), "pkb-0", "bundle_id does not match"),
    ],
)
def test_a_changed_value_is_refused(
    document: dict[str, Any], keys: tuple[str | int, ...], value: object, what: str
) -> None:
    place: Any = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    assert what in refused(json.dumps(document))


def test_every_key_is_needed(document: dict[str, Any]) -> None:
    for key in document:
        rest = {name: value for name, value in document.items() if name != key}
        assert f"{key} is missing" in refused(json.dumps(rest))


@pytest.mark.parametrize("path", ["engine/clip.xml", "engine/CLIP.XML"])
def test_a_file_is_listed_once(document: dict[str, Any], path: str) -> None:
    document["files"].append({"path": path, "size": 1, "sha256": "0" * 64})
    assert "listed twice" in refused(json.dumps(document))


def test_reports_and_other_files_are_listed_apart(document: dict[str, Any]) -> None:
    document["files"] += document["reports"].pop("files")
    document["reports"]["files"] = []
    assert "wrong key" in refused(json.dumps(document))


@given(st.text(max_size=200) | st.binary(max_size=200) | JSON_VALUES.map(json.dumps))
def test_anything_else_is_one_of_our_errors(text: str | bytes) -> None:
    with pytest.raises((IntegrityError, EnvironmentMismatch)) as caught:
        Manifest.from_json(text)
    assert "\n" not in str(caught.value)


NUMBERS = st.integers(-(1 << 53), 1 << 53) | st.floats(allow_nan=False, allow_infinity=False)
LABELS = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=10)
PLAIN_JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | LABELS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LABELS, inner, max_size=3),
    max_leaves=6,
)
SHA256 = st.text("0123456789abcdef", min_size=64, max_size=64)
SIDES = st.sampled_from(range(96, 641, 32))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Any manifest that the pipeline might write."""
    length, size = draw(st.integers(2, 256)), (draw(SIDES), draw(SIDES))
    shape = (length, 1, *size)
    engine = replace(
        MINIMAL.engines[0],
        inputs=(TensorSpec("frames", "u8", shape),),
        outputs=(TensorSpec("logits", "f32", shape),),
        options=draw(st.dictionaries(LABELS, LABELS, max_size=3)),
        toolchain=draw(st.dictionaries(LABELS, LABELS, max_size=3)),
    )
    figures = st.none() | st.booleans() | NUMBERS | LABELS
    gate = st.builds(GateLimit, LABELS, st.just("clip"), NUMBERS, st.just("") | LABELS)
    return Manifest(
        target=draw(LABELS),
        profile=draw(st.none() | LABELS),
        engines=(engine,),
        preprocessing=Preprocessing(size),
        postprocessing=Postprocessing(
            draw(st.floats(-1000, 1000)), draw(st.sampled_from(["none", "largest"]))
        ),
        window=Window(length),
        golden=GoldenTolerances(draw(st.floats(0, 1)), draw(st.floats(0, 1))),
        lineage=Lineage(
            checkpoint_sha256=draw(SHA256),
            onnx_sha256=draw(st.none() | SHA256),
            calibration_sha256=draw(st.none() | SHA256),
            pruning_sha256=draw(st.none() | SHA256),
            tool_versions=draw(st.dictionaries(LABELS, LABELS, max_size=3)),
            configuration=draw(st.dictionaries(LABELS, PLAIN_JSON, max_size=3)),
            seed=draw(st.integers(0, 1 << 53)),
        ),
        gates=tuple(draw(st.lists(gate, max_size=3, unique_by=lambda gate: gate.name))),
        security_version=draw(st.integers(0, (1 << 31) - 1)),
        files=tuple(FileEntry(path, draw(st.integers(0, 1 << 40)), draw(SHA256)) for path in FILES),
        reports=Reports(headline=draw(st.dictionaries(LABELS, figures, max_size=3))),
    )


@given(manifests())
def test_any_manifest_survives_the_round_trip(manifest: Manifest) -> None:
    text = manifest.to_json()

    again = Manifest.from_json(text)

    assert again == manifest
    assert again.bundle_id == manifest.bundle_id
    assert again.to_json() == text
    assert Manifest.from_json(json.dumps(json.loads(text))) == manifest  # the layout is free


@given(data=st.data())
def test_a_flipped_bit_is_noticed_or_changes_only_figures(data: st.DataObject) -> None:
    """Until it is signed, a manifest has no witness for what compile measured."""
    original = replace(MINIMAL, reports=Reports(headline={"fps": 169.5, "verdict": "pass"}))
    content = bytearray(original.to_json().encode())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        changed = Manifest.from_json(bytes(content))
    except (IntegrityError, EnvironmentMismatch):
        return
    assert replace(changed, reports=original.reports) == original
    assert changed.reports.files == original.reports.files


@given(data=st.data())
def test_a_missing_added_or_repeated_field_is_refused(data: st.DataObject) -> None:
    document = json.loads(MINIMAL.to_json())
    place: Any = document
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        inner = [key for key in keys if isinstance(place[key], dict | list) and place[key]]
        if not inner or data.draw(st.booleans()):
            break
        place = place[data.draw(st.sampled_from(inner))]
    if isinstance(place, list):
        change = data.draw(st.sampled_from(["remove", "repeat"]))
        key = data.draw(st.sampled_from(keys))
        place.insert(key, place[key]) if change == "repeat" else place.pop(key)
    elif data.draw(st.booleans()):
        place.pop(data.draw(st.sampled_from(keys)))
    else:
        place[data.draw(LABELS.filter(lambda label: label not in place))] = data.draw(JSON_VALUES)
    try:
        changed = Manifest.from_json(json.dumps(document))
    except (IntegrityError, EnvironmentMismatch):
        return
    # only the headline is an open list of figures that nothing else vouches for
    assert replace(changed, reports=MINIMAL.reports) == MINIMAL


@given(data=st.data())
def test_any_value_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    document = json.loads(MINIMAL.to_json())
    place: Any = document
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(JSON_VALUES)
    try:
        manifest = Manifest.from_json(json.dumps(document))
    except (IntegrityError, EnvironmentMismatch):
        return
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_sections_check_what_code_gives_them(value: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        GoldenTolerances(pixels_fraction=value, area_fraction=0.0)
    with pytest.raises(ValueError, match="finite"):
        GateLimit("dsc_drift", "clip", float("nan"), "points")


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), 1e9])
def test_a_threshold_is_a_plausible_logit(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Postprocessing(threshold=threshold)


def test_a_gate_stands_once_per_mode(draft: Manifest) -> None:
    with pytest.raises(ValueError, match="listed twice"):
        replace(draft, gates=(draft.gates[0], draft.gates[0]))
