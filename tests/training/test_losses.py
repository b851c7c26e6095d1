"""Both losses on masks whose value is known on paper, and against their formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pkecho_edge.training.distance import signed_distance
from pkecho_edge.training.losses import boundary_loss, deep_loss, dice_loss

CERTAIN = 50.0


def masks(*areas: tuple[int, int]) -> torch.Tensor:
    """One frame of 8x8 pixels per (first, last) pair: pixels first to last - 1 are 1."""
    frames = torch.zeros(len(areas), 64)
    for frame, (first, last) in zip(frames, areas, strict=True):
        frame[first:last] = 1
    return frames.view(1, len(areas), 1, 8, 8)


def logits(truth: torch.Tensor) -> torch.Tensor:
    return (truth * 2 - 1) * CERTAIN


def distances(truth: torch.Tensor) -> torch.Tensor:
    """The signed distance maps of every frame."""
    maps = [signed_distance(mask) for mask in truth.view(-1, 8, 8).bool().numpy()]
    return torch.from_numpy(np.stack(maps)).view_as(truth)


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


def test_frames_without_a_label_do_not_count() -> None:
    truth, guess = masks((0, 20), (0, 0)), masks((0, 20), (0, 60))
    labelled = torch.tensor([[True, False]])

    assert dice_loss(logits(guess), truth, labelled) == pytest.approx(0, abs=1e-6)
    assert dice_loss(logits(guess), truth) > 0.4
    one = boundary_loss(logits(guess), distances(truth), labelled)
    assert one == pytest.approx(float(boundary_loss(logits(truth[:, :1]), distances(truth[:, :1]))))


def test_without_any_label_the_loss_is_zero_and_its_gradient_too() -> None:
    truth = masks((0, 20))
    guess = torch.zeros(1, 1, 1, 8, 8, requires_grad=True)

    loss = deep_loss([guess], truth, distances(truth), torch.tensor([[False]]))
    loss.backward()

    assert loss == 0
    assert guess.grad is not None
    assert not guess.grad.any()


def test_the_boundary_loss_is_lowest_for_the_truth() -> None:
    truth = masks((16, 40))  # three rows
    distance = distances(truth)

    right = boundary_loss(logits(truth), distance)
    larger = boundary_loss(logits(masks((8, 48))), distance)
    smaller = boundary_loss(logits(masks((24, 32))), distance)

    # the middle row is 1 pixel from the outside, less 1 for its own: -1 on eight of 64 pixels; the
    # side is 8 pixels
    assert right == pytest.approx(-8 / 64 / 8)
    assert larger == pytest.approx((-8 / 64 + 2 * 8 / 64) / 8)
    assert smaller == pytest.approx(-8 / 64 / 8)  # its boundary rows cost nothing either way
    assert boundary_loss(logits(masks((0, 64))), distance) > larger


def test_the_deep_loss_sums_both_over_refinements() -> None:
    truth = masks((0, 20))
    disjoint = logits(masks((30, 60)))
    distance = distances(truth)

    both = deep_loss([logits(truth), disjoint, disjoint], truth, distance)
    dice_only = deep_loss([logits(truth), disjoint], truth, distance, boundary_weight=0)
    half = deep_loss([disjoint], truth, distance, boundary_weight=0.5)

    boundary = float(boundary_loss(disjoint, distance))
    expected = 2 * (1 - 1 / 51) + 2 * boundary + float(boundary_loss(logits(truth), distance))
    assert both == pytest.approx(expected)
    assert dice_only == pytest.approx(1 - 1 / 51)
    assert half == pytest.approx(1 - 1 / 51 + 0.5 * boundary)


def test_the_gradient_is_finite_where_all_is_empty() -> None:
    guess = torch.full((1, 1, 1, 8, 8), -CERTAIN, requires_grad=True)

    dice_loss(guess, masks((0, 0))).backward()

    assert guess.grad is not None
    assert guess.grad.isfinite().all()


# Signed distance


def test_the_distance_of_a_disc_is_known_everywhere() -> None:
    rows, columns = np.indices((65, 65))
    radius = np.hypot(rows - 32, columns - 32)

    distance = signed_distance(radius <= 20)

    # to the centre of the nearest pixel of the disc, resp. the disc's outermost pixels: half a
    # pixel's diagonal of rounding either way
    assert np.abs(distance - (radius - 20)).max() < 1.0
    assert distance[32, 32] == pytest.approx(1 - np.hypot(20, 1))
    assert distance[32, 52] == 0
    assert distance[32, 53] == 1


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_without_a_boundary_is_zero_throughout(value: bool) -> None:
    assert not signed_distance(np.full((5, 7), value)).any()


SHAPE = (6, 9)
MASK = hnp.arrays(np.bool_, SHAPE)
SCORES = hnp.arrays(np.float64, SHAPE, elements=st.floats(-8, 8))


def brute_distance(mask: np.ndarray) -> np.ndarray:
    """Every pixel against every other, in float64."""
    inside, outside = np.argwhere(mask), np.argwhere(~mask)
    out = np.zeros(mask.shape)
    if len(inside) and len(outside):
        for at in np.ndindex(mask.shape):
            others = outside if mask[at] else inside
            nearest = np.sqrt(((others - at) ** 2).sum(axis=1)).min()
            out[at] = 1 - nearest if mask[at] else nearest
    return out


@settings(max_examples=60, deadline=None)
@given(mask=MASK, scores=SCORES)
def test_the_losses_are_their_formulas_in_float64(mask: np.ndarray, scores: np.ndarray) -> None:
    p, g = 1 / (1 + np.exp(-scores)), mask.astype(np.float64)
    dice = 1 - (2 * (p * g).sum() + 1) / ((p**2).sum() + (g**2).sum() + 1)
    boundary = (p * brute_distance(mask)).mean() / np.sqrt(mask.size)  # in image sides
    given = torch.from_numpy(scores)[None, None, None]
    truth = torch.from_numpy(mask)[None, None, None]
    distance = torch.from_numpy(signed_distance(mask))[None, None, None]

    assert dice_loss(given, truth) == pytest.approx(dice, rel=1e-5, abs=1e-6)
    assert boundary_loss(given, distance) == pytest.approx(boundary, rel=1e-5, abs=1e-5)
