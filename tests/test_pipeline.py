"""What the street refuses when something changes under its feet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pkecho_edge import pipeline, verifying
from pkecho_edge.calibration.calibration_set import CalibrationEntry, CalibrationSet
from pkecho_edge.data.sources import ClipSource, dataset, phantoms
from pkecho_edge.errors import CalibrationError, CheckpointError, UsageError
from pkecho_edge.model import checkpoint as checkpoints
from pkecho_edge.model import identity
from pkecho_edge.model.network import PKEchoNet


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The packaged checkpoint, where it may be changed."""
    return Path(shutil.copy(checkpoints.default_checkpoint_path(), tmp_path / "a.safetensors"))


def test_a_checkpoint_that_changes_while_it_is_read_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoints.load_checkpoint

    def slow(path: Path) -> PKEchoNet:
        network = real(path)
        path.write_bytes(path.read_bytes() + b" ")  # another run finishes its training
        return network

    monkeypatch.setattr(identity, "load_checkpoint", slow)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: it changed while"):
        pipeline.compile(
            pipeline.CompileOrder(
                weights,
                tmp_path / "a.pkb",
                calibration=phantoms(range(1), (96, 96)),
                verification=phantoms(range(1, 2), (96, 96)),
            ),
            cache=tmp_path / "cache",
        )
    assert {p.name for p in tmp_path.iterdir()} == {"a.safetensors"}


def test_shared_patients_are_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = tuple(CalibrationEntry(f"{p}@0-9", p, p, p, ()) for p in ("p1", "p2"))
    chosen = CalibrationSet(entries, "random", 0, (96, 96))
    monkeypatch.setattr(ClipSource, "patients", lambda _: frozenset({"p2", "p3"}))

    with pytest.raises(CalibrationError, match="patient 'p2' serves both"):
        pipeline.check_apart(chosen, dataset(Path("data"), (96, 96)))


def test_phantoms_name_no_patients_beforehand() -> None:
    assert phantoms(range(3), (96, 96)).patients() == frozenset()


@pytest.mark.parametrize(
    ("bundle", "folder"),
    [("heart.pkb", "heart.report"), ("heart.v1", "heart.v1.report"), ("x", "x.report")],
)
def test_every_bundle_has_its_own_report_folder(tmp_path: Path, bundle: str, folder: str) -> None:
    assert verifying.report_folder(tmp_path / bundle) == tmp_path / folder


def test_verify_writes_into_no_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "a.pkb"
    (bundle / "engine").mkdir(parents=True)
    (bundle / "manifest.json").write_text("{}")

    with pytest.raises(UsageError, match="lies in a bundle"):
        verifying.verify(bundle, phantoms(range(1), (96, 96)), out=bundle / "reports")
    assert sorted(p.name for p in bundle.iterdir()) == ["engine", "manifest.json"]
