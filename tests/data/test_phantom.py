"""The phantom: the same heart every time, within the sizes of real ones."""

from __future__ import annotations

import numpy as np
import pytest

from pkecho_edge.data.phantom import (
    QUALITIES,
    draw_spec,
    phantom_clip_recording,
    phantom_recording,
)
from pkecho_edge.data.phantom_anatomy import Anatomy, contraction, shape_at
from pkecho_edge.data.phantom_imaging import Scanner
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.resize import resize_masks
from pkecho_edge.data.tracing import single_plane_volume
from pkecho_edge.errors import UsageError

SMALL = (64, 64)


def clip(seed: int, quality: str | None = None, length: int = 3) -> Recording:
    return phantom_clip_recording(draw_spec(seed, quality), length=length, size=SMALL)


def ejection_fraction(recording: Recording) -> float:
    assert recording.spacing_mm is not None
    ed, es = (single_plane_volume(recording.masks[i], recording.spacing_mm) for i in (0, -1))
    return (ed - es) / ed


@pytest.fixture(scope="module")
def anatomies() -> list[Anatomy]:
    return [draw_spec(seed).anatomy for seed in range(400)]


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    """Whole recordings of seeds 0 and 1."""
    return [phantom_recording(draw_spec(seed), size=(32, 32)) for seed in range(2)]


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_seed_gives_the_same_bytes(quality: str) -> None:
    first, second = clip(7, quality), clip(7, quality)

    assert first.frames.tobytes() == second.frames.tobytes()
    assert first.masks.tobytes() == second.masks.tobytes()


def test_another_seed_is_another_heart() -> None:
    first, second = clip(7, "good"), clip(8, "good")

    assert first.patient != second.patient
    assert (first.masks != second.masks).any()
    assert (first.frames != second.frames).any()


def test_the_numpy_global_state_is_neither_read_nor_changed() -> None:
    before = np.random.get_state(legacy=False)["state"]
    clip(3)
    after = np.random.get_state(legacy=False)["state"]

    assert before["pos"] == after["pos"]
    np.testing.assert_array_equal(before["key"], after["key"])


def test_a_clip_runs_from_ed_to_es_with_truth_on_every_frame() -> None:
    recording = phantom_clip_recording(draw_spec(5), size=SMALL)

    assert recording.frames.shape == (10, *SMALL)
    assert (recording.ed_index, recording.es_index) == (0, 9)
    assert recording.labelled == tuple(range(10))
    areas = recording.masks.sum(axis=(1, 2))
    assert areas.argmax() == 0
    assert areas[9] == areas.min()
    assert recording.source == "phantom"


def test_a_recording_holds_ed_before_es_and_a_heart_beat(recordings: list[Recording]) -> None:
    for seed, recording in enumerate(recordings):
        spec = draw_spec(seed)
        assert recording.ed_index is not None
        assert recording.es_index is not None
        areas = recording.masks.sum(axis=(1, 2))

        seconds = len(recording.frames) / spec.acquisition.frame_rate_hz
        assert recording.ed_index < recording.es_index
        assert areas[recording.ed_index] >= 0.97 * areas.max()
        assert areas[recording.es_index] <= 1.03 * areas.min()
        assert seconds > 0.85 * 60 / spec.anatomy.heart_rate_bpm
        assert recording.frame_rate_hz == spec.acquisition.frame_rate_hz


def test_ed_is_not_always_the_same_frame(recordings: list[Recording]) -> None:
    found = {recording.ed_index for recording in recordings}

    assert len(found) > 1
    assert 0 not in found


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_picture_is_a_fan_on_black(quality: str) -> None:
    recording = clip(11, quality)

    assert not recording.frames[:, 0, 0].any()
    assert not recording.frames[:, -1, 0].any()
    assert recording.frames[:, 20:40, 28:36].mean() > 20
    assert recording.quality == quality


@pytest.mark.parametrize("size", [(96, 96), (128, 96)])
def test_another_size_shows_the_same_heart(size: tuple[int, int]) -> None:
    spec = draw_spec(21, "good")
    small = phantom_clip_recording(spec, length=2, size=SMALL)
    other = phantom_clip_recording(spec, length=2, size=size)

    area_mm2 = [
        recording.masks.sum(axis=(1, 2)) * np.prod(recording.spacing_mm or ())
        for recording in (small, other)
    ]
    np.testing.assert_allclose(area_mm2[0], area_mm2[1], rtol=0.02)


def scanner_of(seed: int, size: tuple[int, int]) -> Scanner:
    spec = draw_spec(seed)
    return Scanner(spec.anatomy, spec.acquisition, size, spec.seed)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_masks_of_two_sizes_agree(seed: int) -> None:
    small, large = scanner_of(seed, (128, 128)), scanner_of(seed, (256, 256))

    for contracted in (0.0, 1.0):
        first = resize_masks(small.mask(contracted)[None], (256, 256))[0]
        second = large.mask(contracted)
        assert 2 * (first & second).sum() / (first.sum() + second.sum()) > 0.97


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_mask_has_the_area_of_its_outline(seed: int) -> None:
    scanner = scanner_of(seed, (256, 256))
    angles = np.linspace(-np.pi, np.pi, 7200, endpoint=False)

    for contracted in (0.0, 0.5, 1.0):
        radius = shape_at(scanner.anatomy, contracted).radius(angles)
        exact_mm2 = np.pi * np.mean(radius**2)  # half the integral of r^2 over the full turn
        area_mm2 = scanner.mask(contracted).sum() * np.prod(scanner.spacing_mm)
        assert area_mm2 == pytest.approx(exact_mm2, rel=0.01)


