"""`pkecho-edge train`: sizes, bad data, and what a stop leaves; on a narrow network at 96x96.

A study of small hearts is written by the datasets' own writers and spoilt, one thing at a time.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pkecho_edge.cli import train as command
from pkecho_edge.data.camus_writer import WrittenView, write_camus
from pkecho_edge.data.echonet_writer import write_echonet
from pkecho_edge.data.mask_archive import save_masks
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.video import read_video, write_mjpg_avi
from pkecho_edge.model.checkpoint import load_checkpoint
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.training import loop, material
from pkecho_edge.training.recipe import Recipe

Type = Callable[[str], Any]
Spoil = Callable[[Path], object]
Bytes = dict[str, bytes]

TRAIN = "train --data study --size 96 --epochs 2 --batch 2 --precision f32 --out run"
CAMUS = "train --data camus --size 96 --epochs 1 --batch 2 --precision f32 --out run"
ED, ES, FRAMES = 1, 5, 8


def heart(
    name: str, split: str = "TRAIN", frames: int = FRAMES, shape: tuple[int, int] = (96, 96)
) -> Recording:
    """A bright disc on noise that shrinks from frame to frame; every frame is labelled."""
    rng = np.random.default_rng(sum(name.encode()))
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    away = (rows - shape[0] / 2) ** 2 + (columns - shape[1] / 2) ** 2
    radii = shape[0] * np.linspace(0.35, 0.2, frames)
    masks = np.stack([away < radius**2 for radius in radii])
    noise = rng.integers(0, 100, masks.shape, dtype=np.uint8)
    ed, es = min(ED, frames - 2), min(ES, frames - 1)
    every = tuple(range(frames))
    return Recording(
        name, name, "test", noise + 100 * masks.astype(np.uint8), 50.0, (0.5, 0.5), ed, es,
        every, masks, split=split,
    )  # fmt: skip


def study(root: Path, *more: Recording) -> Path:
    """Three patients to train on, a, b and c, and v to validate on."""
    three = [heart("a"), heart("b"), heart("c")]
    write_echonet(root, [*three, *more, heart("v", "VAL")])
    return root


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `study` in it, where `train` trains a narrow network."""

    def narrow(backbone: str, encoder_weights: Path | None, recipe: Recipe) -> PKEchoNet:
        torch.manual_seed(recipe.seed)
        inner = (((8,), (8,)), ((8,), (8,)), ((8,), (8,)), ((8,), (8,)))
        return PKEchoNet(NetworkConfig(widths=Widths(8, (8, 8, 8, 8), inner)))

    study(tmp_path / "study")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_network", narrow)
    return tmp_path


def contents(root: Path) -> Bytes:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def stops(place: Path, typed: Type) -> Callable[..., str]:
    """Run a command that must end in one line and an exit code, and leave every file as it was."""

    def run(line: str, code: int, *says: str) -> str:
        before = contents(place)
        outcome = typed(line)
        assert outcome.code == code, outcome.err
        assert outcome.err.startswith("error: "), outcome.err
        assert outcome.err.count("\n") == 1, outcome.err
        assert "Traceback" not in outcome.err
        for words in says:
            assert words in outcome.err
        assert contents(place) == before
        return str(outcome.err)

    return run


