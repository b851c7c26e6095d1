"""Distillation on clips of 64x64 pixels: it learns, resumes, keeps the best and ends in time."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pkecho_edge import recovering
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput, UsageError
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.training import distillation
from pkecho_edge.training.augmentation import Augmentation
from pkecho_edge.training.distillation import (
    DistillationRecipe,
    LessonStep,
    agreement,
    distil,
)
from pkecho_edge.training.lessons import Lessons, answers_of, rising_masks, teach

FRAMES = 2
STILL = Augmentation(flip=0, reversal=0, brightness=0, contrast=0, rotation_degrees=0)
QUICK = DistillationRecipe(
    steps=12, pixels=4 * FRAMES * 64 * 64, frames=2, check_every=4, precision="f32", patience=0
)


@pytest.fixture(autouse=True)
def few_settling_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "_SETTLING_BATCHES", 6)


def fresh(seed: int = 0, width: int = 8) -> PKEchoNet:
    torch.manual_seed(seed)
    inner = (((width,), (width,)),) * 4
    config = NetworkConfig(frames=FRAMES, widths=Widths(width, (width,) * 4, inner))
    return PKEchoNet(config).eval()


def squares(count: int, seed: int = 0) -> list[Clip]:
    """Bright squares on noise."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        mask = np.zeros((FRAMES, 64, 64), dtype=np.bool_)
        left, top = rng.integers(4, 24, 2)
        mask[:, top : top + 30, left : left + 30] = True
        noise = rng.integers(0, 90, (FRAMES, 64, 64), dtype=np.uint8)
        frames = (noise + 120 * mask).astype(np.uint8)[:, None]
        found.append(
            Clip(str(number), str(number), str(number), "t", frames, (0, 1), mask, (True, True))
        )
    return found


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Lessons:
    """What a teacher would say that knows the squares: its answers are the truth."""
    return known(squares(12), tmp_path_factory.mktemp("lessons"))


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Lessons:
    return known(squares(4, seed=9), tmp_path_factory.mktemp("held"))


def known(clips: list[Clip], folder: Path) -> Lessons:
    taught = teach(fresh(7), clips, folder)
    answers = np.stack([clip.truth for clip in clips])[:, :, None].astype(np.uint8) * 255
    coarse = answers.reshape(len(clips), FRAMES, 2, 32, 2, 32).mean((3, 5)) / 255 * 8 - 4
    coarse = np.repeat(coarse[:, None], taught.coarse.shape[1], axis=1).astype(np.float16)
    return replace(taught, answers=answers, coarse=coarse)


def test_it_learns_what_the_teacher_says(lessons: Lessons, held: Lessons, tmp_path: Path) -> None:
    recipe = replace(
        QUICK, steps=60, check_every=20, learning_rate=2e-2, feature_weight=0, augmentation=STILL
    )

    learned = distil(fresh(), [lessons], [held], recipe, tmp_path)

    assert learned.before < 40
    assert learned.agreement > 55
    assert learned.agreement == pytest.approx(agreement(learned.network, [held]), abs=1e-9)
    assert (learned.steps, learned.diverged) == (60, False)


def test_a_killed_run_goes_on_bit_for_bit(
    lessons: Lessons, held: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what these few steps teach may come and go from look to look, by the machine's rounding
    monkeypatch.setattr(distillation, "_DIVERGED", float("inf"))

    class Killed(Exception):
        pass

    def kill(step: LessonStep) -> None:
        if step.step == 10:  # two steps after the last state
            raise Killed

    whole = distil(fresh(), [lessons], [held], QUICK, tmp_path / "whole")
    with pytest.raises(Killed):
        distil(fresh(), [lessons], [held], QUICK, tmp_path / "killed", on_step=kill)
    taken: list[int] = []
    rest = distil(
        fresh(),
        [lessons],
        [held],
        QUICK,
        tmp_path / "killed",
        on_step=lambda step: taken.append(step.step),
    )

    assert taken == [9, 10, 11, 12]
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, rest.network.state_dict()[name]), name
    assert (rest.agreement, rest.before) == (whole.agreement, whole.before)


def test_other_lessons_do_not_go_on_with_a_run(
    lessons: Lessons, held: Lessons, tmp_path: Path
) -> None:
    distil(fresh(), [lessons], [held], QUICK, tmp_path)

    with pytest.raises(UsageError, match="another set of lessons"):
        distil(fresh(), [held], [held], QUICK, tmp_path)


