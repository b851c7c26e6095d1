"""Places that results cannot be written to: refused before any work is done where possible."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pkecho_edge.bundle.reader import check_bundle

Refuses = Callable[..., str]
Type = Callable[[str], Any]

VERIFY = "verify heart.pkb --data data --gates gates.toml"
COMPILE = "compile network.safetensors --data data --size 96 --clips 2 --gates gates.toml"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        pytest.param(f"{COMPILE} --out heart.pkb", "exists already", id="existing bundle"),
        pytest.param(f"{COMPILE} --out gates.toml", "exists already", id="--out is a file"),
        pytest.param(
            f"{COMPILE} --out data --overwrite",
            "is not a bundle",
            id="--overwrite of another folder",
        ),
        pytest.param(
            f"{COMPILE} --out gates.toml/new.pkb", "cannot be written", id="--out below a file"
        ),
        pytest.param(
            f"{COMPILE} --out {'n' * 300}.pkb", "cannot be written", id="--out of 304 characters"
        ),
        pytest.param(
            f"{COMPILE} --out /proc/new.pkb",
            "cannot be written",
            id="unwritable --out",
            marks=pytest.mark.skipif(not Path("/proc").exists(), reason="no /proc to fail in"),
        ),
        pytest.param(
            f"{COMPILE} --out new.pkb --json data", "is a folder", id="--json is a folder"
        ),
        pytest.param(
            f"{COMPILE} --out new.pkb --json gates.toml/figures.json",
            "cannot be written",
            id="--json below a file",
        ),
        pytest.param("targets --json /dev/null", "not a regular file", id="--json is a device"),
        pytest.param(
            f"{VERIFY} --out gates.toml", "is not a folder", id="report in place of a file"
        ),
        pytest.param(
            "calibrate data --size 96 --clips 2 --out data",
            "is a folder",
            id="calibrate --out is a folder",
        ),
        pytest.param(
            "calibrate data --size 96 --clips 2 --out gates.toml/set.json",
            "cannot be written",
            id="calibrate --out below a file",
        ),
        pytest.param("phantom --out gates.toml", "is not a folder", id="phantom --out is a file"),
        pytest.param("phantom --out data", "not an empty folder", id="phantom --out is not empty"),
        pytest.param("train --out gates.toml", "is not a folder", id="train --out is a file"),
        pytest.param("demo --out data", "is not empty", id="demo --out is not empty"),
        pytest.param("demo --out gates.toml", "is not a folder", id="demo --out is a file"),
        pytest.param("verify nowhere.pkb", "not a bundle folder", id="missing bundle"),
        pytest.param("verify gates.toml", "not a bundle folder", id="a file as bundle"),
    ],
)
def test_a_place_is_refused(refuses: Refuses, command: str, says: str) -> None:
    refuses(command, 2, says)


def test_a_sealed_folder_is_refused_before_any_work(
    world: Path, refuses: Refuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system tells users other than root, for whom nothing is sealed."""
    sealed, real = world / "sealed", os.access
    sealed.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != sealed and real(path, mode))

    line = f"{COMPILE} --out new.pkb --json sealed/below/figures.json"
    refuses(line, 2, "cannot be written (Permission denied)", case="--json in a sealed folder")


def test_a_report_in_the_way_is_refused(world: Path, refuses: Refuses) -> None:
    (world / "heart.report").write_text("a file")

    refuses(VERIFY, 2, "heart.report", "is not a folder", case="a file where the report goes")


@pytest.mark.parametrize("name", ["a.pkb", "missing/folder/a.pkb"])
def test_a_failed_compile_leaves_no_folder(world: Path, refuses: Refuses, name: str) -> None:
    (world / "data" / "FileList.csv").unlink()

    refuses(f"{COMPILE} --out {name}", 7, "data", case="dataset without FileList.csv")


def test_figures_that_cannot_be_written_do_not_cost_the_bundle(
    world: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up in the last moment, after the check that is made before any work."""
    from pkecho_edge import files

    real = files.write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.name == "figures.json":
            raise OSError(28, os.strerror(28))
        real(path, data)

    monkeypatch.setattr(files, "write_atomically", full)

    outcome = typed(f"{COMPILE} --out new.pkb --json figures.json")

    assert outcome.code == 2
    assert "figures.json: cannot be written (No space left on device)" in outcome.err
    assert "new.pkb" in outcome.out
    check_bundle(world / "new.pkb")


@pytest.mark.parametrize(
    ("line", "case"),
    [
        (f"{COMPILE} --out .", "--out is the current folder"),
        (f"{COMPILE} --out /", "--out is the root"),
        (f"{COMPILE} --overwrite --out ..", "--out is the folder above"),
        ("prune network.safetensors --ratio 0.4 --size 96 --out .", "prune --out is a folder"),
        ("prune network.safetensors --ratio 0.4 --size 96 --out data/..", "prune --out goes back"),
    ],
)
def test_what_a_run_makes_has_a_name(refuses: Refuses, line: str, case: str) -> None:
    refuses(line, 2, "is no name for what a run makes", case=case)


def test_a_record_that_cannot_be_written_hides_no_failed_gate(
    world: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pkecho_edge import files

    real = files.write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.name in ("new.pkb.toml", "figures.json"):
            raise OSError(28, os.strerror(28))
        real(path, data)

    monkeypatch.setattr(files, "write_atomically", full)
    (world / "hard.toml").write_text("[gates]\nspeedup = 1e6\n")

    outcome = typed(f"{COMPILE} --out new.pkb --json figures.json --gates hard.toml")

    assert outcome.code == 4
    assert "speedup" in outcome.err
    assert "Bundle:  new.pkb" in outcome.out
    assert "Again:" not in outcome.out
    assert not (world / "new.pkb.toml").exists()

    outcome = typed(f"{COMPILE} --out new.pkb --overwrite")

    assert outcome.code == 2
    assert "new.pkb.toml: cannot be written (No space left on device)" in outcome.err
    assert "Bundle:  new.pkb" in outcome.out


@pytest.mark.parametrize("command", [f"{COMPILE} --out new.pkb"])
@pytest.mark.parametrize(
    "place", [pytest.param("gates.toml", id="a file"), pytest.param("gates.toml/x", id="below one")]
)
def test_a_cache_that_cannot_be_written_is_refused(
    refuses: Refuses, monkeypatch: pytest.MonkeyPatch, command: str, place: str
) -> None:
    monkeypatch.setenv("PKECHO_EDGE_CACHE", place)

    refuses(command, 2, place, "PKECHO_EDGE_CACHE", case="PKECHO_EDGE_CACHE is no folder")