def rows(folder: str = "run") -> list[dict[str, str]]:
    with (Path(folder) / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_is_trained_on(place: Path, typed: Type) -> None:
    outcome = typed(TRAIN)

    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "3 from 3 recordings of study, split own" in outcome.out
    names = {"best.safetensors", "last.safetensors", "log.csv", "state.pt", "curve.png"}
    assert set(contents(place / "run")) == names
    # three samples in batches of two, twice; validated at the end of each epoch
    assert [row["validation_dsc"] != "" for row in rows()] == [False, True, False, True]
    load_checkpoint(place / "run" / "best.safetensors")


# Sizes


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ("--size 96:1 --size 96:2", "size '96:2' is given twice"),
        ("--size 96 --size 96x96", "size '96x96' is given twice"),
        ("--size 96:0", "parts than a number from 1 to 9999"),
        ("--size 96:-1", "parts than a number"),
        ("--size 96:1.5", "parts than a number"),
        ("--size 96:many", "parts than a number"),
        ("--size 96:10000", "parts than a number"),
        ("--size 96:1:2", "parts than a number"),
        ("--size 128 --size :2", "size '' is not N or HxW"),
        ("--size 128 --size 100:2", "size 100 is not possible"),
        ("--size 128 --size 672:2", "96 to 640"),
    ],
)
def test_nonsense_sizes_are_refused(stops: Callable[..., str], sizes: str, says: str) -> None:
    stops(f"train --data study {sizes} --out run", 2, says)


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        (["128"], {(128, 128): 1}),
        (["128:4", "320:1"], {(128, 128): 4, (320, 320): 1}),
        (["96x128:9999", "128x96"], {(96, 128): 9999, (128, 96): 1}),
    ],
)
def test_sizes_and_their_parts(given: list[str], sizes: dict[tuple[int, int], int]) -> None:
    assert command._parse_sizes(given) == sizes


TWO_SIZES = TRAIN.replace("--size 96", "--size 96:2 --size 128x96:1")


def test_two_sizes_share_the_study(place: Path, typed: Type) -> None:
    outcome = typed(TWO_SIZES)

    assert outcome.code == 0, outcome.err
    assert "samples, 96x96           2 from 2 recordings" in outcome.out
    assert "samples, 128x96          1 from 1 recordings" in outcome.out
    assert [row["step"] for row in rows()] == ["1", "2", "3", "4"]


def test_more_sizes_than_patients_are_refused(stops: Callable[..., str]) -> None:
    four = " ".join(f"--size {side}" for side in (96, 128, 160, 192))

    stops(
        f"train --data study {four} --out run", 2,
        "3 patients to train on cannot be shared 1:1:1:1 among 4 sizes. Give more of them",
    )  # fmt: skip
    stops(f"train --phantoms 3 {four} --out run", 2, "3 phantoms cannot be shared")


# What stops before anything is written


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("train --data nowhere --resume --out run", 7, "run/state.pt: there is no run to resume"),
        ("train --data nowhere --out run", 7, "nowhere: there is no such folder"),
        (f"{TRAIN} --seed {1 << 63}", 2, "seed is 9223372036854775808"),
        (f"{TRAIN} --learning-rate 1e39", 2, "learning_rate is 1e+39"),
        (f"{TRAIN} --config nowhere.toml", 2, "nowhere.toml: cannot read the recipe"),
        (f"{TRAIN} --split random", 2, "split is 'random'. Use own or 7:1:2"),
        (f"{TRAIN} --precision f16", 2, "precision is 'f16'"),
        (f"{TRAIN} --device tpu", 2, "unknown device 'tpu'"),
    ],
)
def test_impossible_commands_are_refused(
    stops: Callable[..., str], line: str, code: int, says: str
) -> None:
    stops(line, code, says)


