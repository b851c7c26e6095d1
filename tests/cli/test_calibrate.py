"""`pkecho-edge calibrate`: what it chooses, says, writes and refuses."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pkecho_edge.data.video import read_video, write_mjpg_avi

Refuses = Callable[..., str]
Type = Callable[[str], Any]

CALIBRATE = "calibrate data --size 96 --clips 2 --out new.json"
COMPILE = "compile network.safetensors --size 96 --gates gates.toml --out new.pkb"


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(table: Path, rows: list[dict[str, str]]) -> None:
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def videos(data: Path, split: str) -> list[Path]:
    names = [row["FileName"] for row in rows_of(data / "FileList.csv") if row["Split"] == split]
    return [data / "Videos" / f"{name.removesuffix('.avi')}.avi" for name in names]


def brighter(source: Path, target: Path) -> None:
    """The same recording in another encoding and five grey levels brighter."""
    frames = read_video(source)[0]
    write_mjpg_avi(target, np.clip(frames.astype(int) + 5, 0, 255).astype(np.uint8), 50)


@pytest.mark.parametrize("rule", ["random", "stratified", "coverage"])
def test_the_same_data_and_seed_give_the_same_files(world: Path, typed: Type, rule: str) -> None:
    line = f"calibrate data --size 96 --clips 1 --rule {rule} --checkpoint network.safetensors"
    for name in ("a", "b"):
        outcome = typed(f"{line} --pack --out {name}.json")
        assert outcome.code == 0, outcome.err

    for suffix in (".json", ".frames.npy"):
        first, second = (world / f"{name}{suffix}" for name in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
    assert json.loads((world / "a.json").read_text())["rule"] == rule


def test_it_says_what_the_set_holds_and_what_comes_next(world: Path, typed: Type) -> None:
    outcome = typed(f"{CALIBRATE} --json figures.json")

    figures = json.loads((world / "figures.json").read_text())
    assert outcome.code == 0, outcome.err
    assert "2 clips of 2 patients" in outcome.out
    assert "good 2" in outcome.out
    assert "Next: pkecho-edge compile" in outcome.out
    assert "fewer than the recommended 30" in outcome.err
    assert (figures["clips"], figures["patients"]) == (2, 2)
    assert figures["quality"] == {"good": 2}
    low, middle, high = figures["grey_mean"]
    assert 0 < low <= middle <= high < 255


def test_quiet_prints_warnings_alone(world: Path, typed: Type) -> None:
    outcome = typed(f"{CALIBRATE} --quiet")

    assert outcome.out == ""
    assert (world / "new.json").exists()


def test_a_patient_of_the_test_split_is_refused(world: Path, refuses: Refuses) -> None:
    table = world / "data" / "pkecho.csv"
    write_rows(table, [{**row, "Patient": "one"} for row in rows_of(table)])

    refuses(
        CALIBRATE, 7, "patient 'one'", "both calibration and verification",
        case="calibration and test split of one patient",
    )  # fmt: skip


def test_a_split_that_takes_in_the_test_split_is_refused(world: Path, refuses: Refuses) -> None:
    said = refuses(
        f"{CALIBRATE} --split ALL", 7, "another --split: ALL takes in what is verified on",
        case="calibration on every split",
    )  # fmt: skip

    assert "serves both calibration and verification" in said


def test_the_same_recording_under_another_name_is_refused(world: Path, refuses: Refuses) -> None:
    source, target = videos(world / "data", "TRAIN")[0], videos(world / "data", "TEST")[0]
    brighter(source, target)

    said = refuses(
        CALIBRATE, 7, "shows the pictures of calibration clip",
        case="a re-encoded calibration recording in the test split",
    )  # fmt: skip

    assert source.stem in said
    assert target.stem in said


def test_another_folder_is_looked_at_where_it_is_named(world: Path, refuses: Refuses) -> None:
    (world / "other").mkdir()
    source = videos(world / "data", "TRAIN")[0]
    brighter(source, world / "other" / "copy.avi")

    said = refuses(
        f"{CALIBRATE} --against other --against-split ALL", 7, "copy",
        case="a calibration recording in another folder",
    )  # fmt: skip

    assert source.stem in said


def test_a_folder_without_a_test_split_has_nothing_to_leak_to(world: Path, typed: Type) -> None:
    table = world / "data" / "FileList.csv"
    write_rows(table, [row for row in rows_of(table) if row["Split"] == "TRAIN"])

    outcome = typed(CALIBRATE)

    assert outcome.code == 0, outcome.err


def test_a_pack_makes_the_calibration_data_unnecessary(world: Path, typed: Type) -> None:
    assert typed(f"{CALIBRATE} --pack").code == 0
    table = world / "data" / "FileList.csv"
    for video in videos(world / "data", "TRAIN"):
        video.unlink()
    write_rows(table, [row for row in rows_of(table) if row["Split"] == "TEST"])

    outcome = typed(f"{COMPILE} --data data --calibration new.json")

    assert outcome.code == 0, outcome.err
    bundled = json.loads((world / "new.pkb" / "model" / "calibration.json").read_text())
    assert bundled == json.loads((world / "new.json").read_text())


def test_a_pack_of_other_frames_is_refused(world: Path, typed: Type, refuses: Refuses) -> None:
    assert typed(f"{CALIBRATE} --pack").code == 0
    pack = world / "new.frames.npy"
    content = bytearray(pack.read_bytes())
    content[-1] ^= 1
    pack.write_bytes(content)

    refuses(
        f"{COMPILE} --data data --calibration new.json", 7, "holds other frames than clip",
        case="calibration pack of other frames",
    )  # fmt: skip


def test_a_pack_of_another_size_is_refused(world: Path, typed: Type, refuses: Refuses) -> None:
    assert typed(f"{CALIBRATE} --pack").code == 0

    refuses(
        f"{COMPILE.replace('96', '128')} --data data --calibration new.json", 7,
        "clips at 96x96, not 128x128", case="calibration pack of another size",
    )  # fmt: skip


def test_a_set_made_anew_forgets_the_pack_of_the_old_one(world: Path, typed: Type) -> None:
    assert typed(f"{CALIBRATE} --pack").code == 0
    assert (world / "new.frames.npy").exists()

    assert typed(CALIBRATE.replace("--clips 2", "--clips 1")).code == 0

    assert not (world / "new.frames.npy").exists()


def test_frames_that_are_no_numbers_are_refused(world: Path, refuses: Refuses, typed: Type) -> None:
    nibabel = pytest.importorskip("nibabel")
    assert typed("phantom --layout camus --clips 2 --size 96 --out camus --quiet").code == 0
    for path in (world / "camus").rglob("*_half_sequence.nii.gz"):
        image = nibabel.load(path)
        values = np.asarray(image.dataobj).astype(np.float32)
        values[0, 0, 0] = np.nan
        path.write_bytes(gzip.compress(nibabel.Nifti1Image(values, image.affine).to_bytes()))

    refuses(
        "calibrate camus --split ALL --against-split NONE --size 96 --out new.json", 7,
        "values that are no numbers", case="NaN in every sequence",
    )  # fmt: skip
