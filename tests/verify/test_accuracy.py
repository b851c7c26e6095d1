"""Drift and agreement of engines whose masks are known on paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import EnvironmentMismatch, UnusableInput
from pkecho_edge.verify.accuracy import AccuracyResult, ClipRow, measure_accuracy

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
MakeClip = Callable[..., Clip]

ED, ES = 42, 30  # sides of the squares at end-diastole and end-systole


def dice_of_squares(side: int) -> float:
    """Percent, of a square and itself less one pixel all around."""
    inner = side - 2
    return 100 * 2 * inner**2 / (side**2 + inner**2)


def asd_of_squares(side: int) -> float:
    """Pixels: only the outer corners are sqrt(2) away, all other border pixels are 1 away."""
    outer, inner = 4 * (side - 1), 4 * (side - 3)
    return (outer - 4 + 4 * math.sqrt(2) + inner) / (outer + inner)


def test_an_engine_identical_to_the_baseline_has_no_drift(unchanged: AccuracyResult) -> None:
    drift = unchanged.drift

    for summary in (drift.dsc, drift.hd95, drift.asd, drift.ef):
        assert (summary.mean, summary.low, summary.high, summary.worst) == (0, 0, 0, 0)
    assert unchanged.agreement.dsc.mean == 100
    assert unchanged.agreement.pixel_disagreement.worst == 0
    assert (unchanged.n_clips, unchanged.n_patients, drift.dsc.n_clips) == (5, 5, 5)


def test_an_eroded_mask_drifts_as_computed_on_paper(degraded: AccuracyResult) -> None:
    drift = degraded.drift

    assert degraded.baseline.dsc.mean == 100
    assert drift.dsc.mean == pytest.approx(100 - (dice_of_squares(ED) + dice_of_squares(ES)) / 2)
    assert drift.dsc.unit == "points"
    assert drift.hd95.mean == pytest.approx(-1)
    assert drift.asd.mean == pytest.approx(-(asd_of_squares(ED) + asd_of_squares(ES)) / 2)
    assert drift.hd95.unit == drift.asd.unit == "px"


def test_agreement_is_over_all_frames_not_only_labelled_ones(degraded: AccuracyResult) -> None:
    sides = (ED, 38, 34, ES)

    lost = sum(side**2 - (side - 2) ** 2 for side in sides)

    assert degraded.agreement.dsc.mean == pytest.approx(np.mean([*map(dice_of_squares, sides)]))
    assert degraded.agreement.pixel_disagreement.mean == pytest.approx(100 * lost / (4 * 64 * 64))


def test_ejection_fraction_drift_is_the_difference_of_two_cubes(degraded: AccuracyResult) -> None:
    true, eroded = 100 * (1 - (ES / ED) ** 3), 100 * (1 - ((ES - 2) / (ED - 2)) ** 3)

    assert degraded.rows[0].ef_truth == pytest.approx(true, abs=0.01)
    assert degraded.drift.ef.mean == pytest.approx(abs(true - eroded), abs=0.02)
    assert degraded.engine.ef_bias.bias == pytest.approx(eroded - true, abs=0.02)
    assert degraded.baseline.ef_error.mean == 0


def test_distances_are_in_mm_where_the_spacing_is_known(
    make_clip: MakeClip, baseline: Network, eroding_engine: Network
) -> None:
    clips = [make_clip("p0", spacing_mm=(0.5, 0.5)), make_clip("p1")]

    drift = measure_accuracy(baseline, eroding_engine, clips).drift

    assert drift.hd95.unit == "mm"
    assert drift.hd95.mean == pytest.approx(-0.5)  # the clip in pixels is not mixed in
    assert drift.hd95.n_clips == 1
    assert drift.dsc.n_clips == 2


def test_the_interval_is_over_patients_not_clips(
    make_clip: MakeClip, baseline: Network, eroding_engine: Network
) -> None:
    shapes = {"p0": (58, 56), "p1": (42, 30), "p2": (30, 20), "p3": (50, 40)}
    once = [make_clip(patient, sides=sides) for patient, sides in shapes.items()]
    often = [
        make_clip(patient, f"clip{index}", sides=sides)
        for patient, sides in shapes.items()
        for index in range(25)
    ]

    few = measure_accuracy(baseline, eroding_engine, once).drift.dsc
    many = measure_accuracy(baseline, eroding_engine, often).drift.dsc

    assert few.low < few.mean < few.high
    assert (many.low, many.high) == pytest.approx((few.low, few.high))
    assert (many.n_clips, many.n_patients) == (100, 4)


def test_equal_patient_numbers_of_two_datasets_are_two_patients(
    make_clip: MakeClip, baseline: Network
) -> None:
    clips = [make_clip("p1", "a", source="camus"), make_clip("p1", "b", source="echonet")]

    assert measure_accuracy(baseline, baseline, clips).drift.dsc.n_patients == 2


def test_one_patient_gives_no_interval(make_clip: MakeClip, baseline: Network) -> None:
    clips = [make_clip("p0", f"clip{index}") for index in range(3)]

    dsc = measure_accuracy(baseline, baseline, clips).drift.dsc

    assert dsc.mean == 0
    assert math.isnan(dsc.low)
    assert math.isnan(dsc.high)


def test_without_truth_there_is_agreement_but_no_dsc_drift(
    make_clip: MakeClip, baseline: Network, eroding_engine: Network
) -> None:
    result = measure_accuracy(baseline, eroding_engine, [make_clip(truth=False)])

    assert result.drift.dsc.n_clips == 0
    assert math.isnan(result.drift.dsc.mean)
    assert math.isnan(result.rows[0].ef_truth)
    assert result.agreement.dsc.mean < 100
    assert result.drift.ef.n_clips == 1  # ED and ES are known, and no truth is needed


def test_no_clips_give_no_figures(baseline: Network) -> None:
    result = measure_accuracy(baseline, baseline, [])

    assert (result.n_clips, result.n_patients, result.worst_clips()) == (0, 0, ())
    assert math.isnan(result.drift.dsc.mean)
    assert result.drift.dsc.worst_clip is None


def test_empty_masks_are_counted_and_give_no_ejection_fraction(
    make_clip: MakeClip, baseline: Network
) -> None:
    def misses_end_systole(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = baseline(frames)
        logits[-1] = -5
        return logits

    result = measure_accuracy(baseline, misses_end_systole, [make_clip()])
    (row,) = result.rows

    assert (row.empty_truth, row.empty_baseline, row.empty_engine) == (0, 0, 1)
    assert row.undefined_distances == 1
    assert row.hd95_engine == row.hd95_baseline == 0  # both over the other labelled frame
    assert row.dsc_engine == 50
    assert row.ef_baseline > 0
    assert math.isnan(row.ef_engine)  # not 100 %: a missed ventricle is not a contracted one
    assert result.n_ef_lost == 1


def test_nan_logits_of_the_engine_are_counted(make_clip: MakeClip, baseline: Network) -> None:
    def one_nan(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = baseline(frames)
        logits[1, 0, 0, 0] = np.nan  # background: no mask changes
        return logits

    (row,) = measure_accuracy(baseline, one_nan, [make_clip()]).rows

    assert row.nonfinite_engine == 1
    assert row.dsc_drift == 0


def test_a_baseline_with_nan_is_refused(make_clip: MakeClip, baseline: Network) -> None:
    def broken(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full(frames.shape, np.nan, dtype=np.float32)

    with pytest.raises(UnusableInput, match="p0-clip"):
        measure_accuracy(broken, baseline, [make_clip()])


def test_an_engine_of_another_size_is_refused(make_clip: MakeClip, baseline: Network) -> None:
    with pytest.raises(EnvironmentMismatch, match="engine returns"):
        measure_accuracy(baseline, lambda frames: baseline(frames)[:, :, :32], [make_clip()])


def test_a_clip_given_twice_is_refused(make_clip: MakeClip, baseline: Network) -> None:
    with pytest.raises(UnusableInput, match="twice"):
        measure_accuracy(baseline, baseline, [make_clip(), make_clip()])


def test_clips_are_drawn_one_at_a_time(make_clip: MakeClip, baseline: Network) -> None:
    done: list[ClipRow] = []

    def clips() -> Iterator[Clip]:
        for index in range(3):
            assert len(done) == index  # the one before is finished
            yield make_clip(f"p{index}")

    measure_accuracy(baseline, baseline, clips(), progress=done.append)

    assert [row.patient for row in done] == ["p0", "p1", "p2"]


def test_the_worst_clip_is_named(make_clip: MakeClip, baseline: Network) -> None:
    def erodes_small_squares(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return baseline(frames) if frames[0].any() else np.full(frames.shape, 5, np.float32)

    clips = [make_clip("p0"), make_clip("p1", sides=(0, 0)), make_clip("p2")]

    result = measure_accuracy(baseline, erodes_small_squares, clips)

    assert result.drift.dsc.worst_clip == "p1-clip@0-1"
    assert result.drift.dsc.worst == 100
    assert [row.patient for row in result.worst_clips(1)] == ["p1"]
