"""Masks, their largest component and its outline, against SciPy and against paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy import ndimage

from pkecho_edge.bundle.manifest import Postprocessing
from pkecho_edge.runtime.masks import largest_component, outline, to_mask

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))


def area(polygon: NDArray[np.float32]) -> float:
    """By the shoelace formula; positive where it runs clockwise on a screen."""
    x, y = polygon.astype(np.float64).T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2)


def expected_largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (labels == sizes.argmax()) & mask


@given(mask=MASKS)
def test_the_largest_component_is_scipys(mask: NDArray[np.bool_]) -> None:
    found = largest_component(mask)

    assert np.array_equal(found, expected_largest(mask))
    assert found.dtype == np.bool_
    assert not np.shares_memory(found, mask)


@given(seed=st.integers(0, 20), share=st.sampled_from([0.3, 0.4, 0.5, 0.6]))
def test_also_in_noise_with_thousands_of_runs(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((96, 128)) < share

    assert np.array_equal(largest_component(mask), expected_largest(mask))


@given(mask=MASKS)
def test_the_outline_holds_the_component_and_its_holes(mask: NDArray[np.bool_]) -> None:
    filled = ndimage.binary_fill_holes(expected_largest(mask))

    polygon = outline(mask)

    assert polygon.dtype == np.float32
    assert polygon.ndim == 2
    assert polygon.shape[1] == 2
    assert (area(polygon) if len(polygon) else 0) == filled.sum()
    if mask.any():
        rows, columns = np.nonzero(filled)
        assert polygon.min(axis=0).tolist() == [columns.min() - 0.5, rows.min() - 0.5]
        assert polygon.max(axis=0).tolist() == [columns.max() + 0.5, rows.max() + 0.5]


@pytest.mark.parametrize(
    ("mask", "corners"),
    [
        (["1"], [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]),
        (["000", "011"], [(0.5, 0.5), (2.5, 0.5), (2.5, 1.5), (0.5, 1.5)]),
        (["000", "000"], []),
    ],
)
def test_small_outlines(mask: list[str], corners: list[tuple[float, float]]) -> None:
    pixels = np.array([[digit == "1" for digit in row] for row in mask])

    assert [tuple(point) for point in outline(pixels).tolist()] == corners


def test_pixels_that_touch_at_a_corner_have_one_outline() -> None:
    assert area(outline(np.eye(5, dtype=np.bool_))) == 5


def test_the_outline_of_a_disc_is_nowhere_a_pixel_off() -> None:
    rows, columns = np.ogrid[:96, :128]

    polygon = outline(np.hypot(rows - 50, columns - 70) < 30)

    radii = np.hypot(polygon[:, 0] - 70, polygon[:, 1] - 50)
    assert area(polygon) == pytest.approx(math.pi * 30**2, rel=0.01)
    assert np.abs(radii - 30).max() < 1


def test_the_manifests_rules() -> None:
    logits = np.full((96, 96), -1, dtype=np.float32)
    logits[10:20, 10:20], logits[50:53, 50:53], logits[60, 60] = 2, 3, np.nan

    assert to_mask(logits, Postprocessing()).sum() == 109
    assert to_mask(logits, Postprocessing(threshold=2.5)).sum() == 9
    assert to_mask(logits, Postprocessing(threshold=2)).sum() == 9
    assert to_mask(logits, Postprocessing(component="largest")).sum() == 100
