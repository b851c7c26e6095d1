"""Rounds of pruning and recovery, and what a pruned checkpoint says of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CheckpointError, UsageError
from pkecho_edge.model.checkpoint import save_checkpoint
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet, count_gmacs
from pkecho_edge.pruning.channels import channel_importance
from pkecho_edge.pruning.choose import choose_widths
from pkecho_edge.pruning.reconstruction import reader_counts
from pkecho_edge.recovering import (
    AFTER_REFIT,
    PruningOrder,
    read_report,
    recipe_of,
    recover,
    round_ratios,
)
from pkecho_edge.stages import SilentObserver
from pkecho_edge.training import distillation
from pkecho_edge.training.distillation import DistillationRecipe, agreement
from pkecho_edge.training.lessons import Lessons, teach

SIZE = (96, 96)
RANKED = ("rank channels", None, 0)
REFITTED = ("refit", 29, 29)
"""A convolution each, with the projections of layers 1 to 4: no two stages are equally wide."""


@pytest.fixture(autouse=True)
def _settled_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "_SETTLING_BATCHES", 6)


def network() -> PKEchoNet:
    torch.manual_seed(0)
    inner = (((32,), (32,)), ((32,), (32,)), ((48,), (48,)), ((64,), (64,)))
    widths = Widths(24, (24, 32, 48, 64), inner)
    return PKEchoNet(NetworkConfig(frames=3, widths=widths)).eval()


def taught(teacher: PKEchoNet, folder: Path, count: int) -> Lessons:
    rng = np.random.default_rng(count)
    clips = []
    for number in range(count):
        frames = rng.integers(0, 255, (3, 1, *SIZE), dtype=np.uint8)
        name = str(number)
        clips.append(Clip(name, name, name, "t", frames, (0, 1, 2), None, (False,) * 3))
    return teach(teacher, clips, folder)


class Heard:
    """An observer that notes each stage, its total, and how far it came; it may interrupt."""

    def __init__(self, dies_after: int | None = None, within: str = "") -> None:
        self.stages: list[tuple[str, int | None, int]] = []
        self._left, self._within = dies_after, within

    def start(self, stage: str, total: int | None) -> None:
        self.stages.append((stage, total, 0))

    def advance(self) -> None:
        stage, total, done = self.stages[-1]
        self.stages[-1] = (stage, total, done + 1)
        if self._left == done + 1 and stage == self._within:
            raise KeyboardInterrupt

    def describe(self, text: str) -> None: ...

    def done(self, note: str) -> None: ...


@pytest.mark.parametrize(
    ("ratio", "rounds", "expected"),
    [
        (0.5, None, (0.5,)),
        (0.75, None, (0.5, 0.75)),
        (0.875, None, (0.5, 0.75, 0.875)),
        (0.75, 1, (0.75,)),
    ],
)
def test_every_round_cuts_the_same_share(
    ratio: float, rounds: int | None, expected: tuple[float, ...]
) -> None:
    assert round_ratios(ratio, rounds) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ratio", "steps", "refit", "expected"),
    [
        (0.85, None, True, None),
        (0.86, None, True, AFTER_REFIT),
        (0.5, None, False, DistillationRecipe()),
        (0.9, 0, True, None),
        (0.5, 30, True, replace(AFTER_REFIT, steps=30)),
    ],
)
def test_little_that_was_cut_is_refitted_alone(
    ratio: float, steps: int | None, refit: bool, expected: DistillationRecipe | None
) -> None:
    assert recipe_of(ratio, steps, refit) == expected


def test_fewer_steps_than_none_are_refused() -> None:
    with pytest.raises(UsageError, match="-1 steps"):
        recipe_of(0.5, -1)


def test_pruning_alone_takes_one_round_and_keeps_the_budget(tmp_path: Path) -> None:
    whole = network()

    pruned, rounds = recover(
        whole,
        [],
        [],
        PruningOrder(0.6, importance="magnitude", recipe=None, refit=False),
        SIZE,
        tmp_path,
        observer=SilentObserver(),
    )

    assert len(rounds) == 1
    assert rounds[0].agreement_before is None
    assert rounds[0].agreement is None
    assert count_gmacs(pruned, SIZE) == pytest.approx(rounds[0].gmacs)
    assert rounds[0].gmacs <= 0.4 * count_gmacs(whole, SIZE)
    assert list(tmp_path.iterdir()) == []


def test_two_rounds_learn_in_between_and_go_on_where_they_were(tmp_path: Path) -> None:
    whole = network()
    lessons = taught(whole, tmp_path / "train", 6)
    held = taught(whole, tmp_path / "held", 2)
    recipe = DistillationRecipe(steps=20, pixels=SIZE[0] * SIZE[1] * 20, check_every=3, patience=0)
    order = PruningOrder(0.7, recipe=recipe)
    heard = Heard()

    pruned, rounds = recover(
        whole, [lessons], [held], order, SIZE, tmp_path / "state", observer=heard
    )

    assert [each.steps for each in rounds] == [3, 17]
    assert rounds[0].gmacs > rounds[1].gmacs == pytest.approx(count_gmacs(pruned, SIZE))
    assert rounds[1].gmacs <= 0.3 * count_gmacs(whole, SIZE)
    learned = [("recover, 1 of 2", 3, 3), ("recover, 2 of 2", 17, 17)]
    assert heard.stages == [RANKED, REFITTED, learned[0], RANKED, REFITTED, learned[1]]
    # the same again goes on from what was kept, and its bars fill all the same
    again = Heard()
    same, rounds_again = recover(
        whole, [lessons], [held], order, SIZE, tmp_path / "state", observer=again
    )
    assert [each.steps for each in rounds_again] == [3, 17]
    assert all(
        torch.equal(same.state_dict()[name], tensor) for name, tensor in pruned.state_dict().items()
    )


def test_a_killed_recovery_shows_the_steps_it_had_taken(tmp_path: Path) -> None:
    whole = network()
    lessons, held = taught(whole, tmp_path / "train", 4), taught(whole, tmp_path / "held", 2)
    recipe = DistillationRecipe(steps=9, pixels=SIZE[0] * SIZE[1] * 20, check_every=3, patience=0)
    order = PruningOrder(0.4, recipe=recipe)
    killed = Heard(dies_after=7, within="recover, 1 of 1")

    with pytest.raises(KeyboardInterrupt):
        recover(whole, [lessons], [held], order, SIZE, tmp_path / "state", observer=killed)
    after = Heard()
    recover(whole, [lessons], [held], order, SIZE, tmp_path / "state", observer=after)

    assert after.stages == [RANKED, REFITTED, ("recover, 1 of 1", 9, 9)]


@pytest.mark.parametrize("damage", ["other lessons", "no state"])
def test_a_state_that_does_not_fit_is_begun_anew(tmp_path: Path, damage: str) -> None:
    whole = network()
    held = taught(whole, tmp_path / "held", 2)
    recipe = DistillationRecipe(steps=4, pixels=SIZE[0] * SIZE[1] * 20, check_every=2)
    order = PruningOrder(0.4, recipe=recipe)
    lessons = taught(whole, tmp_path / "train", 4)
    recover(whole, [lessons], [held], order, SIZE, tmp_path / "state", observer=SilentObserver())
    if damage == "no state":
        (tmp_path / "state" / "round-1" / "state.pt").write_bytes(b"torn")
    else:
        lessons = taught(whole, tmp_path / "other", 5)

    heard = Heard()
    recover(whole, [lessons], [held], order, SIZE, tmp_path / "state", observer=heard)

    assert heard.stages == [RANKED, REFITTED, ("recover, 1 of 1", 4, 4)]


def test_what_is_refitted_begins_nearer_to_its_teacher(tmp_path: Path) -> None:
    whole = network()
    lessons, held = taught(whole, tmp_path / "train", 6), taught(whole, tmp_path / "held", 2)
    recipe = DistillationRecipe(steps=1, pixels=SIZE[0] * SIZE[1] * 20)
    found = {}
    for refit in (False, True):
        order, heard = PruningOrder(0.4, recipe=recipe, refit=refit), Heard()
        _, (only,) = recover(
            whole, [lessons], [held], order, SIZE, tmp_path / f"state-{refit}", observer=heard
        )
        found[refit] = (only.agreement_before, [stage for stage, *_ in heard.stages])

    assert found[False][1] == ["rank channels", "recover, 1 of 1"]
    assert found[True][1] == ["rank channels", "refit", "recover, 1 of 1"]
    assert found[True][0] > found[False][0]


def test_places_weigh_what_reads_them_where_worth_is_what_readers_are_told(tmp_path: Path) -> None:
    whole, lessons = network(), taught(network(), tmp_path / "train", 6)
    frames = [torch.from_numpy(each[::2].copy()).float() / 255 for each in lessons.frames]
    worth = channel_importance(whole, "reconstruction", frames=frames)
    expected = [
        dict(choose_widths(whole.config, worth, 0.4, SIZE, weight=weight).widths)
        for weight in (reader_counts(whole), None)
    ]
    assert expected[0] != expected[1]
    order = PruningOrder(0.4, recipe=None)

    _, (only,) = recover(
        whole, [lessons], [], order, SIZE, tmp_path / "state", observer=SilentObserver()
    )

    assert dict(only.widths) == expected[0]


def test_what_only_was_refitted_is_held_against_its_teacher(tmp_path: Path) -> None:
    whole = network()
    lessons, held = taught(whole, tmp_path / "train", 6), taught(whole, tmp_path / "held", 2)
    found = {}
    for refit in (False, True):
        order = PruningOrder(0.4, recipe=None, refit=refit)
        pruned, (only,) = recover(
            whole, [lessons], [held], order, SIZE, tmp_path / "state", observer=SilentObserver()
        )
        assert only.agreement is None
        assert only.agreement_before == pytest.approx(agreement(pruned, [held]))
        found[refit] = only.agreement_before

    assert found[True] > found[False]
    assert not (tmp_path / "state").exists()


def test_what_is_out_of_reach_is_said_before_anything_is_learned(tmp_path: Path) -> None:
    order = PruningOrder(0.9999)

    with pytest.raises(UsageError, match=r"ratio 0\.9999 is out of reach"):
        recover(network(), [], [], order, SIZE, tmp_path / "state", observer=SilentObserver())

    assert not (tmp_path / "state").exists()


def test_latency_without_times_is_refused(tmp_path: Path) -> None:
    order = PruningOrder(0.5, "latency", recipe=None)
    with pytest.raises(UsageError, match="needs times of layers"):
        recover(network(), [], [], order, SIZE, tmp_path, observer=SilentObserver())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ratio": 1.0}, "not between"),
        ({"scope": "x"}, "no scope 'x'"),
        ({"importance": "x"}, "no importance 'x'"),
        ({"round_to": 0}, "multiples of 0"),
        ({"rounds": 5}, "5 rounds"),
    ],
)
def test_an_order_that_cannot_be_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        PruningOrder(**({"ratio": 0.5} | wrong))  # type: ignore[arg-type]


def test_a_checkpoint_that_was_not_pruned_has_no_report(tmp_path: Path) -> None:
    save_checkpoint(network(), tmp_path / "a.safetensors", notes={"other": "note"})

    assert read_report(tmp_path / "a.safetensors") is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        f'{{"baseline_sha256": "{"0" * 64}", "parent_sha256": NaN}}',
        json.dumps({"baseline_sha256": "../" * 21 + "x", "parent_sha256": "0" * 64}),
    ],
)
def test_a_report_that_somebody_damaged_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(network(), path, notes={"pruning": text})

    with pytest.raises(CheckpointError, match="what it says of its pruning"):
        read_report(path)
