"""Calibration sets: what they remember, what they refuse, and files that lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkecho_edge.calibration.calibration_set import (
    MINIMUM_CLIPS,
    CalibrationEntry,
    CalibrationSet,
)
from pkecho_edge.calibration.selection import select_clips
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CalibrationError


def clip(number: int, *, patient: str | None = None, content: int | None = None) -> Clip:
    """A clip of 2 frames of 4x6 pixels; equal `content` means equal frames."""
    grey = number if content is None else content
    return Clip(
        identifier=f"recording-{number}@0-1:4x6",
        recording=f"recording-{number}",
        patient=patient or f"patient-{number}",
        source="test",
        frames=np.full((2, 1, 4, 6), grey, np.uint8),
        frame_indices=(0, 1),
    )


@pytest.fixture
def clips() -> list[Clip]:
    return [clip(number) for number in range(20)]


@pytest.fixture
def made(clips: list[Clip]) -> CalibrationSet:
    return CalibrationSet.of(clips, "random", 7)


def test_a_file_gives_the_set_back(tmp_path: Path, made: CalibrationSet) -> None:
    path = tmp_path / "below" / "calibration.json"

    made.save(path)
    loaded = CalibrationSet.load(path)

    assert loaded == made
    assert loaded.sha256 == made.sha256
    assert (loaded.rule, loaded.seed, loaded.size) == ("random", 7, (4, 6))
    assert [p.name for p in path.parent.iterdir()] == ["calibration.json"]


def test_the_hash_depends_on_everything(clips: list[Clip], made: CalibrationSet) -> None:
    others = [
        CalibrationSet.of(clips, "random", 8),
        CalibrationSet.of(clips, "given", 7),
        CalibrationSet.of(clips[::-1], "random", 7),
        CalibrationSet.of(clips[1:], "random", 7),
    ]

    assert len({s.sha256 for s in (made, *others)}) == 5
    assert CalibrationSet.of(clips, "random", 7).sha256 == made.sha256


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(CalibrationError, match="the calibration set is empty"):
        CalibrationSet.of([], "random", 0)


def test_a_clip_twice_is_refused_even_under_another_name(clips: list[Clip]) -> None:
    with pytest.raises(CalibrationError, match="holds a clip twice"):
        CalibrationSet.of([*clips, clip(99, content=3)], "given", 0)


def test_other_patients_may_verify(made: CalibrationSet) -> None:
    made.check_disjoint([clip(100), clip(101)])
    made.check_disjoint([])


def test_a_patient_must_not_serve_both(made: CalibrationSet) -> None:
    with pytest.raises(CalibrationError, match="patient 'patient-3' serves both"):
        made.check_disjoint([clip(100), clip(101, patient="patient-3")])


def test_equal_frames_must_not_serve_both(made: CalibrationSet) -> None:
    with pytest.raises(CalibrationError, match="clip 'recording-100@0-1:4x6' serves both"):
        made.check_disjoint([clip(100, content=5)])


def test_clips_are_picked_in_the_sets_order(clips: list[Clip], made: CalibrationSet) -> None:
    picked = made.pick([clip(50), *clips[::-1]])

    assert [c.identifier for c in picked] == [c.identifier for c in clips]


def test_a_missing_or_changed_clip_is_named(clips: list[Clip], made: CalibrationSet) -> None:
    with pytest.raises(CalibrationError, match="'recording-4@0-1:4x6' is missing"):
        made.pick([c for c in clips if c.recording != "recording-4"])

    clips[4] = clip(4, content=200)
    with pytest.raises(CalibrationError, match="or its frames have changed"):
        made.pick(clips)


@pytest.mark.parametrize("count", [1, MINIMUM_CLIPS - 1, MINIMUM_CLIPS, MINIMUM_CLIPS + 1])
def test_few_clips_are_worth_a_warning(count: int) -> None:
    warnings = CalibrationSet.of([clip(n) for n in range(count)], "random", 0).warnings()

    few = f"calibrated on {count} clips, fewer than the recommended {MINIMUM_CLIPS}"
    assert warnings == ((few,) if count < MINIMUM_CLIPS else ())


def test_a_seed_selects_the_same_clips(clips: list[Clip]) -> None:
    chosen = [[c.identifier for c in select_clips(clips, 6, seed)] for seed in (1, 1, 2)]

    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(chosen[0])) == 6


def test_all_clips_where_there_are_fewer(clips: list[Clip]) -> None:
    assert select_clips(clips, 99, 0) == clips


@pytest.mark.parametrize(("some", "count"), [(0, 3), (3, 0), (3, -1)])
def test_selecting_nothing_is_refused(clips: list[Clip], some: int, count: int) -> None:
    with pytest.raises(CalibrationError, match="would be empty"):
        select_clips(clips[:some], count, 0)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        CalibrationSet.load(tmp_path / "nowhere.json")


def valid() -> dict[str, Any]:
    entry: dict[str, Any] = dict.fromkeys(
        ("identifier", "recording", "patient", "content_sha256"), "x"
    )
    entry["fingerprints"] = ["0f" * 32]
    schema = "pkecho-edge/calibration/2"
    return {"schema": schema, "entries": [entry], "rule": "given", "seed": 0, "size": [96, 96]}


HOSTILE = {
    "empty": b"",
    "binary": bytes(range(256)),
    "deep": b"[" * 200_000,
    "null": b"null",
    "list": b"[]",
    "no keys": b"{}",
    "other schema": json.dumps({**valid(), "schema": "pkecho-edge/calibration/1"}).encode(),
    "no entries": json.dumps({**valid(), "entries": []}).encode(),
    "entry of numbers": json.dumps({**valid(), "entries": [[1, 2, 3, 4]]}).encode(),
    "unknown field": json.dumps({**valid(), "entries": [{"command": "x"}]}).encode(),
    "patient is null": json.dumps(
        {**valid(), "entries": [{**valid()["entries"][0], "patient": None}]}
    ).encode(),
    "hash is a list": json.dumps(
        {**valid(), "entries": [{**valid()["entries"][0], "content_sha256": []}]}
    ).encode(),
    "fingerprint of another length": json.dumps(
        {**valid(), "entries": [{**valid()["entries"][0], "fingerprints": ["0f"]}]}
    ).encode(),
    "fingerprint of no digits": json.dumps(
        {**valid(), "entries": [{**valid()["entries"][0], "fingerprints": ["zz" * 32]}]}
    ).encode(),
    "no fingerprints": json.dumps(
        {**valid(), "entries": [{**valid()["entries"][0], "fingerprints": []}]}
    ).encode(),
    "fingerprints as text": json.dumps(
        {**valid(), "entries": [{**valid()["entries"][0], "fingerprints": "0f" * 32}]}
    ).encode(),
    "infinite seed": json.dumps({**valid(), "seed": float("inf")}).encode(),
    "nan size": json.dumps({**valid(), "size": [float("nan"), 96]}).encode(),
    "size of fractions": json.dumps({**valid(), "size": [96.5, 96]}).encode(),
    "size below one": json.dumps({**valid(), "size": [0, 96]}).encode(),
    "seed as text": json.dumps({**valid(), "seed": "7"}).encode(),
    "seed true": json.dumps({**valid(), "seed": True}).encode(),
    "a field that nobody knows": json.dumps({**valid(), "comment": ""}).encode(),
    "one size": json.dumps({**valid(), "size": [96]}).encode(),
    "rule is a number": json.dumps({**valid(), "rule": 3}).encode(),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content)

    with pytest.raises(CalibrationError) as caught:
        CalibrationSet.load(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_valid_file_that_the_hostile_ones_start_from_loads(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(valid()))

    assert CalibrationSet.load(path).size == (96, 96)


def test_a_file_too_large_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(json.dumps(valid()).encode() + b" " * (16 << 20))

    with pytest.raises(CalibrationError, match="too large"):
        CalibrationSet.load(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=60)
@given(data=st.data())
def test_any_value_anywhere_loads_or_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed-calibration.json"
    document = valid()
    where = data.draw(st.sampled_from([document, document["entries"][0]]))
    where[data.draw(st.sampled_from([*sorted(where), "more"]))] = data.draw(JSON)
    path.write_text(json.dumps(document))

    try:
        loaded = CalibrationSet.load(path)
    except CalibrationError:
        return
    assert loaded.entries
    loaded.save(path)
    assert CalibrationSet.load(path) == loaded


@settings(max_examples=60)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed-bytes.json"
    path.write_bytes(content)

    with pytest.raises(CalibrationError):
        CalibrationSet.load(path)


@settings(max_examples=60)
@given(document=JSON)
def test_any_other_document_is_refused(
    document: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed-document.json"
    path.write_text(json.dumps(document))

    with pytest.raises(CalibrationError) as caught:
        CalibrationSet.load(path)

    assert caught.value.path == path


PRINTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
ENTRIES = st.builds(
    CalibrationEntry,
    st.text(),
    st.text(),
    st.text(),
    st.text(),
    st.lists(PRINTS, min_size=1, max_size=3).map(tuple),
)


@settings(max_examples=60)
@given(
    entries=st.lists(ENTRIES, min_size=1, max_size=4, unique_by=lambda e: e.content_sha256),
    rule=st.text(),
    seed=st.integers(0, 1 << 53),
    size=st.tuples(st.integers(1, 640), st.integers(1, 640)),
)
def test_any_set_comes_back_as_it_was_saved(
    entries: list[CalibrationEntry],
    rule: str,
    seed: int,
    size: tuple[int, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.getbasetemp() / "saved-calibration.json"
    made = CalibrationSet(tuple(entries), rule, seed, size)

    made.save(path)
    loaded = CalibrationSet.load(path)

    assert loaded == made
    assert loaded.sha256 == made.sha256


@settings(max_examples=100)
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_makes_another_set(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What a bit makes of the file is never taken for the set that was saved."""
    path = tmp_path_factory.getbasetemp() / "flipped-calibration.json"
    made = CalibrationSet.of([clip(1), clip(2)], "random", 7)
    made.save(path)
    original = path.read_bytes()
    content = bytearray(original)
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)

    try:
        loaded = CalibrationSet.load(path)
    except CalibrationError:
        return
    only_white_space = json.loads(content) == json.loads(original)
    assert (loaded.sha256 == made.sha256) == only_white_space
