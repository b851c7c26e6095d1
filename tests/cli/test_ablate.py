"""`pkecho-edge ablate` from end to end on the small world, with narrow networks."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pkecho_edge.bench import ablations
from pkecho_edge.bench.ablation_tables import TABLES, VARIANTS
from pkecho_edge.bench.ablations import Study
from pkecho_edge.model import baseline
from pkecho_edge.model.configuration import NetworkConfig, Widths

Refuses = Callable[..., str]
Type = Callable[[str], Any]
Spoil = Callable[[Path], object]

ABLATE = "ablate --data data --tables whole --seeds 1 --epochs 1 --batch 2 --size 96 --out runs"
RUNS = [f"{row.variant}-seed0" for row in TABLES["whole"].rows]


@pytest.fixture(autouse=True)
def narrow(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def config(_: Study, variant: str) -> NetworkConfig:
        inner = (((8,), (8,)), ((8,), (8,)), ((8,), (8,)), ((8,), (8,)))
        return NetworkConfig(widths=Widths(8, (8, 8, 8, 8), inner), **VARIANTS[variant])

    monkeypatch.setattr(Study, "config", config)


def files(root: Path) -> dict[str, bytes]:
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def document(path: str = "runs/ablations.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(path).read_text())
    return found


def of_runs(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in found.items() if "/" in name}


def test_the_parts_together(world: Path, typed: Type) -> None:
    done = typed(f"{ABLATE} --json figures.json")

    assert (done.code, done.err) == (0, "")
    assert "2 from 2 recordings" in done.out
    assert "2 clips of data, split TEST" in done.out
    assert "Tables: runs/ablations.md" in done.out
    assert "(there already)" not in done.out
    assert set(files(world / "runs")) == {
        "ablations.json", "ablations.md",
        *(f"{run}/{name}" for run in RUNS for name in ("log.csv", "scores.json")),
    }  # fmt: skip
    assert document() == document("figures.json")
    assert list(document()["tables"]) == ["whole"]
    rows = document()["tables"]["whole"]["rows"]
    for row, run in zip(rows, RUNS, strict=True):
        scores = json.loads((world / "runs" / run / "scores.json").read_text())["scores"]
        assert row["dsc"] == pytest.approx(np.mean(list(scores["ed_es"]["dsc"].values())))
        assert row["dsc_sd"] is None
    assert (rows[-1]["p_dsc"], document()["seeds"]) == (None, 1)
    assert "| MRP and KSS |" in (world / "runs" / "ablations.md").read_text()


def test_the_report_says_what_was_done(world: Path, typed: Type) -> None:
    done = typed(ABLATE)

    said = document()["conditions"]
    assert said.startswith("Reduced: resnet18, encoder weights random at first, 1 epoch, batch 2")
    assert "1 seed, trained on 2 samples of " in said
    assert "data, split own, tested on 2 clips of data, split TEST, 96x96; ED and ES" in said
    assert (world / "runs" / "ablations.md").read_text().startswith(said)
    warnings = document()["warnings"]
    assert any("over patients, not over seeds" in warning for warning in warnings)
    assert any("synthetic" in warning.lower() for warning in warnings)  # data are phantoms
    printed = " ".join(done.out.split())
    assert said in printed
    assert all(f"warning: {warning}" in printed for warning in warnings)


def test_fifty_epochs_are_not_reduced(
    world: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time to train that long: the scores are made up."""
    figures = {column: {"a": 90.0} for column in ("dsc", "hd95", "asd", "ef")}
    monkeypatch.setattr(ablations, "_run", lambda *_: {"ed_es": figures, "labelled": figures})

    assert typed(ABLATE.replace("--epochs 1", "--epochs 49")).code == 0
    begin = "resnet18, encoder weights random at first, "
    assert document()["conditions"].startswith(f"Reduced: {begin}49 epochs")
    assert typed(ABLATE.replace("--epochs 1 ", "")).code == 0
    assert document()["conditions"].startswith(f"{begin}50 epochs")


def test_the_same_command_again_trains_nothing(
    world: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(ABLATE)
    before, first = files(world / "runs"), document()
    (world / "runs" / "ablations.json").unlink()

    def forbidden(*_: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(ablations, "_run", forbidden)
    again = typed(ABLATE)

    assert (again.code, again.err) == (0, "")
    assert again.out.count("(there already)") == len(RUNS)
    assert of_runs(files(world / "runs")) == of_runs(before)
    assert document()["tables"] == first["tables"]


def test_quiet_prints_nothing_and_weights_can_be_kept(world: Path, typed: Type) -> None:
    done = typed(f"{ABLATE} --quiet --keep-checkpoints")

    assert (done.code, done.out, done.err) == (0, "", "")
    kept = {f"{run}/last.safetensors" for run in RUNS}
    assert kept <= set(files(world / "runs"))


def test_another_recipe_does_not_overwrite_the_runs(
    world: Path, typed: Type, refuses: Refuses
) -> None:
    assert typed(ABLATE).code == 0

    refuses(
        ABLATE.replace("--epochs 1", "--epochs 2"), 7, "runs/backbone-seed0/scores.json: ",
        "Choose another --out", case="ablate into runs of another recipe",
    )  # fmt: skip


# What is refused before anything is written


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param("--tables 3,6", "unknown table '6'. Use 3, 4, 5, whole", id="unknown table"),
        pytest.param("--tables ,", "no table is named", id="no table"),
        pytest.param("--backbone resnet99", "resnet50", id="unknown backbone, ablate"),
        pytest.param("--seeds 0", "--seeds", id="no seeds"),
        pytest.param("--epochs 0", "--epochs", id="no epochs"),
        pytest.param("--size 100", "multiples of 32", id="size 100, ablate"),
        pytest.param("--split random", "split is 'random'", id="unknown split, ablate"),
        pytest.param("--out gates.toml", "is not a folder", id="--out that is a file"),
        pytest.param("--out heart.pkb", "lies in a bundle", id="--out that is a bundle"),
    ],
)
def test_an_impossible_command_is_refused(refuses: Refuses, change: str, says: str) -> None:
    refuses(f"{ABLATE} {change}", 2, says)


