"""What a bundle says of where it comes from, of checkpoints that say much, little and nonsense."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkecho_edge.calibration.calibration_set import CalibrationEntry, CalibrationSet
from pkecho_edge.model.checkpoint import (
    checkpoint_sha256,
    default_checkpoint_path,
    load_checkpoint,
    read_notes,
)
from pkecho_edge.model.network import count_gmacs
from pkecho_edge.provenance import Provenance
from pkecho_edge.pruning_stage import Lineaged
from pkecho_edge.targets.base import CompileOptions

SIZE = (96, 96)


def provenance_of(
    path: Path, notes: dict[str, str], report: dict[str, object] | None = None
) -> Provenance:
    """That of the packaged network, calibrated on two clips of one patient."""
    network, digest = load_checkpoint(path), checkpoint_sha256(path)
    entries = tuple(CalibrationEntry(f"{n}@0-9", n, "p1", n, ()) for n in ("a", "b"))
    return Provenance(
        Lineaged(network, digest, network, digest, report),
        CalibrationSet(entries, "given", 0, SIZE),
        "cpu",
        CompileOptions(),
        {},
        0,
        sources=("echonet", "a\nb"),
        notes=notes,
    )


def test_the_packaged_checkpoint_is_known_and_says_that_it_saw_phantoms() -> None:
    path = default_checkpoint_path()

    made = provenance_of(path, read_notes(path))

    assert made.facts["checkpoint"]["packaged"] is True
    assert "phantoms" in made.facts["checkpoint"]["training"]
    assert made.facts["calibration"] == {
        "clips": 2,
        "patients": 1,
        "rule": "given",
        "sources": ["echonet", "a b"],
    }
    gmacs = round(count_gmacs(made.origin.network, SIZE), 3)
    assert made.facts["model"] == {"parameters": 11_782_272, "gmacs": gmacs}
    assert made.facts["pruning"] is None


def test_the_same_weights_in_another_file_are_another_checkpoint(tmp_path: Path) -> None:
    data = default_checkpoint_path().read_bytes()
    copy = tmp_path / "mine.safetensors"
    # one blank more in the header, whose length stands in the first eight bytes
    length = int.from_bytes(data[:8], "little")
    copy.write_bytes(
        (length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :]
    )

    assert provenance_of(copy, {}).facts["checkpoint"] == {"packaged": False, "training": None}


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        ({}, None),
        ({"pruning": "{}"}, None),
        ({"trained": "on phantoms"}, "on phantoms"),
        (
            {"training.data": "echonet, split own", "training.epoch": "50", "training.x": "y"},
            "echonet, split own; epoch 50",
        ),
        ({"training.data": "two\nlines\x1b[31m"}, "two lines [31m"),
        ({"trained": "x" * 999}, "x" * 297 + "..."),
    ],
)
def test_training_is_told_as_the_header_says_on_one_line(
    notes: dict[str, str], says: str | None
) -> None:
    made = provenance_of(default_checkpoint_path(), notes)

    assert made.facts["checkpoint"]["training"] == says


def test_a_foreign_report_of_pruning_is_told_as_far_as_it_can_be_read() -> None:
    path = default_checkpoint_path()
    whole = {
        "order": {"ratio": 0.8, "scope": "global", "importance": "taylor", "recipe": {"steps": 9}},
        "rounds": [{"steps": 100}, {"steps": 200}],
    }

    told = provenance_of(path, {}, whole).facts["pruning"]
    odd = provenance_of(path, {}, {"order": 7, "rounds": [1, {"steps": "many"}]}).facts

    assert told == {"ratio": 0.8, "scope": "global", "importance": "taylor"} | {
        "rounds": 2,
        "steps": 300,
    }
    assert odd["pruning"] == {"rounds": 2, "steps": 0}
    assert odd["model"]["baseline_parameters"] == odd["model"]["parameters"]
