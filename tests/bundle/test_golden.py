"""The self-test passes for the same results, fails for others, and trusts no file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pkecho_edge.bundle.golden import GoldenVectors, compare
from pkecho_edge.bundle.manifest import GoldenTolerances
from pkecho_edge.bundle.npy import npy_bytes, parse_npy
from pkecho_edge.bundle.reader import Bundle
from pkecho_edge.errors import IntegrityError

TOLERANCES = GoldenTolerances(pixels_fraction=0.002, area_fraction=0.02)
N_PIXELS = 96 * 96


def test_the_same_results_pass(golden: GoldenVectors) -> None:
    result = compare(golden, golden.logits, GoldenTolerances(0.0, 0.0))
    assert result.passed
    assert result.max_abs_logit_difference == 0
    assert result.pixels_differ_fraction == 0
    assert result.area_difference_fraction == 0


def test_logits_may_differ_where_no_mask_does(golden: GoldenVectors) -> None:
    result = compare(golden, golden.logits * np.float32(1.5), TOLERANCES)
    assert result.passed
    assert result.max_abs_logit_difference == pytest.approx(np.abs(golden.logits).max() / 2)


def test_differences_are_those_of_the_worst_frame(golden: GoldenVectors) -> None:
    logits = golden.logits.copy()
    logits[1, 0, 0, :10] = 1  # ten pixels more in the second frame
    result = compare(golden, logits, TOLERANCES)
    assert result.pixels_differ_fraction == pytest.approx(10 / N_PIXELS)
    assert result.area_difference_fraction == pytest.approx(10 / golden.areas_px[1])
    assert result.passed


@pytest.mark.parametrize("shift", [1.0, -1.0])
def test_a_shifted_boundary_fails(golden: GoldenVectors, shift: float) -> None:
    result = compare(golden, golden.logits + np.float32(shift), TOLERANCES)
    assert not result.passed
    assert result.area_difference_fraction > 0.02


def test_few_pixels_that_are_much_of_a_small_area_fail(golden: GoldenVectors) -> None:
    logits = golden.logits.copy()
    logits[1, 0, 0, :15] = 1
    result = compare(golden, logits, TOLERANCES)
    assert result.pixels_differ_fraction < TOLERANCES.pixels_fraction
    assert result.area_difference_fraction > TOLERANCES.area_fraction
    assert not result.passed


def test_equal_areas_in_the_wrong_place_fail(golden: GoldenVectors) -> None:
    result = compare(golden, np.roll(golden.logits, 5, axis=-1), TOLERANCES)
    assert result.area_difference_fraction == 0
    assert result.pixels_differ_fraction > 0.002
    assert not result.passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_fails(golden: GoldenVectors, value: float) -> None:
    logits = golden.logits.copy()
    logits[0, 0, 0, 0] = value
    result = compare(golden, logits, GoldenTolerances(1.0, 1.0))
    assert result.max_abs_logit_difference == np.inf
    assert not result.passed


def test_an_empty_golden_mask_is_measured_against_the_frame() -> None:
    frames = np.zeros((1, 1, 96, 96), np.uint8)
    golden = GoldenVectors.of(frames, np.full(frames.shape, -1, np.float32))
    logits = golden.logits.copy()
    logits[0, 0, 0, :9] = 1
    result = compare(golden, logits, TOLERANCES)
    assert result.area_difference_fraction == pytest.approx(9 / N_PIXELS)
    assert result.passed
    assert compare(golden, golden.logits, GoldenTolerances(0, 0)).passed


def test_logits_of_another_shape_are_refused(golden: GoldenVectors) -> None:
    with pytest.raises(IntegrityError, match="gives logits"):
        compare(golden, golden.logits[:1], TOLERANCES)


def test_a_round_trip_changes_nothing(golden: GoldenVectors, tmp_path: Path) -> None:
    golden.write(tmp_path / "golden")
    loaded = GoldenVectors.load(tmp_path / "golden")
    for name in ("frames", "logits", "masks", "areas_px"):
        expected = getattr(golden, name)
        assert getattr(loaded, name).dtype == expected.dtype
        np.testing.assert_array_equal(getattr(loaded, name), expected)
    assert loaded.threshold == golden.threshold


def test_the_vectors_of_a_bundle_can_be_loaded(bundle: Bundle, golden: GoldenVectors) -> None:
    loaded = GoldenVectors.load(bundle.path / "golden" / "clip")
    np.testing.assert_array_equal(loaded.logits, golden.logits)


def test_areas_are_those_of_the_discs(golden: GoldenVectors) -> None:
    assert golden.areas_px == pytest.approx(np.pi * np.array([20, 15]) ** 2, rel=0.02)


Damage = Callable[[Path], object]


def _json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (lambda g: (g / "golden.json").unlink(), "golden.json"),
        (lambda g: (g / "golden.json").write_text("{"), "golden.json"),
        (lambda g: _json(g / "golden.json", schema="other"), "golden.json"),
        (lambda g: _json(g / "golden.json", threshold="0"), "golden.json"),
        (lambda g: _json(g / "golden.json", arrays={}), "golden.json"),
        (lambda g: _json(g / "golden.json", extra=1), "golden.json"),
        (lambda g: _json(g / "golden.json", threshold=5.0), "golden"),
        (lambda g: _json(g / "golden.json", threshold=1e300), "golden"),
        (lambda g: (g / "logits.npy").unlink(), "logits.npy"),
        (lambda g: (g / "logits.npy").write_bytes(b""), "logits.npy"),
        (lambda g: (g / "frames.npy").write_bytes((g / "logits.npy").read_bytes()), "frames.npy"),
        (lambda g: np.save(g / "masks.npy", np.ones((2, 96, 96), bool)), "golden"),
        (lambda g: np.save(g / "areas_px.npy", np.zeros(2, np.float32)), "golden"),
        (lambda g: np.save(g / "areas_px.npy", np.array([None, 1])), "areas_px.npy"),
    ],
)
def test_damaged_vectors_name_the_file(
    golden: GoldenVectors, tmp_path: Path, damage: Damage, name: str
) -> None:
    folder = tmp_path / "golden"
    golden.write(folder)
    damage(folder)
    with pytest.raises(IntegrityError) as caught:
        GoldenVectors.load(folder)
    assert caught.value.path is not None
    assert caught.value.path.name == name


def test_vectors_that_contradict_each_other_are_not_made(golden: GoldenVectors) -> None:
    with pytest.raises(ValueError, match="masks"):
        replace(golden, masks=~golden.masks)
    with pytest.raises(ValueError, match="areas"):
        replace(golden, areas_px=golden.areas_px + 1)
    with pytest.raises(ValueError, match="finite"):
        GoldenVectors.of(golden.frames, np.full_like(golden.logits, np.nan))
    with pytest.raises(ValueError, match="frames must be"):
        GoldenVectors.of(golden.frames[:, 0], golden.logits)


ARRAYS: list[tuple[str, NDArray[Any]]] = [
    ("u8", np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4)),
    ("f32", np.linspace(-1, 1, 10, dtype=np.float32)),
    ("bool", np.eye(3, dtype=bool)),
]


@pytest.mark.parametrize(("dtype", "array"), ARRAYS)
def test_numpy_reads_our_files_and_we_read_those_of_numpy(
    tmp_path: Path, dtype: str, array: NDArray[Any]
) -> None:
    path = tmp_path / "ours.npy"
    path.write_bytes(npy_bytes(array, dtype))
    loaded = np.load(path, allow_pickle=False)
    assert loaded.dtype == array.dtype
    np.testing.assert_array_equal(loaded, array)
    np.testing.assert_array_equal(parse_npy(path.read_bytes(), dtype, array.shape), array)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_array_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="does not hold u8"):
        parse_npy(data, "u8", (2, 3))


def test_a_truth_value_is_0_or_1() -> None:
    data = npy_bytes(np.array([True, False]), "bool")
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        parse_npy(data[:-1] + b"\x02", "bool", (2,))
    with pytest.raises(ValueError, match="bytes of values"):
        parse_npy(data + b"\0", "bool", (2,))
