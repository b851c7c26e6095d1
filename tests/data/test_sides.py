"""Sides of a dataset: whoever trains by one rule finds the others by the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pkecho_edge.data import sources
from pkecho_edge.data.dataset import iterate
from pkecho_edge.data.echonet import write_echonet
from pkecho_edge.data.phantom import draw_spec, phantom_clip_recording
from pkecho_edge.data.sides import check_rule, open_side, sides_of
from pkecho_edge.errors import DatasetError, UsageError
from pkecho_edge.training.material import dataset_material

SIDES = ("TRAIN", "VAL", "TEST")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten recordings of ten patients; its own split has nine in TRAIN and one in TEST."""
    root = tmp_path_factory.mktemp("sides") / "study"
    recordings = (
        replace(
            phantom_clip_recording(draw_spec(seed, "good"), size=(96, 96)),
            split="TEST" if seed == 700 else "TRAIN",
        )
        for seed in range(700, 710)
    )
    write_echonet(root, recordings)
    return root


def test_the_rule_seven_to_one_to_two_covers_everyone_once(study: Path) -> None:
    parts = {side: open_side(study, side, "7:1:2").patients for side in SIDES}

    assert {side: len(patients) for side, patients in parts.items()} == {
        "TRAIN": 7, "VAL": 1, "TEST": 2,
    }  # fmt: skip
    assert len(set().union(*parts.values())) == 10


def test_what_is_tested_on_was_not_trained_on(study: Path) -> None:
    material = dataset_material(study, split="7:1:2")

    trained = {recording.identifier for recording in material.training(lambda _: None)}
    tested = {
        clip.recording for clip in sources.dataset(study, (96, 96), split="TEST", rule="7:1:2")
    }
    by_own = {clip.recording for clip in sources.dataset(study, (96, 96), split="TEST")}

    assert len(trained) == 7
    assert len(tested) == 2
    assert not trained & tested
    assert by_own == {"phantom-0000700"}


def test_a_broken_recording_of_the_side_is_told(study: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "study"
    shutil.copytree(study, root)
    name = open_side(root, "TEST", "7:1:2").identifiers[0]
    (root / "Videos" / f"{name}.avi").write_bytes(b"")
    source = sources.dataset(root, (96, 96), split="TEST", rule="7:1:2")

    clips = list(source)

    assert len(clips) == 1
    assert [text for text in source.skipped if name in text]


def test_the_own_rule_is_the_datasets_own_split(study: Path) -> None:
    assert open_side(study, "test").identifiers == ("phantom-0000700",)
    assert len(list(iterate(open_side(study, None), lambda _: None))) == 10
    assert set(sides_of(open_side(study, None), "own").values()) == {"TRAIN", "TEST"}


def test_an_unknown_rule_or_side_is_refused(study: Path) -> None:
    with pytest.raises(UsageError, match="unknown split 'random'"):
        check_rule("random")
    with pytest.raises(UsageError, match="NOWHERE"):
        open_side(study, "NOWHERE", "7:1:2")


def test_a_patient_on_two_sides_is_refused(tmp_path: Path) -> None:
    recordings = [
        replace(phantom_clip_recording(draw_spec(s, "good"), size=(96, 96)), split=side)
        for s, side in ((800, "TRAIN"), (801, "TEST"))
    ]
    write_echonet(tmp_path / "study", recordings)
    whole = open_side(tmp_path / "study", None)
    whole.patients = ("one", "one")  # type: ignore[misc]

    with pytest.raises(DatasetError, match="patient 'one' is in TRAIN and in TEST"):
        sides_of(whole, "own")
