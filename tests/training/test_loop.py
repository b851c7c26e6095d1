"""The training loop on clips of 64x64 pixels: what it writes, and when it refuses."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput, UsageError
from pkecho_edge.model.checkpoint import load_checkpoint
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.training.augmentation import Augmentation
from pkecho_edge.training.loop import Progress, TrainingConfig, train

FRAMES = 3
RECIPE = TrainingConfig(steps=2, batch=2, bfloat16=False, save_every=1)


def fresh() -> PKEchoNet:
    """A narrow ResNet-18, always with the same random weights."""
    torch.manual_seed(11)
    inner = (((8,), (8,)), ((8,), (8,)), ((8,), (8,)), ((8,), (8,)))
    return PKEchoNet(NetworkConfig(frames=FRAMES, widths=Widths(8, (8, 8, 8, 8), inner)))


@pytest.fixture
def clips() -> list[Clip]:
    """Three bright squares on noise, labelled on the first and the last frame."""
    made = []
    for number in range(3):
        rng = np.random.default_rng(number)
        truth = np.zeros((FRAMES, 64, 64), dtype=np.bool_)
        truth[[0, -1], 16:44, 12 + number : 40] = True
        noise = rng.integers(0, 100, (FRAMES, 1, 64, 64), dtype=np.uint8)
        made.append(
            Clip(
                identifier=f"clip-{number}",
                recording=f"recording-{number}",
                patient=f"patient-{number}",
                source="test",
                frames=noise + 100 * truth[:, None].astype(np.uint8),
                frame_indices=tuple(range(FRAMES)),
                truth=truth,
                labelled=(True, False, True),
            )
        )
    return made


def test_a_checkpoint_and_a_log_are_written(tmp_path: Path, clips: list[Clip]) -> None:
    seen: list[Progress] = []
    network, before = fresh(), fresh().state_dict()

    path = train(network, clips, RECIPE, tmp_path / "run", seen.append)

    assert path == tmp_path / "run" / "checkpoint.safetensors"
    trained = load_checkpoint(path).state_dict()
    assert not network.training
    assert all(torch.equal(trained[n], t) for n, t in network.state_dict().items())
    assert any(not torch.equal(trained[n], t) for n, t in before.items())
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert [p.step for p in seen] == [1, 2]
    assert float(rows[1]["loss"]) == pytest.approx(seen[1].loss, abs=1e-4)


def test_the_learning_rate_follows_the_poly_schedule(tmp_path: Path, clips: list[Clip]) -> None:
    seen: list[Progress] = []
    config = replace(RECIPE, steps=4, learning_rate=0.01)

    train(fresh(), clips, config, tmp_path, seen.append)

    assert [p.learning_rate for p in seen] == pytest.approx(
        [0.01 * (1 - done / 4) ** 0.9 for done in range(4)]
    )


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_same_seed_gives_the_same_weights(
    tmp_path: Path, clips: list[Clip], bfloat16: bool
) -> None:
    config = replace(RECIPE, bfloat16=bfloat16)
    runs = {"first": config, "second": config, "other": replace(config, seed=1)}

    bytes_of = {}
    for name, recipe in runs.items():
        network = fresh()
        torch.manual_seed(len(bytes_of))  # what ran before must not matter
        path = train(network, clips, recipe, tmp_path / name)
        state = load_checkpoint(path).state_dict()
        bytes_of[name] = {n: t.numpy().tobytes() for n, t in state.items()}

    assert bytes_of["first"] == bytes_of["second"]
    assert bytes_of["first"] != bytes_of["other"]


def test_it_learns(tmp_path: Path, clips: list[Clip]) -> None:
    seen: list[Progress] = []

    config = replace(
        RECIPE,
        steps=30,
        save_every=30,
        learning_rate=0.01,
        augmentation=Augmentation(0, 0, 0, 0, 0),
    )

    train(fresh(), clips, config, tmp_path, seen.append)

    early, late = seen[:5], seen[-5:]
    assert sum(p.loss for p in late) < 0.8 * sum(p.loss for p in early)


def test_only_the_first_and_the_last_frame_are_labels(tmp_path: Path, clips: list[Clip]) -> None:
    filled = []
    for clip in clips:
        assert clip.truth is not None
        truth = clip.truth.copy()
        truth[1] = True
        filled.append(replace(clip, truth=truth, labelled=(True, True, True)))

    states = [
        load_checkpoint(train(fresh(), some, RECIPE, tmp_path / name)).state_dict()
        for name, some in (("two", clips), ("all", filled))
    ]

    assert all(torch.equal(t, states[1][n]) for n, t in states[0].items())


@pytest.mark.parametrize(
    "changes",
    [
        {"truth": None, "labelled": ()},
        {"labelled": (True, True, False)},
        {"labelled": (False, True, True)},
    ],
)
def test_clips_without_both_labels_are_refused(
    tmp_path: Path, clips: list[Clip], changes: dict[str, object]
) -> None:
    clips[1] = replace(clips[1], **changes)  # type: ignore[arg-type]

    with pytest.raises(UnusableInput, match="'clip-1' has no truth on its first and last frame"):
        train(fresh(), clips, RECIPE, tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_no_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="no clips to train on"):
        train(fresh(), [], RECIPE, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, clips: list[Clip]) -> None:
    checkpoint = train(fresh(), clips, RECIPE, tmp_path)
    good = checkpoint.read_bytes()
    broken = fresh()
    with torch.no_grad():
        broken.kss.pos_embed.fill_(float("nan"))

    with pytest.raises(UnusableInput, match=r"the loss is nan at step 1\..*Lower the"):
        train(broken, clips, RECIPE, tmp_path)

    assert checkpoint.read_bytes() == good


@pytest.mark.parametrize(
    "changes", [{"steps": 0}, {"batch": 0}, {"save_every": 0}, {"learning_rate": 0.0}]
)
def test_impossible_recipes_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be positive"):
        replace(RECIPE, **changes)
