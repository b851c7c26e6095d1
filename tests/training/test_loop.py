"""The training loop on samples of 64x64 pixels: what it writes, how it resumes, when it refuses."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CheckpointError, UnusableInput, UsageError
from pkecho_edge.model.checkpoint import load_checkpoint
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.training.augmentation import Augmentation
from pkecho_edge.training.distance import signed_distance
from pkecho_edge.training.loop import Progress, train
from pkecho_edge.training.recipe import Recipe
from pkecho_edge.training.samples import Samples

FRAMES = 3
RECIPE = Recipe(epochs=2, batch=2, precision="f32", save_every=1)
Bytes = dict[str, bytes]


def fresh() -> PKEchoNet:
    """A narrow ResNet-18, always with the same random weights."""
    torch.manual_seed(11)
    inner = (((8,), (8,)), ((8,), (8,)), ((8,), (8,)), ((8,), (8,)))
    return PKEchoNet(NetworkConfig(frames=FRAMES, widths=Widths(8, (8, 8, 8, 8), inner)))


def bright_squares(count: int, side: int = 64) -> Samples:
    """Bright squares on noise, labelled on the first and the last frame."""
    rng = np.random.default_rng(0)
    truth = np.zeros((count, 2, 1, side, side), dtype=np.bool_)
    for number in range(count):
        truth[number, :, :, 16:44, 12 + number : 40] = True
    noise = rng.integers(0, 100, (count, FRAMES, 1, side, side), dtype=np.uint8)
    return Samples(
        frames=noise + 100 * truth[:, :1].astype(np.uint8),
        truth=truth,
        distance=np.stack(
            [[[signed_distance(pair[0, 0])], [signed_distance(pair[1, 0])]] for pair in truth]
        ).astype(np.float16),
        labelled=np.ones((count, 2), dtype=np.bool_),
        identifiers=tuple(f"clip-{number}" for number in range(count)),
        recordings=count,
    )


def held_out() -> list[Clip]:
    """One clip like the samples, to validate on."""
    one = bright_squares(1)
    truth = np.zeros((FRAMES, 64, 64), dtype=np.bool_)
    truth[[0, -1]] = one.truth[0, 0, 0]
    return [
        Clip("v", "v", "v", "test", one.frames[0], (0, 1, 2), truth, labelled=(True, False, True))
    ]


@pytest.fixture
def samples() -> list[Samples]:
    return [bright_squares(3)]


def weights(network: PKEchoNet) -> Bytes:
    return {name: t.numpy().tobytes() for name, t in network.state_dict().items()}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_checkpoints_a_state_and_a_log_are_written(tmp_path: Path, samples: list[Samples]) -> None:
    seen: list[Progress] = []
    network = fresh()

    trained = train(network, samples, held_out(), RECIPE, tmp_path / "run", on_step=seen.append)

    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {"best.safetensors", "last.safetensors", "log.csv", "state.pt"}
    assert trained.checkpoint.name == "best.safetensors"
    assert weights(load_checkpoint(tmp_path / "run" / "last.safetensors")) == weights(network)
    assert not network.training
    assert weights(network) != weights(fresh())
    # three samples in batches of two: two steps an epoch
    assert [p.step for p in seen] == [1, 2, 3, 4]
    assert [p.epoch for p in seen] == [1, 1, 2, 2]
    assert [p.validation_dsc is not None for p in seen] == [False, True, False, True]
    written = rows(tmp_path / "run")
    assert [row["step"] for row in written] == ["1", "2", "3", "4"]
    assert float(written[1]["loss"]) == pytest.approx(seen[1].loss, rel=1e-4)
    assert written[0]["validation_dsc"] == ""
    assert max(float(row["validation_dsc"]) for row in written[1::2]) == pytest.approx(
        trained.best_dsc, rel=1e-4
    )


def test_the_best_epoch_is_kept(tmp_path: Path, samples: list[Samples]) -> None:
    """A learning rate that ruins the network in the second epoch leaves the first as the best."""
    scores: list[float] = []
    kept: list[Bytes] = []

    def note(progress: Progress) -> None:
        if progress.validation_dsc is not None:
            scores.append(progress.validation_dsc)
            kept.append(weights(load_checkpoint(tmp_path / "last.safetensors")))

    recipe = replace(RECIPE, epochs=6, learning_rate=0.02)
    trained = train(fresh(), samples, held_out(), recipe, tmp_path, on_step=note)

    best = int(np.argmax(scores))
    assert trained.best_dsc == max(scores)
    assert weights(load_checkpoint(trained.checkpoint)) == kept[best]


def test_without_validation_the_last_epoch_is_the_one(
    tmp_path: Path, samples: list[Samples]
) -> None:
    trained = train(fresh(), samples, [], RECIPE, tmp_path)

    assert trained.checkpoint == tmp_path / "last.safetensors"
    assert trained.best_dsc is None
    assert not (tmp_path / "best.safetensors").exists()


def test_the_learning_rate_follows_the_poly_schedule(
    tmp_path: Path, samples: list[Samples]
) -> None:
    seen: list[Progress] = []

    train(fresh(), samples, [], replace(RECIPE, learning_rate=0.01), tmp_path, on_step=seen.append)

    assert [p.learning_rate for p in seen] == pytest.approx(
        [0.01 * (1 - done / 4) ** 0.9 for done in range(4)]
    )


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_the_same_seed_gives_the_same_weights(
    tmp_path: Path, samples: list[Samples], precision: str
) -> None:
    recipe = replace(RECIPE, precision=precision)
    made = {}
    for number, (name, used) in enumerate(
        {"first": recipe, "second": recipe, "other": replace(recipe, seed=1)}.items()
    ):
        network = fresh()
        torch.manual_seed(number)  # what ran before must not matter
        train(network, samples, [], used, tmp_path / name)
        made[name] = weights(network)

    assert made["first"] == made["second"] != made["other"]


class Killed(Exception):
    """Stands for a kill: nothing after it runs."""


def kill_at(step: int) -> Callable[[Progress], None]:
    def on_step(progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    return on_step


@pytest.mark.parametrize("save_every", [1, 2, 3])
@pytest.mark.parametrize("killed_at", [2, 3, 5])
def test_a_killed_run_resumes_bit_for_bit(
    tmp_path: Path, samples: list[Samples], killed_at: int, save_every: int
) -> None:
    recipe = replace(RECIPE, epochs=3, save_every=save_every)
    whole = fresh()
    train(whole, samples, held_out(), recipe, tmp_path / "whole")

    with pytest.raises(Killed):
        train(fresh(), samples, held_out(), recipe, tmp_path / "run", on_step=kill_at(killed_at))
    resumed = fresh()
    torch.manual_seed(5)
    train(resumed, samples, held_out(), recipe, tmp_path / "run", resume=True)

    assert weights(resumed) == weights(whole)
    for name in ("best.safetensors", "last.safetensors", "log.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def two_sizes() -> list[Samples]:
    return [bright_squares(3), bright_squares(2, side=96)]


def test_several_sizes_are_trained_each_step_on_one(tmp_path: Path) -> None:
    network = fresh()
    shapes: list[tuple[int, ...]] = []
    network.register_forward_pre_hook(
        lambda _, given: shapes.append(tuple(given[0].shape)) if network.training else None
    )
    recipe = replace(RECIPE, epochs=4)

    trained = train(network, two_sizes(), held_out(), recipe, tmp_path)

    # an epoch: two steps of the three at 64x64, one of the two at 96x96
    sides = [shape[-1] for shape in shapes]
    assert all(shape == (2, FRAMES, 1, shape[-1], shape[-1]) for shape in shapes)
    assert [sorted(sides[at : at + 3]) for at in range(0, 12, 3)] == [[64, 64, 96]] * 4
    assert sides != [64, 64, 96] * 4
    assert [row["epoch"] for row in rows(tmp_path)] == [str(n) for n in (1, 2, 3, 4) for _ in "abc"]
    assert weights(load_checkpoint(tmp_path / "last.safetensors")) == weights(network)
    assert trained.checkpoint == tmp_path / "best.safetensors"


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("killed_at", [1, 2, 3, 4, 5])
def test_a_run_on_two_sizes_resumes_bit_for_bit(
    tmp_path: Path, killed_at: int, precision: str
) -> None:
    recipe = replace(RECIPE, precision=precision)
    whole = fresh()
    train(whole, two_sizes(), held_out(), recipe, tmp_path / "whole")

    with pytest.raises(Killed):
        train(
            fresh(), two_sizes(), held_out(), recipe, tmp_path / "run", on_step=kill_at(killed_at)
        )
    resumed = fresh()
    torch.manual_seed(5)
    train(resumed, two_sizes(), held_out(), recipe, tmp_path / "run", resume=True)

    assert weights(resumed) == weights(whole)
    for name in ("best.safetensors", "last.safetensors", "log.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("change", ["fewer", "swapped"])
def test_a_run_resumes_on_the_sizes_that_it_began_with(tmp_path: Path, change: str) -> None:
    train(fresh(), two_sizes(), [], RECIPE, tmp_path)
    others = two_sizes()[:1] if change == "fewer" else two_sizes()[::-1]

    with pytest.raises(UsageError, match="the run began with another set of samples"):
        train(fresh(), others, [], RECIPE, tmp_path, resume=True)


def test_a_finished_run_resumes_to_nothing(tmp_path: Path, samples: list[Samples]) -> None:
    first = train(fresh(), samples, held_out(), RECIPE, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    again = train(fresh(), samples, held_out(), RECIPE, tmp_path, resume=True, on_step=kill_at(1))

    assert again == first
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "says"), [("recipe", "another recipe"), ("samples", "another set of samples")]
)
def test_a_run_resumes_on_what_it_began_with(
    tmp_path: Path, samples: list[Samples], change: str, says: str
) -> None:
    train(fresh(), samples, [], RECIPE, tmp_path)
    recipe = replace(RECIPE, learning_rate=0.5) if change == "recipe" else RECIPE
    data = [bright_squares(4)] if change == "samples" else samples

    with pytest.raises(UsageError, match=rf"state\.pt: the run began with {says}"):
        train(fresh(), data, [], recipe, tmp_path, resume=True)


def test_a_run_resumes_on_the_clips_it_was_chosen_by(
    tmp_path: Path, samples: list[Samples]
) -> None:
    """The best DSC so far would be compared with that of other clips, or of other labels."""
    train(fresh(), samples, held_out(), RECIPE, tmp_path)
    (clip,) = held_out()
    assert clip.truth is not None
    relabelled = [replace(clip, truth=~clip.truth)]

    with pytest.raises(UsageError, match="began with another set of validation clips"):
        train(fresh(), samples, relabelled, RECIPE, tmp_path, resume=True)


@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"PK\x03\x04"])
def test_a_state_that_cannot_be_read_is_said(
    tmp_path: Path, samples: list[Samples], content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "state.pt").write_bytes(content)

    says = "there is no run" if content is None else "cannot be read .* in another folder"
    with pytest.raises(CheckpointError, match=rf"state\.pt: .*{says}"):
        train(fresh(), samples, [], RECIPE, tmp_path, resume=True)


def test_it_learns(tmp_path: Path, samples: list[Samples]) -> None:
    seen: list[Progress] = []
    recipe = replace(
        RECIPE,
        epochs=15,
        save_every=100,
        learning_rate=0.01,
        augmentation=Augmentation(0, 0, 0, 0, 0),
    )

    train(fresh(), samples, [], recipe, tmp_path, on_step=seen.append)

    early, late = seen[:5], seen[-5:]
    assert sum(p.loss for p in late) < 0.5 * sum(p.loss for p in early)


def test_an_end_without_a_label_does_not_matter(tmp_path: Path, samples: list[Samples]) -> None:
    """Whatever stands where no label is, the weights are the same."""
    labelled = np.array([[True, False]] * 3)
    made = []
    for number in range(2):
        truth = samples[0].truth.copy()
        truth[:, 1] = bool(number)
        network = fresh()
        train(
            network, [replace(samples[0], truth=truth, labelled=labelled)], [], RECIPE,
            tmp_path / str(number),
        )  # fmt: skip
        made.append(weights(network))

    assert made[0] == made[1]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, samples: list[Samples]) -> None:
    train(fresh(), samples, [], RECIPE, tmp_path)
    good = (tmp_path / "last.safetensors").read_bytes()
    broken = fresh()
    with torch.no_grad():
        broken.kss.pos_embed.fill_(float("nan"))
    before = weights(broken)

    with pytest.raises(UnusableInput, match=r"the loss is nan at step 1\. Lower the"):
        train(broken, samples, [], RECIPE, tmp_path)

    assert (tmp_path / "last.safetensors").read_bytes() == good
    parameters = {name for name, _ in broken.named_parameters()}
    after = weights(broken)
    assert {n: after[n] for n in parameters} == {n: before[n] for n in parameters}


def files(folder: Path) -> Bytes:
    """All but the log, which grows at every step."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "log.csv"}