def test_a_batch_too_small_for_the_processes_stops_at_once(
    stops: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pkecho_edge.training import processes

    @contextmanager
    def three(device: str) -> Any:
        yield processes.Processes(0, 3, torch.device("cpu"))

    monkeypatch.setattr(processes, "joined_processes", three)

    stops(
        TRAIN.replace("--data study", "--data nowhere"), 2,
        "a batch of 2 for 3 processes. Use a larger batch",
    )  # fmt: skip


def test_encoder_weights_of_another_kind_stop_it(
    place: Path, stops: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real network
    monkeypatch.chdir(place)
    torch.save({"conv1.weight": torch.zeros(1)}, "weights.pth")

    stops(f"{TRAIN} --encoder-weights weights.pth", 7, "weights.pth: these are no ImageNet weights")


def without_split(root: Path) -> None:
    rewritten(root / "FileList.csv", lambda row: row.update(Split="TEST"))


def one_patient_everywhere(root: Path) -> None:
    rewritten(root / "pkecho.csv", lambda row: row.update(Patient="a"))


def unlabelled(root: Path) -> None:
    videos = root.with_name("videos")
    (root / "Videos").rename(videos)
    shutil.rmtree(root)
    videos.rename(root)


def rewritten(path: Path, change: Callable[[dict[str, str]], object]) -> None:
    """Apply a change to every row of a CSV file."""
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    for row in found:
        change(row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, found[0].keys())
        writer.writeheader()
        writer.writerows(found)


def every_video_cut(root: Path) -> None:
    for video in (root / "Videos").iterdir():
        video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_split, ["study: no recording to train on", "pkecho-edge data check study"]),
        (one_patient_everywhere, ["patient 'a' is in TRAIN and in VAL", "--split 7:1:2"]),
        (unlabelled, ["there is nothing to train on", "(a: recording 'a' has no labelled frame; "]),
        (every_video_cut, ["nothing to train on", "(a: it breaks off after ", "c: it breaks off"]),
    ],
    ids=["no TRAIN", "patient on both sides", "no labels", "all skipped"],
)
def test_a_study_that_cannot_be_trained_on_stops_it(
    place: Path, stops: Callable[..., str], spoil: Spoil, says: list[str]
) -> None:
    spoil(place / "study")

    stops(TRAIN, 7, *says)


# Recordings that are left out and named; the others are trained on


def masks_of(root: Path, name: str, masks: NDArray[np.bool_], labelled: tuple[int, ...]) -> None:
    save_masks(root / "masks" / f"{name}.npz", masks, labelled)


def labelled_at_ed_only(root: Path) -> None:
    masks_of(root, "b", heart("b").masks[[ED]], (ED,))


def empty_es_mask(root: Path) -> None:
    masks = heart("b").masks.copy()
    masks[ES] = False
    masks_of(root, "b", masks, tuple(range(FRAMES)))


def traced_at_ed_only(root: Path) -> None:
    """As published, with traces only."""
    shutil.rmtree(root / "masks")
    (root / "pkecho.csv").unlink()
    path = root / "VolumeTracings.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(x for x in lines if not x.startswith("b.") or x.endswith(f",{ED}\n")))


def a_mask_that_vanishes(root: Path) -> None:
    """One pixel of 384x384 is less than half a pixel of 96x96."""
    large = heart("b", shape=(384, 384))
    masks = large.masks.copy()
    masks[ES] = False
    masks[ES, 189, 189] = True
    write_mjpg_avi(root / "Videos" / "b.avi", large.frames, 50)
    masks_of(root, "b", masks, tuple(range(FRAMES)))


def breaks_off(root: Path) -> None:
    video = root / "Videos" / "b.avi"
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])


