"""Lessons are what deployment would see: each clip by itself, every frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.model.region_proxy import upsample_with_affinity
from pkecho_edge.training.lessons import answers_of, read_lessons, rising_sizes, teach

FRAMES = 3


def network() -> PKEchoNet:
    torch.manual_seed(11)
    inner = (((8,), (8,)), ((8,), (8,)), ((8,), (8,)), ((8,), (8,)))
    return PKEchoNet(NetworkConfig(frames=FRAMES, widths=Widths(8, (8, 8, 8, 8), inner))).eval()


def clips(count: int, *, labelled: bool = False) -> list[Clip]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        frames = rng.integers(0, 255, (FRAMES, 1, 64, 96), dtype=np.uint8)
        truth = frames[:, 0] > 128 if labelled else None
        marks = (True,) + (False,) * (FRAMES - 1) if labelled else (False,) * FRAMES
        found.append(
            Clip(str(number), str(number), str(number), "t", frames, (0, 1, 2), truth, marks)
        )
    return found


def test_answers_in_a_batch_are_those_of_each_clip_alone() -> None:
    taught = network()
    both = torch.rand(2, FRAMES, 1, 64, 96)

    with torch.no_grad():
        found = answers_of(taught, both)
        alone = [taught(clip[None])[-1] for clip in both]

    assert torch.allclose(found.logits, torch.cat(alone), atol=1e-4)
    assert found.coarse.shape == (4, 2, FRAMES, 2, 3)
    assert found.features.shape == (2, FRAMES, 32, 2, 3)


def test_only_the_frames_that_are_shown_are_brought_to_size() -> None:
    taught = network()
    both = torch.rand(2, FRAMES, 1, 64, 96)
    shown = torch.tensor([2, 0])

    with torch.no_grad():
        some, whole = answers_of(taught, both, shown), answers_of(taught, both)

    assert torch.allclose(some.logits, whole.logits[:, shown], atol=1e-5)
    assert torch.equal(some.coarse, whole.coarse)


def test_masks_on_their_way_up_lead_to_the_answer(tmp_path: Path) -> None:
    taught, shown = network(), clips(2)

    lessons = teach(taught, shown, tmp_path)
    sizes = rising_sizes(taught, (2, 3))

    assert sizes == [(4, 6), (8, 12), (16, 24)]
    assert lessons.rising.shape == (2, FRAMES, sum(h * w for h, w in sizes))
    with torch.no_grad():
        said = answers_of(taught, torch.from_numpy(shown[1].frames)[None].float() / 255)
        last = torch.from_numpy(np.array(lessons.rising[1, :, -16 * 24 :])).float()
        final = upsample_with_affinity(last.view(FRAMES, 1, 16, 24), said.affinities[-1])
    assert torch.allclose(final, said.logits[0], atol=0.01)


def test_a_network_without_estimators_has_no_masks_on_their_way(tmp_path: Path) -> None:
    config = replace(network().config, region_proxies="none")

    lessons = teach(PKEchoNet(config), clips(1), tmp_path)

    assert lessons.rising.shape == (1, FRAMES, 0)


def test_lessons_hold_what_the_teacher_says_and_the_truth(tmp_path: Path) -> None:
    taught, shown = network(), clips(3, labelled=True)

    lessons = teach(taught, iter(shown), tmp_path)
    again = read_lessons(tmp_path)

    with torch.no_grad():
        said = taught(torch.from_numpy(shown[1].frames)[None].float() / 255)[-1][0].sigmoid()
    assert np.abs(again.answers[1] / 255 - said.numpy()).max() <= 0.5 / 255 + 1e-6
    truth = np.unpackbits(np.asarray(again.truth[2]), axis=-1)[:, 0]
    assert np.array_equal(truth, shown[2].truth)
    assert again.labelled.tolist() == [[True, False, False]] * 3
    assert (len(again), again.size) == (3, (64, 96))
    assert again.sha256() == lessons.sha256()


def test_another_answer_is_another_set(tmp_path: Path) -> None:
    taught = network()
    first = teach(taught, clips(2), tmp_path / "first")
    taught.kss.predictor_conv2.bias.data += 3

    assert teach(taught, clips(2), tmp_path / "second").sha256() != first.sha256()


def test_doubt_is_highest_where_the_teacher_cannot_decide(tmp_path: Path) -> None:
    lessons = teach(network(), clips(3), tmp_path)
    answers = np.zeros_like(lessons.answers)
    answers[:, :, :, :32] = 255
    answers[1, :, :, 28:36] = 128  # an edge that might be anywhere
    answers[2] = 0

    sure, unsure, empty = replace(lessons, answers=answers).doubt()

    assert sure == empty == pytest.approx(1e-3)
    assert unsure == pytest.approx(8 / (28 + 8 * 128 / 255), rel=1e-3)


def test_a_sample_is_spread_over_all(tmp_path: Path) -> None:
    lessons = teach(network(), clips(5), tmp_path)

    assert len(lessons.sample(2)) == 2
    assert np.array_equal(lessons.sample(2).frames, lessons.frames[[0, 4]])
    assert len(lessons.sample(50)) == 5


def test_without_a_clip_there_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="nothing to learn from"):
        teach(network(), [], tmp_path)


def test_a_teacher_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    broken = network()
    broken.kss.predictor_conv1[0].weight.data[0] = float("nan")

    with pytest.raises(UnusableInput, match="not finite"):
        teach(broken, clips(1), tmp_path)