def test_a_loss_that_turns_nan_costs_no_checkpoint(tmp_path: Path, samples: list[Samples]) -> None:
    """The weights are spoilt in the second epoch: the files are the first epoch's, and load."""
    network = fresh()
    kept: list[Bytes] = []

    def spoil_in_the_second_epoch(progress: Progress) -> None:
        if progress.step == 3:
            kept.append(files(tmp_path))
            with torch.no_grad():
                network.kss.pos_embed.fill_(float("nan"))

    recipe = replace(RECIPE, save_every=100)
    with pytest.raises(UnusableInput, match="the loss is nan at step 4"):
        train(network, samples, held_out(), recipe, tmp_path, on_step=spoil_in_the_second_epoch)

    assert kept == [files(tmp_path)]
    for name in ("best.safetensors", "last.safetensors"):
        load_checkpoint(tmp_path / name)
    resumed, whole = fresh(), fresh()
    train(resumed, samples, held_out(), recipe, tmp_path, resume=True)
    train(whole, samples, held_out(), recipe, tmp_path / "whole")
    assert weights(resumed) == weights(whole)


@pytest.mark.parametrize("save_every", [1, 100])
def test_weights_that_are_not_finite_are_never_written(
    tmp_path: Path, samples: list[Samples], save_every: int
) -> None:
    """A finite loss may have a gradient that is not."""
    train(fresh(), samples, held_out(), RECIPE, tmp_path)
    before = files(tmp_path)
    network = fresh()
    network.kss.pos_embed.register_hook(lambda gradient: gradient * float("inf"))
    recipe = replace(RECIPE, batch=3, save_every=save_every)  # one step an epoch

    with pytest.raises(UnusableInput, match=r"is not finite after step 1\. Lower the"):
        train(network, samples, held_out(), recipe, tmp_path)

    assert files(tmp_path) == before


