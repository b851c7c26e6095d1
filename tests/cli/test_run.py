"""`pkecho-edge run`: what it writes, what it prints, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
from av.error import PatchWelcomeError
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from pkecho_edge.cli.run import parse_spacing
from pkecho_edge.data.video import write_mjpg_avi
from pkecho_edge.errors import UsageError
from pkecho_edge.running import overlay
from pkecho_edge.running import run as running
from pkecho_edge.targets.openvino_cpu import OpenVinoCpu

Refuses = Callable[..., str]
Type = Callable[[str], Any]

FILES = {"overlay.mp4", "sheet.png", "frames.csv", "beats.csv", "summary.json"}
RUN = "run heart.pkb heart.avi"


@pytest.fixture
def pictures() -> NDArray[np.uint8]:
    """u8 [24, 80, 112]: a dark ventricle that beats."""
    rows, columns = np.indices((80, 112))
    frames = np.full((24, 80, 112), 140, dtype=np.uint8)
    for index in range(24):
        size = 0.7 + 0.3 * np.cos(2 * np.pi * index / 12)
        frames[index][np.hypot((rows - 40) / 30, (columns - 56) / 18) < size] = 20
    return frames


@pytest.fixture
def scan(world: Path, pictures: NDArray[np.uint8]) -> Path:
    """heart.avi in the world."""
    write_mjpg_avi(world / "heart.avi", pictures, 40)
    return world / "heart.avi"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# What it writes


def test_a_recording_becomes_a_folder_of_results(scan: Path, typed: Type) -> None:
    outcome = typed(f"{RUN} --spacing 0.5 --json figures.json")

    assert outcome.code == 0, outcome.err
    out = scan.parent / "heart.run"
    assert {path.name for path in out.iterdir()} == FILES
    frames = rows(out / "frames.csv")
    assert [row["frame"] for row in frames] == [str(index) for index in range(24)]
    assert [row["warming_up"] for row in frames] == ["true"] * 9 + ["false"] * 15
    assert float(frames[8]["time_s"]) == pytest.approx(0.2)
    for row in frames:
        assert float(row["area_cm2"]) == pytest.approx(int(row["area_px"]) * 0.25 / 100, abs=1e-4)
        assert row["valid"] == ("false" if row["flags"] else "true")
        assert float(row["latency_ms"]) > 0
    with av.open(str(out / "overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 24
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.format == "PNG"
    summary = json.loads((out / "summary.json").read_text())
    assert summary == json.loads((scan.parent / "figures.json").read_text())
    assert summary["schema"] == "pkecho-edge/run/1"
    assert summary["bundle"]["mode"] == "stream"
    assert summary["frames"]["warming_up"] == 9
    assert len(summary["beats"]) == len(rows(out / "beats.csv"))


def test_it_says_what_it_found_and_where(scan: Path, typed: Type) -> None:
    outcome = typed(RUN)

    assert "24 frames, 112x80, 0.57 s" in outcome.out
    assert "EF" in outcome.out
    assert "frames/s segmented" in outcome.out
    assert "9 while the window of 10 warmed up" in outcome.out
    assert "Files:   heart.run/ overlay.mp4" in outcome.out
    assert "no spacing: volumes are in cubic pixels" in outcome.out


def test_quietly(scan: Path, typed: Type) -> None:
    outcome = typed(f"{RUN} --quiet --out elsewhere/deep")

    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert {path.name for path in (scan.parent / "elsewhere" / "deep").iterdir()} == FILES


def test_dicom_is_cropped_to_its_tissue(
    world: Path, pictures: NDArray[np.uint8], typed: Type, dicom_files: ModuleType
) -> None:
    whole = np.zeros((24, 140, 181), dtype=np.uint8)
    whole[:, :20] = np.arange(181, dtype=np.uint8)  # words, in real life
    whole[:, 30:110, 40:152] = pictures
    tissue = dicom_files.region(40, 30, 151, 109)
    dataset = dicom_files.ultrasound(whole, syntax=dicom_files.JPEG, regions=[tissue])
    dicom_files.save(dataset, world / "echo.dcm")

    outcome = typed("run heart.pkb echo.dcm")

    assert outcome.code == 0, outcome.err
    summary = json.loads((world / "echo.run" / "summary.json").read_text())
    assert (summary["input"]["height"], summary["input"]["width"]) == (80, 112)
    assert summary["input"]["spacing_mm"] == pytest.approx([0.5, 0.5])
    assert summary["input"]["kind"] == "dicom"


def test_a_scale_that_is_not_believed_is_said(
    world: Path, pictures: NDArray[np.uint8], typed: Type, dicom_files: ModuleType
) -> None:
    tissue = dicom_files.region(0, 0, 111, 79, PhysicalDeltaX=0)
    dicom_files.save(dicom_files.ultrasound(pictures, regions=[tissue]), world / "echo.dcm")

    outcome = typed("run heart.pkb echo.dcm")

    assert outcome.code == 0
    assert "note: no spacing: the region's pixels measure 0.05 by 0 cm" in outcome.out

    given = typed("run heart.pkb echo.dcm --spacing 0.5 --out given.run")

    assert given.code == 0
    assert "no spacing" not in given.out
    assert "note: the spacing is the one given; the file's own is not believed" in given.out


def test_a_folder_of_images(world: Path, pictures: NDArray[np.uint8], typed: Type) -> None:
    (world / "frames").mkdir()
    for index, frame in enumerate(pictures[:5]):
        Image.fromarray(frame).save(world / "frames" / f"{index}.png")

    outcome = typed("run heart.pkb frames")

    assert outcome.code == 0, outcome.err
    assert "nothing says when frames were taken" in outcome.out
    assert [row["time_s"] for row in rows(world / "frames.run" / "frames.csv")] == [""] * 5


def test_uneven_frames_keep_their_times_and_a_gap_begins_a_window(
    world: Path, pictures: NDArray[np.uint8], typed: Type
) -> None:
    times_ms = [*range(0, 480, 40), *range(2480, 2960, 40)]
    with av.open(str(world / "gap.mkv"), "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 80, 112, "yuvj420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for picture, time_ms in zip(pictures, times_ms, strict=True):
            frame = VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuvj420p")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())

    outcome = typed("run heart.pkb gap.mkv")

    assert outcome.code == 0, outcome.err
    assert "note: frames are unevenly spaced in time" in outcome.out
    assert "note: the window began anew at frames 12" in outcome.out
    frames = rows(world / "gap.run" / "frames.csv")
    assert [round(1000 * float(row["time_s"])) for row in frames] == times_ms
    assert [row["frame"] for row in frames if row["restarted"]] == ["0", "12"]


def test_a_bundle_without_a_stream_engine_runs_in_windows(
    scan: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pkecho_edge.runtime.engine import Engine

    monkeypatch.setattr(Engine, "modes", property(lambda engine: ("clip",)))

    outcome = typed(RUN)

    assert outcome.code == 0, outcome.err
    frames = rows(scan.parent / "heart.run" / "frames.csv")
    assert {row["warming_up"] for row in frames} == {"false"}
    assert "clip engine" in outcome.out


def test_an_earlier_run_is_replaced_when_told(scan: Path, typed: Type) -> None:
    typed(f"{RUN} --quiet")
    (scan.parent / "heart.run" / "sheet.png").unlink()

    outcome = typed(f"{RUN} --quiet --overwrite")

    assert outcome.code == 0, outcome.err
    assert {path.name for path in (scan.parent / "heart.run").iterdir()} == FILES
    assert not [path.name for path in scan.parent.iterdir() if path.name.startswith(".")]


def test_a_terminal_without_colour_width_or_unicode(scan: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pkecho_edge.cli.main", *RUN.split()],
        cwd=scan.parent,
        env={
            **os.environ,
            "TERM": "dumb",
            "NO_COLOR": "1",
            "COLUMNS": "10",
            "PYTHONIOENCODING": "ascii",
        },
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"\x1b" not in done.stdout
    assert b"frames/s segmented" in done.stdout


@pytest.mark.parametrize(
    ("text", "spacing"), [("0.3", (0.3, 0.3)), (".5x1", (0.5, 1.0)), ("2x0.25", (2.0, 0.25))]
)
def test_a_spacing(text: str, spacing: tuple[float, float]) -> None:
    assert parse_spacing(text) == spacing


@pytest.mark.parametrize("text", ["", "x", "-1", "0.3mm", "1x", "1x2x3", "nan", "1e3"])
def test_no_spacing(text: str) -> None:
    with pytest.raises(UsageError, match="ROWxCOLUMN"):
        parse_spacing(text)


# What it refuses


def _dicom(world: Path, dicom_files: ModuleType, name: str = "echo.dcm", **options: Any) -> None:
    ramp = np.linspace(0, 200, 48 * 64).reshape(48, 64)
    frames = (ramp + np.arange(5)[:, None, None]).astype(np.uint8)
    dicom_files.save(dicom_files.ultrasound(frames, **options), world / name)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({"Modality": "MR"}, "no ultrasound", id="DICOM of another modality"),
        pytest.param({"PixelData": None}, "no pixel data", id="DICOM without pixels"),
        pytest.param({"NumberOfFrames": 9}, "breaks off", id="DICOM with frames missing"),
    ],
)
def test_dicom_that_cannot_be_used(
    world: Path, refuses: Refuses, dicom_files: ModuleType, values: dict[str, Any], says: str
) -> None:
    _dicom(world, dicom_files, **values)

    refuses("run heart.pkb echo.dcm", 7, "echo.dcm", says)


def test_dicom_compressed_as_is_not_read(
    world: Path, refuses: Refuses, dicom_files: ModuleType
) -> None:
    _dicom(world, dicom_files)
    data = (world / "echo.dcm").read_bytes()
    # the same length, so that nothing else changes
    (world / "echo.dcm").write_bytes(
        data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    )

    refuses(
        "run heart.pkb echo.dcm", 7, "RLE", "gdcmconv --raw", case="DICOM in a compression not read"
    )


def test_a_region_outside_the_picture(
    world: Path, refuses: Refuses, dicom_files: ModuleType
) -> None:
    _dicom(world, dicom_files, regions=[dicom_files.region(0, 0, 99, 47)])

    refuses(
        "run heart.pkb echo.dcm",
        7,
        "does not lie in its picture",
        "--no-regions",
        case="DICOM whose tissue region lies outside",
    )


def test_a_dicom_file_that_breaks_off(
    world: Path, refuses: Refuses, dicom_files: ModuleType
) -> None:
    _dicom(world, dicom_files)
    whole = (world / "echo.dcm").read_bytes()
    (world / "echo.dcm").write_bytes(whole[: len(whole) // 2])

    refuses("run heart.pkb echo.dcm", 7, "breaks off after 2 frames of 5", case="truncated DICOM")


def test_dicom_without_the_package(
    world: Path, refuses: Refuses, dicom_files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dicom(world, dicom_files)
    monkeypatch.setitem(sys.modules, "pydicom", None)

    refuses(
        "run heart.pkb echo.dcm",
        5,
        "pydicom is not installed",
        "pip install 'pkecho-edge[data]'",
        case="DICOM without pydicom",
    )


def test_an_empty_folder(world: Path, refuses: Refuses) -> None:
    (world / "empty").mkdir()

    refuses("run heart.pkb empty", 7, "no image in it", case="run on an empty folder")


def test_images_of_differing_sizes(world: Path, refuses: Refuses) -> None:
    (world / "frames").mkdir()
    for index in range(2):
        Image.fromarray(np.eye(32 + index, dtype=np.uint8) * 99).save(world / f"frames/{index}.png")

    refuses("run heart.pkb frames", 7, "1.png: it is 33x33", case="images of differing sizes")


def test_no_recording(world: Path, refuses: Refuses) -> None:
    refuses("run heart.pkb absent.avi", 7, "no such file", case="run on a missing recording")


def test_a_text_as_recording(world: Path, refuses: Refuses) -> None:
    refuses("run heart.pkb gates.toml", 7, "cannot be read as a video", case="run on a text")


def test_no_bundle(scan: Path, refuses: Refuses) -> None:
    refuses(
        "run data heart.avi", 6, "manifest.json", "with --data", case="run with a dataset as bundle"
    )


def test_a_bundle_for_a_device(
    scan: Path, refuses: Refuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    for_device = replace(OpenVinoCpu.capabilities, device_kit=True)
    monkeypatch.setattr(OpenVinoCpu, "capabilities", for_device)

    refuses(RUN, 5, "a device builds and runs", "--target cpu", case="run of a device's bundle")


def test_an_output_folder_that_exists(scan: Path, refuses: Refuses, typed: Type) -> None:
    typed(f"{RUN} --quiet")

    refuses(RUN, 2, "exists", "--overwrite", case="run into a folder that exists")


def test_a_folder_that_no_run_wrote(scan: Path, refuses: Refuses) -> None:
    refuses(f"{RUN} --out data --overwrite", 2, "not replaced", case="run --overwrite of a dataset")


def test_a_folder_that_holds_the_recording(scan: Path, refuses: Refuses, typed: Type) -> None:
    typed(f"{RUN} --quiet")
    shutil.copy(scan, scan.parent / "heart.run" / "heart.avi")

    refuses(
        "run heart.pkb heart.run/heart.avi --out heart.run --overwrite",
        2,
        "holds the recording",
        case="run --overwrite of the recording's folder",
    )


def test_a_folder_that_holds_the_bundle(scan: Path, refuses: Refuses, typed: Type) -> None:
    typed(f"{RUN} --quiet")
    shutil.copytree(scan.parent / "heart.pkb", scan.parent / "heart.run" / "heart.pkb")

    refuses(
        "run heart.run/heart.pkb heart.avi --out heart.run --overwrite",
        2,
        "holds the bundle",
        case="run --overwrite of the bundle's folder",
    )


def test_a_folder_that_appeared_meanwhile_is_not_replaced(
    scan: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = scan.parent / "heart.run", running.write_sheet

    def slow(*arguments: Any) -> None:
        real(*arguments)
        out.mkdir()
        (out / "precious.txt").write_text("of somebody else")

    monkeypatch.setattr(running, "write_sheet", slow)

    outcome = typed(RUN)

    assert outcome.code == 2
    assert "heart.run: exists" in outcome.err
    assert (out / "precious.txt").read_text() == "of somebody else"


def test_a_pipe_as_recording(world: Path, refuses: Refuses) -> None:
    os.mkfifo(world / "pipe.avi")

    refuses("run heart.pkb pipe.avi", 7, "neither a file nor a folder", case="run on a pipe")


def test_a_video_that_cannot_be_encoded(
    scan: Path, refuses: Refuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise PatchWelcomeError(1, "not written by anybody yet")

    monkeypatch.setattr(overlay._Painter, "paint", broken)

    refuses(RUN, 2, "the video cannot be encoded: not written", case="run into no video")


def test_into_a_bundle(scan: Path, refuses: Refuses) -> None:
    refuses(f"{RUN} --out heart.pkb/run", 2, "lies in a bundle", case="run into a bundle")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param("--spacing 3mm", "is not N or ROWxCOLUMN", id="--spacing that is none"),
        pytest.param("--spacing 0", "a pixel of 0 by 0 mm", id="--spacing of nothing"),
        pytest.param("--frame-rate 25", "Leave out --frame-rate", id="--frame-rate of a video"),
    ],
)
def test_options_that_make_no_sense(scan: Path, refuses: Refuses, options: str, says: str) -> None:
    refuses(f"{RUN} {options}", 2, says)


@pytest.mark.parametrize("moment", ["open_recording", "segment", "write_overlay", "write_sheet"])
def test_ctrl_c_leaves_nothing(
    scan: Path, refuses: Refuses, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    whole = getattr(running, moment)

    def interrupted(*arguments: Any, **options: Any) -> None:
        whole(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, moment, interrupted)

    refuses(RUN, 130, "interrupted", case="Ctrl-C while run is at work")


def test_ctrl_c_while_folders_change_places_keeps_the_old_one(
    scan: Path, refuses: Refuses, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(f"{RUN} --quiet")
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)

    refuses(f"{RUN} --overwrite", 130, "interrupted", case="Ctrl-C while run replaces a folder")


def test_a_full_disk(scan: Path, refuses: Refuses, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(running, "write_sheet", full)

    refuses(RUN, 2, "heart.run: cannot be written (No space left", case="run on a full disk")
