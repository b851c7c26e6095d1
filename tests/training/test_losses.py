"""Dice on masks whose overlap is known on paper."""

from __future__ import annotations

import pytest
import torch

from pkecho_edge.training.losses import deep_dice_loss, dice_loss

CERTAIN = 50.0


def masks(*areas: tuple[int, int]) -> torch.Tensor:
    """One frame of 8x8 pixels per (first, last) pair: pixels first to last - 1 are 1."""
    frames = torch.zeros(len(areas), 64)
    for frame, (first, last) in zip(frames, areas, strict=True):
        frame[first:last] = 1
    return frames.view(1, len(areas), 1, 8, 8)


def logits(truth: torch.Tensor) -> torch.Tensor:
    return (truth * 2 - 1) * CERTAIN


@pytest.mark.parametrize("area", [(0, 20), (0, 64), (0, 0)])
def test_a_perfect_or_rightly_empty_prediction_costs_nothing(area: tuple[int, int]) -> None:
    truth = masks(area)

    assert dice_loss(logits(truth), truth) == pytest.approx(0, abs=1e-6)


def test_disjoint_masks_cost_almost_one() -> None:
    loss = dice_loss(logits(masks((0, 20))), masks((30, 60)))

    assert loss == pytest.approx(1 - 1 / (20 + 30 + 1))


def test_a_wrongly_empty_prediction_costs_almost_one() -> None:
    assert dice_loss(logits(masks((0, 0))), masks((0, 20))) == pytest.approx(1 - 1 / 21)


def test_half_overlap() -> None:
    loss = dice_loss(logits(masks((0, 20))), masks((10, 30)))

    assert loss == pytest.approx(1 - (2 * 10 + 1) / (20 + 20 + 1))


def test_undecided_pixels_count_with_their_probability() -> None:
    loss = dice_loss(torch.zeros(1, 1, 1, 8, 8), masks((0, 16)))

    assert loss == pytest.approx(1 - (2 * 0.5 * 16 + 1) / (0.25 * 64 + 16 + 1))


def test_every_frame_weighs_the_same() -> None:
    truth, guess = masks((0, 60), (0, 2)), masks((0, 60), (10, 12))

    assert dice_loss(logits(guess), truth) == pytest.approx((0 + 1 - 1 / 5) / 2, abs=1e-6)


def test_the_deep_loss_sums_over_refinements() -> None:
    truth = masks((0, 20))
    disjoint = logits(masks((30, 60)))

    loss = deep_dice_loss([logits(truth), disjoint, disjoint], truth)

    assert loss == pytest.approx(2 * (1 - 1 / 51))


def test_the_gradient_is_finite_where_all_is_empty() -> None:
    guess = torch.full((1, 1, 1, 8, 8), -CERTAIN, requires_grad=True)

    dice_loss(guess, masks((0, 0))).backward()

    assert guess.grad is not None
    assert guess.grad.isfinite().all()