TORCHRUN = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_loop as here
from pkecho_edge.training.loop import train
from pkecho_edge.training.processes import joined_processes

with joined_processes("cpu") as processes:
    network = here.fresh()
    losses = []
    recipe = here.replace(here.RECIPE, precision="bf16")  # whose gradients lie otherwise in memory
    train(network, [here.bright_squares(4)], here.held_out(), recipe, Path(sys.argv[1]),
          processes=processes, on_step=lambda p: losses.append(p.loss))
    out = Path(sys.argv[1]).with_name(f"rank-{{processes.rank}}.json")
    total = {{n: float(t.detach().double().sum()) for n, t in network.named_parameters()}}
    out.write_text(json.dumps([losses, total]))
"""


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(TORCHRUN.format(tests=str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
         "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", script, tmp_path / "run"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "strides" not in done.stderr

    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1]
    assert [float(row["loss"]) for row in rows(tmp_path / "run")] == pytest.approx(
        ranks[0][0], rel=1e-4
    )
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")


def test_a_batch_too_small_for_the_processes_is_refused() -> None:
    from pkecho_edge.training.processes import Processes

    several = Processes(rank=1, count=4, device=torch.device("cpu"))

    assert several.share([10, 11, 12, 13, 14]) == [11]
    with pytest.raises(UsageError, match="a batch of 3 for 4 processes"):
        several.share([1, 2, 3])