def overwritten_in_the_middle(root: Path) -> None:
    video = root / "Videos" / "b.avi"
    data = bytearray(video.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 4] = bytes(len(data) // 4)
    video.write_bytes(data)


def of_another_shape(root: Path) -> None:
    masks_of(root, "b", heart("b", shape=(48, 48)).masks, tuple(range(FRAMES)))


BAD = [
    pytest.param(labelled_at_ed_only, "ES frame 5 has no mask, or an empty one", id="one label"),
    pytest.param(traced_at_ed_only, "frame", id="one traced frame"),
    pytest.param(empty_es_mask, "ES frame 5 has no mask, or an empty one", id="empty mask"),
    pytest.param(a_mask_that_vanishes, "the mask of frame 5 of 'b' is empty", id="vanishing mask"),
    pytest.param(breaks_off, "breaks off after", id="truncated"),
    pytest.param(overwritten_in_the_middle, "b: ", id="damaged in the middle"),
    pytest.param(of_another_shape, "does not fit the video", id="masks of another size"),
]


@pytest.mark.parametrize(("spoil", "reason"), BAD)
def test_a_bad_recording_is_left_out_and_named(
    place: Path, typed: Type, spoil: Spoil, reason: str
) -> None:
    spoil(place / "study")

    outcome = typed(TRAIN)

    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith("warning: left out b: "), outcome.err
    assert reason in outcome.err
    assert outcome.err.count("\n") == 1
    assert "2 from 2 recordings" in outcome.out
    assert len(rows()) == 2


@pytest.mark.parametrize("gone", ["Videos/b.avi", "masks/b.npz"])
def test_a_file_that_goes_while_the_study_is_read_is_left_out(
    place: Path, typed: Type, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """It was there when the tables were read, and is not when its turn to be decoded comes."""

    def opened(root: Path, split: str | None) -> Any:
        found = material_open(root, split)
        (place / "study" / gone).unlink()
        return found

    material_open = material.open_dataset
    monkeypatch.setattr(material, "open_dataset", opened)

    outcome = typed(TRAIN)

    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith("warning: left out b: "), outcome.err
    assert len(rows()) == 2


def test_no_file_is_read_once_training_began(
    place: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So none can spoil an epoch."""
    counted = loop.train

    def without_data(*given: Any, **named: Any) -> Any:
        shutil.rmtree(place / "study")
        return counted(*given, **named)

    monkeypatch.setattr(loop, "train", without_data)

    outcome = typed(TRAIN)

    assert outcome.code == 0, outcome.err
    assert len(rows()) == 4


def test_a_bad_recording_to_validate_on_is_left_out(place: Path, typed: Type) -> None:
    (place / "study" / "Videos" / "v.avi").write_bytes(b"RIFF")

    outcome = typed(TRAIN)

    assert outcome.code == 0, outcome.err
    assert "warning: left out v: cannot be read as a video" in outcome.err
    assert not (place / "run" / "best.safetensors").exists()
    assert "Checkpoint: run/last.safetensors" in outcome.out


def test_an_empty_mask_within_the_cycle_counts_where_a_window_ends_on_it(
    place: Path, typed: Type
) -> None:
    masks = heart("b").masks.copy()
    masks[[0, 2, 3, 4, 6, 7]] = False
    masks_of(place / "study", "b", masks, tuple(range(FRAMES)))

    one = typed(f"{TRAIN} --windows 1")
    many = typed(f"{TRAIN.replace('--out run', '--out more')} --windows 6")

    assert (one.code, one.err) == (0, "")
    assert many.code == 0, many.err
    assert "warning: left out b: the mask of frame" in many.err


# Recordings that look odd and are trained on


def test_ed_equal_to_es_is_trained_on_and_not_validated_on(place: Path, typed: Type) -> None:
    def same(row: dict[str, str]) -> None:
        if row["FileName"] in ("b", "v"):
            row["ESFrame"] = row["EDFrame"]

    rewritten(place / "study" / "pkecho.csv", same)

    outcome = typed(TRAIN)

    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith("warning: left out v: "), outcome.err
    assert "no distinct ED and ES frames" in outcome.err
    assert "3 from 3 recordings" in outcome.out


@pytest.mark.parametrize(
    "odd",
    [
        heart("b", frames=3),
        heart("b", frames=2),
        heart("b", shape=(64, 144)),
        replace(heart("b"), spacing_mm=None),
        replace(heart("b"), spacing_mm=(0.2, 0.9)),
        replace(heart("b"), frame_rate_hz=None),
    ],
    ids=["3 frames", "2 frames", "other size", "no spacing", "anisotropic", "no frame rate"],
)
def test_what_is_odd_but_usable_is_used(place: Path, typed: Type, odd: Recording) -> None:
    shutil.rmtree(place / "study")
    write_echonet(place / "study", [heart("a"), odd, heart("c"), heart("v", "VAL")])

    outcome = typed(TRAIN)

    assert (outcome.code, outcome.err) == (0, "")
    assert "3 from 3 recordings" in outcome.out


def test_the_spacing_does_not_matter(place: Path, typed: Type) -> None:
    assert typed(TRAIN).code == 0
    rewritten(
        place / "study" / "pkecho.csv", lambda row: row.update(SpacingRowMm="", SpacingColumnMm="3")
    )

    assert typed(TRAIN.replace("--out run", "--out other")).code == 0

    one, other = (load_checkpoint(f"{name}/last.safetensors") for name in ("run", "other"))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


# CAMUS


@pytest.fixture
def camus(place: Path) -> Path:
    """Four patients with two views each, of which the lists put three into TRAIN."""
    views = [
        WrittenView(
            replace(heart(f"patient{n:04}_{view}"), patient=f"patient{n:04}", view=view), 100, 50
        )
        for n in range(1, 5)
        for view in ("2CH", "4CH")
    ]
    write_camus(place / "camus", views)
    return place / "camus" / "database_nifti"


def trained_patient(camus: Path) -> str:
    listed = (camus.parent / "database_split" / "subgroup_training.txt").read_text()
    return listed.split()[0]


def without_es_label(home: Path) -> None:
    from pkecho_edge.data.nifti import write_nifti

    labels = heart("x").masks.astype(np.uint8)
    labels[ES] = 3
    write_nifti(next(home.glob("*4CH_half_sequence_gt.nii.gz")), labels, (0.5, 0.5))


def ed_is_es(home: Path) -> None:
    info = home / "Info_4CH.cfg"
    info.write_text(info.read_text().replace(f"ES: {ES + 1}", f"ES: {ED + 1}"))


def cut_images(home: Path) -> None:
    image = next(home.glob("*4CH_half_sequence.nii.gz"))
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])


def without_ed_labels(home: Path) -> None:
    for path in (*home.glob("*4CH_half_sequence_gt.nii.gz"), *home.glob("*4CH_ED_gt.nii.gz")):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without_es_label, "its ES frame has no mask: nothing there is label 1"),
        (ed_is_es, "Info_4CH.cfg gives frame 2 as ED and as ES"),
        (cut_images, "cannot be read as NIfTI"),
        (without_ed_labels, "ED_gt is missing"),
    ],
    ids=["empty mask", "ED equal to ES", "truncated", "one label"],
)
def test_a_bad_view_of_camus_is_left_out(
    camus: Path, typed: Type, spoil: Spoil, reason: str
) -> None:
    patient = trained_patient(camus)
    spoil(camus / patient)

    outcome = typed(CAMUS)

    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith(f"warning: left out {patient}_4CH: {reason}"), outcome.err


def test_an_image_of_camus_that_goes_meanwhile_is_left_out(
    camus: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = trained_patient(camus)

    def opened(root: Path, split: str | None) -> Any:
        found = material_open(root, split)
        for path in (camus / patient).glob("*4CH_half_sequence_gt*"):
            path.unlink()
        return found

    material_open = material.open_dataset
    monkeypatch.setattr(material, "open_dataset", opened)

    outcome = typed(CAMUS)

    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith(f"warning: left out {patient}_4CH: "), outcome.err


# Stops in the middle


class At:
    """The loss, until a step at which something happens instead."""

    def __init__(self, step: int, happen: Callable[[Tensor], Tensor]) -> None:
        self._left, self._happen, self._loss = step, happen, loop.deep_loss

    def __call__(self, *given: Any, **named: Any) -> Tensor:
        self._left -= 1
        loss = self._loss(*given, **named)
        return self._happen(loss) if self._left == 0 else loss


def ctrl_c(_: Tensor) -> Tensor:
    raise KeyboardInterrupt


def to_nan(loss: Tensor) -> Tensor:
    return loss * float("nan")


@pytest.fixture
def whole(place: Path, typed: Type) -> Bytes:
    """What the run leaves when nothing happens: 3 steps an epoch."""
    write_echonet(place / "six", [*(heart(name) for name in "abcdef"), heart("v", "VAL")])
    Path("often.toml").write_text("[training]\nsave_every = 1\n")
    assert typed(f"{STUDY_OF_SIX} --out whole").code == 0
    return contents(place / "whole")


STUDY_OF_SIX = "train --data six --size 96:2 --size 128:1 --epochs 2 --batch 2 --precision f32"


COMPARED = ("best.safetensors", "last.safetensors", "log.csv", "curve.png")


@pytest.mark.parametrize(
    ("step", "options"),
    [(4, ""), (6, ""), (5, "--config often.toml")],
    ids=["first of an epoch", "last of an epoch", "state at every step"],
)
def test_ctrl_c_in_mid_epoch_and_resume(
    place: Path,
    typed: Type,
    whole: Bytes,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    options: str,
) -> None:
    """Bit for bit, whether the state is of the last epoch's end or of the last step."""
    if options:
        assert typed(f"{STUDY_OF_SIX} --out often {options}").code == 0
        whole = contents(place / "often")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "deep_loss", At(step, ctrl_c))
        stopped = typed(f"{STUDY_OF_SIX} --out run {options}")
    assert stopped.code == 130
    assert stopped.err == "error: interrupted. Run the same command again, with --resume\n"
    for name in ("best.safetensors", "last.safetensors"):
        load_checkpoint(place / "run" / name)

    resumed = typed(f"{STUDY_OF_SIX} --out run {options} --resume")

    assert resumed.code == 0, resumed.err
    found = contents(place / "run")
    assert {name: found[name] for name in COMPARED} == {name: whole[name] for name in COMPARED}


def test_ctrl_c_before_anything_is_saved(
    typed: Type, place: Path, whole: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "deep_loss", At(2, ctrl_c))
        stopped = typed(f"{STUDY_OF_SIX} --out run")

    assert stopped.code == 130
    assert stopped.err == (
        "error: interrupted. Run the same command again, for nothing was saved yet\n"
    )
    assert typed(f"{STUDY_OF_SIX} --out run --resume").code == 7
    assert typed(f"{STUDY_OF_SIX} --out run").code == 0
    assert contents(place / "run")["last.safetensors"] == whole["last.safetensors"]


def test_a_loss_that_turns_nan_keeps_the_epoch_before(
    place: Path, typed: Type, whole: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "deep_loss", At(5, to_nan))
        stopped = typed(f"{STUDY_OF_SIX} --out run")

    assert stopped.code == 7
    assert stopped.err == (
        "error: the loss is nan at step 5. Lower the learning rate, or train with --precision f32\n"
    )
    for name in ("best.safetensors", "last.safetensors"):
        load_checkpoint(place / "run" / name)
    assert [row["step"] for row in rows()] == ["1", "2", "3", "4"]
    # it was a cosmic ray: the run goes on as if nothing had been
    resumed = typed(f"{STUDY_OF_SIX} --out run --resume")
    assert resumed.code == 0, resumed.err
    found = contents(place / "run")
    assert {name: found[name] for name in COMPARED} == {name: whole[name] for name in COMPARED}


def test_a_command_typed_again_costs_no_checkpoint(
    place: Path, typed: Type, stops: Callable[..., str]
) -> None:
    assert typed(TRAIN).code == 0

    stops(TRAIN, 2, "run: holds a training run already. Go on with --resume, or choose another")
    # resuming a finished run is harmless
    before = contents(place / "run")
    assert typed(f"{TRAIN} --resume").code == 0
    assert contents(place / "run") == before


def test_a_run_resumes_with_the_same_arguments_only(typed: Type, stops: Callable[..., str]) -> None:
    assert typed(TRAIN).code == 0

    for change, what in (
        ("--epochs 3", "recipe"),
        ("--seed 1", "recipe"),
        ("--split 7:1:2", "recipe"),
        ("--size 128x96", "set of samples"),
    ):
        line = TRAIN.replace("--size 96", "") if "size" in change else TRAIN
        stops(f"{line} {change} --resume", 2, f"run/state.pt: the run began with another {what}")
    Path("run/state.pt").write_bytes(b"PK")
    stops(f"{TRAIN} --resume", 7, "run/state.pt: the state cannot be read (", "another folder")


def test_quiet_says_what_is_left_out_and_nothing_else(place: Path, typed: Type) -> None:
    breaks_off(place / "study")

    outcome = typed(f"{TRAIN} --quiet")

    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.startswith("warning: left out b: ")


def test_the_frames_read_are_those_written(place: Path) -> None:
    """The study is what the tests above take it for."""
    frames, _ = read_video(place / "study" / "Videos" / "b.avi")
    assert frames.shape == (FRAMES, 96, 96)