def test_the_cavity_is_darker_than_its_wall_when_quality_is_good() -> None:
    for seed in range(6):
        recording = clip(seed, "good", length=1)
        mask, frame = recording.masks[0], recording.frames[0]
        ring = np.zeros_like(mask)
        for axis in (0, 1):
            for shift in (-2, 2):
                ring |= np.roll(mask, shift, axis)
        ring &= ~mask

        assert frame[ring].mean() > frame[mask].mean() + 15


def test_poorer_quality_shows_less_contrast() -> None:
    contrast = {}
    for quality in QUALITIES:
        differences = []
        for seed in range(8):
            recording = clip(seed, quality, length=1)
            mask, frame = recording.masks[0], recording.frames[0].astype(float)
            ring = np.roll(mask, -3, 1) & ~mask  # the septum
            differences.append(frame[ring].mean() - frame[mask].mean())
        contrast[quality] = float(np.mean(differences))

    assert contrast["good"] > contrast["medium"] > contrast["poor"]


def test_speckle_moves_with_the_wall() -> None:
    spec = draw_spec(2, "good")
    still = phantom_clip_recording(spec, length=16, size=SMALL).frames[:2].astype(float)
    other = phantom_clip_recording(draw_spec(3, "good"), length=1, size=SMALL).frames[0]
    lit = (still[0] > 40) & (other > 40)

    coherent = np.corrcoef(still[0][lit], still[1][lit])[0, 1]

    assert coherent > 0.8
    assert coherent > np.corrcoef(still[0][lit], other[lit])[0, 1] + 0.3


def test_sizes_are_those_of_adult_hearts(anatomies: list[Anatomy]) -> None:
    for anatomy in anatomies:
        at_es = anatomy.long_axis_mm * (1 - anatomy.long_axis_shortening)
        assert 75 <= anatomy.long_axis_mm <= 100
        assert 50 <= at_es < anatomy.long_axis_mm
        assert 40 <= anatomy.short_axis_mm <= 58
        assert 6 <= anatomy.wall_mm <= 10
        assert 50 <= anatomy.heart_rate_bpm <= 110
        assert 0.28 <= anatomy.systole_share <= 0.42
        assert 0.15 <= anatomy.ejection_fraction <= 0.75


def test_acquisition_is_that_of_a_scanner() -> None:
    for seed in range(200):
        acquisition = draw_spec(seed).acquisition
        assert 150 <= acquisition.depth_mm <= 160
        assert 60 <= np.rad2deg(2 * acquisition.half_angle) <= 75
        assert 30 <= acquisition.frame_rate_hz <= 80
        assert 50 <= acquisition.dynamic_range_db <= 70


def test_ejection_fractions_span_the_range(anatomies: list[Anatomy]) -> None:
    drawn = np.array([anatomy.ejection_fraction for anatomy in anatomies])

    assert drawn.min() < 0.2
    assert drawn.max() > 0.74
    assert 0.45 < np.median(drawn) < 0.6


def test_the_masks_have_the_drawn_ejection_fraction() -> None:
    for seed in range(12):
        spec = draw_spec(seed)
        recording = phantom_clip_recording(spec, length=2, size=(128, 128))

        assert ejection_fraction(recording) == pytest.approx(
            spec.anatomy.ejection_fraction, abs=0.05
        )


def test_the_heart_contracts_once_per_cycle_and_smoothly() -> None:
    anatomy = draw_spec(0).anatomy
    phase = np.linspace(0, 2, 2001)

    contracted = contraction(anatomy, phase)

    assert contracted.min() == pytest.approx(0, abs=1e-9)
    assert contracted.max() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(contracted[:1000], contracted[1000:2000], atol=1e-9)
    assert np.abs(np.diff(contracted)).max() < 0.01


def test_qualities_are_drawn_in_their_shares() -> None:
    drawn = [draw_spec(seed).quality for seed in range(1000)]

    shares = [drawn.count(quality) / len(drawn) for quality in QUALITIES]

    np.testing.assert_allclose(shares, [0.4, 0.4, 0.2], atol=0.05)


def test_an_identifier_names_the_seed() -> None:
    assert draw_spec(123).identifier == "phantom-0000123"
    assert clip(123).identifier == clip(123).patient == "phantom-0000123"


@pytest.mark.parametrize(("seed", "quality"), [(-1, None), (1, "excellent")])
def test_a_phantom_that_cannot_be_drawn(seed: int, quality: str | None) -> None:
    with pytest.raises(UsageError):
        draw_spec(seed, quality)
