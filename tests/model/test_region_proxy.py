"""Affinities and the upsampling they steer (equation 5), against a loop over pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pkecho_edge.model.region_proxy import AffinityEstimator, upsample_with_affinity


def estimated(factor: int) -> Tensor:
    """Affinities [2, 9, factor^2, 4, 5] of random features."""
    torch.manual_seed(factor)
    with torch.inference_mode():
        return AffinityEstimator(6, factor).eval()(torch.randn(2, 6, 4, 5))


@pytest.mark.parametrize("factor", [2, 4])
def test_affinities_are_weights(factor: int) -> None:
    affinity = estimated(factor)

    assert affinity.shape == (2, 9, factor**2, 4, 5)
    assert affinity.min() >= 0
    torch.testing.assert_close(affinity.sum(dim=1), torch.ones(2, factor**2, 4, 5))


@pytest.mark.parametrize("factor", [2, 4])
def test_neighbours_outside_the_image_weigh_nothing(factor: int) -> None:
    affinity = estimated(factor).view(2, 3, 3, factor**2, 4, 5)

    assert not affinity[:, 0, :, :, 0].any()  # no row above the first
    assert not affinity[:, 2, :, :, -1].any()
    assert not affinity[:, :, 0, :, :, 0].any()  # no column left of the first
    assert not affinity[:, :, 2, :, :, -1].any()
    assert affinity[:, 0, :, :, 1:, 1:-1].min() > 0
    assert affinity[:, 1, 1].min() > 0


@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_is_the_weighted_sum_of_the_neighbours(factor: int) -> None:
    affinity = estimated(factor)
    masks = torch.randn(2, 3, 4, 5)

    fine = upsample_with_affinity(masks, affinity)

    torch.testing.assert_close(fine, naive(masks, affinity, factor))


def test_a_constant_mask_stays_constant_up_to_the_border() -> None:
    fine = upsample_with_affinity(torch.full((2, 1, 4, 5), 3.0), estimated(2))

    torch.testing.assert_close(fine, torch.full((2, 1, 8, 10), 3.0))


def naive(masks: Tensor, affinity: Tensor, factor: int) -> Tensor:
    """Equation 5 as it is written."""
    n, classes, height, width = masks.shape
    fine = torch.zeros(n, classes, height * factor, width * factor)
    for row in range(height * factor):
        for column in range(width * factor):
            i, j = row // factor, column // factor
            cell = (row % factor) * factor + column % factor
            for neighbour in range(9):
                y, x = i + neighbour // 3 - 1, j + neighbour % 3 - 1
                if 0 <= y < height and 0 <= x < width:
                    weight = affinity[:, neighbour, cell, i, j, None]
                    fine[:, :, row, column] += weight * masks[:, :, y, x]
    return fine
