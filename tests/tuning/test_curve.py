"""Drift against the size of the calibration set."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.errors import CalibrationError
from pkecho_edge.tuning.curve import Curve, CurvePoint, curve_sizes
from pkecho_edge.tuning.pictures import draw_curve


def curve(*points: tuple[int, tuple[float, ...]]) -> Curve:
    return Curve(QuantizationPlan(), tuple(CurvePoint(n, v) for n, v in points), 8, 3)


def test_sizes_double_up_to_all_clips() -> None:
    assert curve_sizes(2) == (1, 2)
    assert curve_sizes(32) == (1, 2, 4, 8, 16, 32)
    assert curve_sizes(33) == (1, 2, 4, 8, 16, 32, 33)


@pytest.mark.parametrize("clips", [0, 1])
def test_one_clip_makes_no_curve(clips: int) -> None:
    with pytest.raises(CalibrationError, match="no curve"):
        curve_sizes(clips)


def test_the_smallest_size_within_the_noise_is_enough() -> None:
    found = curve(
        (1, (0.9, 0.5, 1.0)), (2, (0.30, 0.34, 0.32)), (4, (0.20, 0.22, 0.18)), (8, (0.19,))
    )

    # of the upper half of the sizes that were drawn more than once: 0.0200 and 0.0200
    assert found.noise == pytest.approx(0.02)
    assert found.sufficient == 4


def test_larger_sets_that_are_worse_are_not_needed() -> None:
    """Min-max ranges grow with every clip."""
    found = curve((1, (0.5, 0.5, 0.5)), (2, (0.1, 0.1, 0.1)), (4, (0.2, 0.2, 0.2)), (8, (0.2,)))

    assert found.noise == pytest.approx(0, abs=1e-12)
    assert found.sufficient == 2


def test_where_more_always_helps_all_are_needed() -> None:
    found = curve((1, (0.9, 0.9)), (2, (0.5, 0.5)), (4, (0.3, 0.3)), (8, (0.1,)))

    assert found.sufficient == 8


def test_the_document_and_the_picture(tmp_path: Path) -> None:
    found = curve((1, (0.9, 0.8)), (2, (0.2, 0.3)), (4, (0.2,)))

    draw_curve(found, tmp_path / "curve.png")

    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    document = found.as_dict()
    assert document["sufficient"] == found.sufficient
    assert [point["clips"] for point in document["points"]] == [1, 2, 4]