def test_a_place_that_the_tables_cannot_take_is_refused_first(
    world: Path, refuses: Refuses
) -> None:
    (world / "runs" / "ablations.md").mkdir(parents=True)

    refuses(ABLATE, 2, "runs/ablations.md: is a folder", case="a folder where a table would be")


def rewritten(path: Path, **values: str) -> None:
    """Set columns of every row of a CSV file whose Split is TEST."""
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    for row in found:
        if row["Split"] == "TEST":
            row.update(values)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, found[0].keys())
        writer.writeheader()
        writer.writerows(found)


def without_test(root: Path) -> None:
    rewritten(root / "FileList.csv", Split="VAL")


def unlabelled(root: Path) -> None:
    """The videos alone: nobody knows that they have no labels before they are decoded."""
    videos = root.with_name("videos")
    (root / "Videos").rename(videos)
    shutil.rmtree(root)
    videos.rename(root)


def every_video_gone(root: Path) -> None:
    shutil.rmtree(root / "Videos")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(without_test, "no usable recording in split TEST", id="no TEST, ablate"),
        pytest.param(
            unlabelled,
            "data: no recording to test on is labelled at ED and at ES. See what it holds",
            id="no labels, ablate",
        ),
        pytest.param(every_video_gone, "data: ", id="no videos, ablate"),
    ],
)
def test_data_that_cannot_be_tested_on_stop_it_at_once(
    world: Path, refuses: Refuses, spoil: Spoil, says: str
) -> None:
    spoil(world / "data")

    refuses(ABLATE, 7, says)


# What the figures are of


def test_no_patient_is_trained_and_tested_on(
    world: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the patients are split anew: the dataset's own TEST is then no longer held out."""
    studies: list[Study] = []
    figures = {column: {"a": 90.0} for column in ("dsc", "hd95", "asd", "ef")}

    def scored(study: Study, *_: Any) -> Any:
        studies.append(study)
        return {"ed_es": figures, "labelled": figures}

    monkeypatch.setattr(ablations, "_run", scored)
    done = typed(f"{ABLATE} --split 7:1:2")

    assert done.code == 0, done.err
    trained = {name.partition("@")[0] for name in studies[0].samples[0].identifiers}
    tested = {clip.recording for clip in studies[0].clips}
    assert (len(trained), len(tested)) == (3, 1)
    assert not trained & tested
    assert "tested on 1 clips of data, split TEST of 7:1:2" in document()["conditions"]


def test_what_is_left_out_is_said(world: Path, typed: Type) -> None:
    video = sorted((world / "data" / "Videos").iterdir())[0]
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])

    done = typed(f"{ABLATE} --quiet")

    assert done.code == 0, done.err
    assert done.err.startswith(f"1 recordings left out: {video.stem}: ")
    assert any(warning == done.err.strip() for warning in document()["warnings"])


def test_the_unit_is_that_of_the_scores(world: Path, typed: Type) -> None:
    """Millimetres where any spacing is known, whichever clip comes first."""
    path = world / "data" / "pkecho.csv"
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    found[2].update(SpacingRowMm="", SpacingColumnMm="")  # the first in TEST
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, found[0].keys())
        writer.writeheader()
        writer.writerows(found)

    typed(f"{ABLATE} --quiet")

    units = {json.loads((world / "runs" / r / "scores.json").read_text())["unit"] for r in RUNS}
    assert units == {document()["unit"]} == {"mm"}


def test_networks_that_find_nothing_do_not_spoil_the_tables(
    world: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(_: Any) -> Callable[[Any], Any]:
        return lambda frames: np.full(frames.shape, -5, dtype=np.float32)

    monkeypatch.setattr(baseline, "baseline_runner", blind)

    done = typed(ABLATE)

    assert (done.code, done.err) == (0, "")
    rows = document()["tables"]["whole"]["rows"]
    assert [(row["dsc"], row["hd95"], row["asd"]) for row in rows] == [(0.0, None, None)] * 4
    assert "nan" not in done.out + (world / "runs" / "ablations.md").read_text()


def test_a_folder_of_any_name_is_printed_as_it_is(world: Path, typed: Type) -> None:
    """Brackets are markup to the terminal's library."""
    (world / "data").rename(world / "[bold]")

    done = typed(ABLATE.replace("--data data", "--data '[bold]'"))

    assert (done.code, done.err) == (0, "")
    assert "2 samples of [bold], split own" in " ".join(done.out.split())