def test_the_best_network_is_kept_not_the_last(
    lessons: Lessons, held: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([50.0, 70.0, 60.0, 55.0])
    monkeypatch.setattr(distillation, "agreement", lambda *_: next(looks))

    learned = distil(fresh(), [lessons], [held], QUICK, tmp_path)

    assert learned.agreement == 70.0
    last = torch.load(tmp_path / "state.pt", weights_only=True)["network"]
    kept = learned.network.state_dict()
    assert not all(torch.equal(kept[name], tensor) for name, tensor in last.items())


def test_patience_ends_a_run_that_no_longer_improves(
    lessons: Lessons, held: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "agreement", lambda *_: 50.0)
    recipe = replace(QUICK, steps=20, settle=0.5, check_every=1, patience=0.3)

    assert distil(fresh(), [lessons], [held], recipe, tmp_path).steps == 13  # three of ten


def test_the_default_patience_can_end_a_short_run() -> None:
    """Of a recovery's last round there are few looks; they must be enough to tell."""
    recipe = DistillationRecipe()
    last = math.floor(recipe.steps * recovering._LAST_SHARE)
    settled = last - math.floor(last * recipe.settle)
    assert 2 * recipe.check_every < recipe.patience * settled + recipe.check_every < settled


def test_a_network_that_answers_nothing_any_more_has_diverged(
    lessons: Lessons, held: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are finite, but every mask is empty."""
    looks = iter([50.0, 70.0, 0.0, 0.0])
    monkeypatch.setattr(distillation, "agreement", lambda *_: next(looks))

    learned = distil(fresh(), [lessons], [held], QUICK, tmp_path)

    assert (learned.diverged, learned.agreement, learned.steps) == (True, 70.0, 8)


def test_a_run_that_falls_apart_gives_back_the_best(
    lessons: Lessons, held: Lessons, tmp_path: Path
) -> None:
    start = fresh()
    weights = {name: tensor.clone() for name, tensor in start.state_dict().items()}

    learned = distil(start, [lessons], [held], replace(QUICK, learning_rate=1e30), tmp_path)

    assert learned.diverged
    assert learned.agreement >= learned.before
    assert all(bool(torch.isfinite(t).all()) for t in learned.network.state_dict().values())
    if learned.agreement == learned.before:
        assert torch.equal(learned.network.state_dict()["kss.bias.0"], weights["kss.bias.0"])


def test_settled_statistics_are_those_of_many_batches(
    lessons: Lessons, held: Lessons, tmp_path: Path
) -> None:
    """After settling nothing moves them, and they are near what all lessons together have."""
    recipe = replace(
        QUICK, steps=8, settle=0.5, learning_rate=1e-12, check_every=8, augmentation=STILL
    )
    student = fresh()
    student.encoder_layer0[1].running_mean += 100  # of another world

    distil(student, [lessons], [held], recipe, tmp_path)

    clips = torch.from_numpy(np.array(lessons.frames)).float() / 255
    with torch.no_grad():
        seen = student.encoder_layer0[0](clips.flatten(0, 1)).mean((0, 2, 3))
    assert torch.allclose(student.encoder_layer0[1].running_mean, seen, atol=0.05)


def test_without_settling_statistics_stay_what_they_were(
    lessons: Lessons, held: Lessons, tmp_path: Path
) -> None:
    """Of a network that was refitted they are those that it works with."""
    student = fresh()
    before = {name: t.clone() for name, t in student.state_dict().items() if "running" in name}

    distil(student, [lessons], [held], replace(QUICK, steps=4, settle=0.0), tmp_path)

    after = student.state_dict()
    assert before
    assert all(torch.equal(after[name], t) for name, t in before.items())


def test_once_settled_lessons_are_shown_as_they_were_taught(
    lessons: Lessons, held: Lessons
) -> None:
    recipe = replace(QUICK, steps=8, settle=0.5)
    run = distillation._Run(fresh(), [lessons], [held], recipe, torch.device("cpu"))
    frames = torch.from_numpy(np.array(lessons.frames)).float() / 255

    def is_known(number: int) -> bool:
        shown = run._batch(number)
        at = [int((frames - clip).abs().amax((1, 2, 3, 4)).argmin()) for clip in shown.clips]
        same = torch.allclose(frames[at], shown.clips, atol=1e-4)
        answers = torch.from_numpy(np.array(lessons.answers[at])).float()[:, shown.shown] / 255
        return same and torch.allclose(answers, shown.teacher.logits, atol=1e-4)

    assert [is_known(number) for number in (0, 1, 2, 3)] == [False] * 4
    assert [is_known(number) for number in (4, 5, 6, 7, -1)] == [True] * 5


def test_doubtful_lessons_are_shown_more_often(lessons: Lessons, held: Lessons) -> None:
    """Of twelve lessons two are doubtful, and a step shows two."""
    doubtful = np.array(lessons.answers)
    doubtful[3] = doubtful[7] = 128
    unlike = replace(lessons, answers=doubtful)

    def shown(power: float) -> list[bool]:
        recipe = replace(QUICK, steps=400, settle=0.01, doubt_power=power)
        recipe = replace(recipe, pixels=2 * FRAMES * 64 * 64)
        run = distillation._Run(fresh(), [unlike], [held], recipe, torch.device("cpu"))
        answers = [run._batch(number).teacher.logits for number in range(5, 105)]
        return [bool(((x > 0.4) & (x < 0.6)).all()) for each in answers for x in each]

    assert np.mean(shown(0)) == pytest.approx(2 / 12, abs=0.08)
    assert np.mean(shown(2)) > 0.95


def test_the_loss_of_the_teachers_own_answers_is_next_to_nothing(held: Lessons) -> None:
    """Pixel, overlap, area, grid and feature terms vanish together, and only there."""
    teacher = fresh(7)
    clips = torch.from_numpy(np.array(held.frames)).float() / 255
    with torch.no_grad():
        said = answers_of(teacher, clips)
    soft = said.logits.sigmoid()

    assert float(distillation._pixel_loss(said.logits, soft)) == pytest.approx(0, abs=2e-3)
    assert float(distillation._area_loss(said.logits, soft)) == pytest.approx(0, abs=1e-6)
    assert float(distillation._pixel_loss(said.logits + 1, soft)) > 0.05
    assert float(distillation._area_loss(said.logits + 1, soft)) > 0.02


def test_a_step_that_goes_astray_is_told_from_those_that_do_not(held: Lessons) -> None:
    """Each estimator is shown the teacher's own mask below, whatever the others make of theirs."""
    teacher = fresh(7)
    clips = torch.from_numpy(np.array(held.frames)).float() / 255
    with torch.no_grad():
        said = answers_of(teacher, clips)
    below = said.coarse[-1].flatten(0, 1)[:, None]
    masks = [below, *rising_masks(below, said.affinities)]

    def loss(astray: int | None) -> float:
        given = list(said.affinities)
        if astray is not None:
            given[astray] = given[astray].flip(1)
        return float(distillation._rising_loss(masks, given))

    count = len(said.affinities)
    assert count == 4
    assert len(masks) == count
    assert loss(None) == pytest.approx(0, abs=1e-3)
    alone = [loss(step) - loss(None) for step in range(count)]
    assert min(alone[:-1]) > 1e-3
    assert alone[-1] == 0  # the finest is left to the final mask
    both = list(said.affinities)
    both[0], both[2] = both[0].flip(1), both[2].flip(1)
    together = float(distillation._rising_loss(masks, both)) - loss(None)
    assert together == pytest.approx(alone[0] + alone[2], rel=1e-3)


def test_an_area_counts_the_same_wherever_it_is_missing() -> None:
    teacher = torch.zeros(1, 1, 1, 32, 32)
    teacher[..., 8:24, 8:24] = 1
    smaller = torch.where(teacher > 0, 20.0, -20.0)
    smaller[..., 8:10, :] = -20.0  # an eighth

    found = float(distillation._area_loss(smaller, teacher))

    assert found == pytest.approx(1 / 8 - 0.01, abs=1e-3)  # half of beta below the absolute value


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"learning_rate": float("nan")},
        {"truth_weight": -1},
        {"rising_weight": float("inf")},
        {"doubt_power": -1},
        {"settle": -0.1},
        {"precision": "f16"},
    ],
)
def test_a_recipe_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(QUICK, **change)


def test_without_lessons_or_held_ones_it_is_refused(lessons: Lessons, tmp_path: Path) -> None:
    for given in (([], [lessons]), ([lessons], [])):
        with pytest.raises(UnusableInput, match="nothing to"):
            distil(fresh(), *given, QUICK, tmp_path)
