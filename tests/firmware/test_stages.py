"""The C library's image stages against their Python twins: one rule, two implementations.

Resize, threshold, components and outlines are compared bit for bit, volumes to rounding, and beats
frame by frame.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from pkecho_edge.bundle.manifest import Postprocessing
from pkecho_edge.data.resize import resize_frames, resize_masks
from pkecho_edge.metrics.ejection_fraction import single_plane_volume, slice_discs
from pkecho_edge.runtime.masks import largest_component, outline, to_mask
from tests.firmware.beat_reference import CAPACITY, Beat, Curve, Flag, find_beats, split_at
from tests.firmware.library import CBeat
from tests.firmware.stages import Stages

Mask = NDArray[np.bool_]

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=20))
SIDES = st.integers(16, 400) | st.sampled_from([16, 17, 112, 255, 256, 319, 320, 321, 600, 800])
ENGINE_SIDES = st.sampled_from([96, 112, 224, 320, 640]) | st.integers(16, 330)
NUMBERS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="session")
def stages(firmware_build: Path) -> Stages:
    return Stages(firmware_build / "libpkecho-stages.so")


# ---- Resize


@settings(max_examples=300)
@given(height=SIDES, width=SIDES, to=st.tuples(ENGINE_SIDES, ENGINE_SIDES), seed=NUMBERS)
@example(height=600, width=800, to=(320, 320), seed=0)
@example(height=320, width=320, to=(320, 320), seed=0)
@example(height=16, width=16, to=(640, 640), seed=0)
@example(height=1024, width=1280, to=(320, 320), seed=0)
@example(height=4096, width=16, to=(320, 320), seed=0)
@example(height=16, width=4096, to=(96, 640), seed=0)
@example(height=320, width=16, to=(320, 320), seed=0)
def test_frames_are_resized_bit_for_bit(
    stages: Stages, height: int, width: int, to: tuple[int, int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    frame = random.integers(0, 256, (height, width), dtype=np.uint8)
    stride = width + int(random.choice([0, 1, 7, 64, 1000]))

    resized = stages.resize_frame(frame, to, stride)

    assert np.array_equal(resized, resize_frames(frame[None], to)[0])


@settings(max_examples=300)
@given(side=st.integers(16, 4096), to=st.integers(3, 20).map(lambda n: 32 * n), seed=NUMBERS)
def test_every_weight_is_the_same(stages: Stages, side: int, to: int, seed: int) -> None:
    """Black and white pixels side by side show the smallest difference in a weight."""
    stripes = np.random.default_rng(seed).integers(0, 2, (1, side), dtype=np.uint8) * 255
    columns, rows = np.repeat(stripes, 16, axis=0), np.repeat(stripes.T, 16, axis=1)

    for frame, size in ((columns, (16, to)), (rows, (to, 16))):
        resized = stages.resize_frame(frame, size, frame.shape[1])
        assert np.array_equal(resized, resize_frames(frame[None], size)[0])


@settings(max_examples=200)
@given(mask=MASKS, size=st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_masks_are_resized_bit_for_bit(stages: Stages, mask: Mask, size: tuple[int, int]) -> None:
    assert np.array_equal(stages.resize_mask(mask, size), resize_masks(mask[None], size)[0])


@settings(max_examples=100)
@given(size=st.tuples(SIDES, SIDES), before=st.tuples(ENGINE_SIDES, ENGINE_SIDES), seed=NUMBERS)
@example(size=(4096, 16), before=(320, 320), seed=0)
@example(size=(16, 4096), before=(320, 320), seed=0)
def test_so_are_large_masks(
    stages: Stages, size: tuple[int, int], before: tuple[int, int], seed: int
) -> None:
    mask = np.random.default_rng(seed).random(before) < 0.5

    assert np.array_equal(stages.resize_mask(mask, size), resize_masks(mask[None], size)[0])


# ---- Threshold


@settings(max_examples=200)
@given(
    logits=arrays(np.float32, st.integers(0, 70), elements=st.floats(width=32)),
    threshold=st.sampled_from([0.0, -0.0, 0.5, -1.25, 1e-45]) | st.floats(-1000, 1000, width=32),
)
@example(
    logits=np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45], dtype=np.float32), threshold=0.0
)
def test_the_threshold(stages: Stages, logits: NDArray[np.float32], threshold: float) -> None:
    rule = Postprocessing(threshold=threshold, component="none")

    assert np.array_equal(stages.threshold(logits, threshold), to_mask(logits[None], rule)[0])


# ---- Components and outlines


def rings(height: int, width: int, gap: int) -> Mask:
    """One in the other, each a pixel wide."""
    rows, columns = np.mgrid[:height, :width]
    border = np.minimum.reduce([rows, columns, height - 1 - rows, width - 1 - columns])
    return np.asarray(border % gap == 0)


def spiral(side: int) -> Mask:
    """A pixel wide, one component: long ways between a run and its first one."""
    mask = np.zeros((side, side), dtype=np.bool_)
    row, column, step = 0, 0, (0, 1)
    mask[0, 0] = True
    turns = 0
    while turns < 2:
        ahead = row + step[0], column + step[1]
        beyond = row + 2 * step[0], column + 2 * step[1]
        free = all(0 <= place < side for place in ahead)
        if free and not (all(0 <= place < side for place in beyond) and mask[beyond]):
            row, column = ahead
            mask[row, column] = True
            turns = 0
        else:
            step = (step[1], -step[0])
            turns += 1
    return mask


def comb(height: int, width: int) -> Mask:
    """Teeth that only meet in the last row: every run is joined late."""
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[:, ::2] = True
    mask[-1] = True
    return mask


SHAPES = {
    "empty": np.zeros((16, 16), dtype=np.bool_),
    "full": np.ones((16, 17), dtype=np.bool_),
    "checkerboard": np.indices((31, 32)).sum(axis=0) % 2 == 0,
    "its corners alone": np.indices((16, 16)).sum(axis=0) % 15 == 0,
    "columns": np.arange(40)[None, :].repeat(30, axis=0) % 2 == 0,
    "rows": np.arange(30)[:, None].repeat(40, axis=1) % 3 == 0,
    "row ends": np.isin(np.arange(30), [0, 29])[None, :].repeat(20, axis=0),
    "diagonal": np.eye(33, 20, dtype=np.bool_),
    "other diagonal": np.eye(33, 20, dtype=np.bool_)[:, ::-1],
    "rings": rings(41, 37, 2),
    "rings apart": rings(41, 37, 3),
    "spiral": spiral(51),
    "comb": comb(20, 63),
    "comb upside down": comb(20, 63)[::-1],
    "lying comb": comb(63, 20).T,
}


def check_components(stages: Stages, *masks: Mask) -> None:
    """One finder for all masks: nothing may be left of the ones before."""
    shape = (masks[0].shape[0], masks[0].shape[1])
    with stages.finder(shape) as finder:
        for mask in masks:
            expected = largest_component(mask)
            border = np.ones(shape, dtype=np.bool_)
            border[1:-1, 1:-1] = False
            for into in ("other", "same", "none"):
                found = finder.find(mask, into=into)
                assert found.area == mask.sum()
                assert found.largest == expected.sum()
                assert found.touches_border == (mask & border).any()
                assert np.array_equal(found.mask, mask if into == "none" else expected)
                assert np.array_equal(found.outline, outline(mask))


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(stages: Stages, shape: str) -> None:
    check_components(stages, np.ascontiguousarray(SHAPES[shape]))


@settings(max_examples=250)
@given(mask=MASKS)
def test_components_are_bit_for_bit_the_same(stages: Stages, mask: Mask) -> None:
    check_components(stages, mask, ~mask, mask)


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(16, 200), st.integers(16, 200)),
    share=st.sampled_from([0.02, 0.3, 0.41, 0.5, 0.6, 0.95]),
    seed=NUMBERS,
)
def test_also_in_noise(stages: Stages, shape: tuple[int, int], share: float, seed: int) -> None:
    random = np.random.default_rng(seed)

    check_components(stages, *(random.random(shape) < share for _ in range(3)))


@settings(max_examples=200)
@given(size=st.integers(1, 4), count=st.integers(2, 12), seed=NUMBERS)
def test_of_equal_components_the_first_counts(
    stages: Stages, size: int, count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    mask = np.zeros((40, 40), dtype=np.bool_)
    for row, column in random.integers(0, 36, (count, 2)):
        if random.random() < 0.5:
            mask[row : row + size, column] = True
        else:
            mask[row, column : column + size] = True

    check_components(stages, mask)


# ---- Volume


def check_volume(stages: Stages, mask: Mask, spacing: tuple[float, float]) -> None:
    expected = single_plane_volume(slice_discs(mask, spacing))

    assert stages.volume(mask, spacing) == pytest.approx(expected, rel=1e-9, abs=0)


def ellipse(shape: tuple[int, int], seed: int) -> Mask:
    """Anywhere, leaning anywhere, perhaps partly outside; perhaps with a hole or a bite."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    centre = random.random(2) * shape
    angle, (long, short) = random.random() * np.pi, random.uniform(0.02, 0.6, 2) * min(shape)
    y, x = rows - centre[0], columns - centre[1]
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    mask = np.hypot(along / long, across / short) < 1
    if random.random() < 0.3:
        mask &= np.hypot(y - long / 3, x) > short / 3
    return np.asarray(mask)


SPACINGS = st.sampled_from([(1.0, 1.0), (0.3, 0.3), (0.5, 0.2), (0.2, 0.7)]) | st.tuples(
    st.floats(0.05, 3), st.floats(0.05, 3)
)


@settings(max_examples=200)
@given(shape=st.tuples(SIDES, SIDES), spacing=SPACINGS, seed=NUMBERS)
@example(shape=(600, 800), spacing=(0.31, 0.29), seed=1)
@example(shape=(1024, 1280), spacing=(0.2, 0.2), seed=2)
def test_the_volume(
    stages: Stages, shape: tuple[int, int], spacing: tuple[float, float], seed: int
) -> None:
    check_volume(stages, ellipse(shape, seed), spacing)


@settings(max_examples=200)
@given(mask=MASKS, spacing=SPACINGS)
def test_the_volume_of_anything(stages: Stages, mask: Mask, spacing: tuple[float, float]) -> None:
    check_volume(stages, mask, spacing)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.2), (1e-3, 1e3), (1e-90, 2e-90)])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_volume_of_shapes(stages: Stages, shape: str, spacing: tuple[float, float]) -> None:
    small = np.ascontiguousarray(SHAPES[shape])
    if max(spacing) / min(spacing) > 10:  # the twin would need memory for endless samples
        assert stages.volume(small, spacing) >= 0
        return
    check_volume(stages, small, spacing)


def test_the_volume_of_what_has_no_principal_axis_but_by_a_hair(stages: Stages) -> None:
    """A square with two stray pixels turns by nothing, although its moments are not quite equal."""
    mask = np.zeros((1610, 1610), dtype=np.bool_)
    mask[5:1605, 5:1605] = True
    mask[4, 804] = mask[804, 4] = True

    check_volume(stages, mask, (1.0, 1.0))


# ---- Beats


def heart(
    seed: int,
    *,
    beats: int = 8,
    rate_hz: float = 40,
    timed: bool = True,
    noise: float = 0.02,
    arrhythmia: float = 0.0,
    dropout: float = 0.0,
    contraction: float = 0.4,
) -> Curve:
    """Areas of a ventricle that fills and empties."""
    random = np.random.default_rng(seed)
    durations = random.uniform(0.8 - 0.5 * arrhythmia, 0.8 + 1.5 * arrhythmia, beats)
    phase = np.concatenate(
        [np.linspace(0, 1, max(int(second * rate_hz), 2), endpoint=False) for second in durations]
    )
    filled = 1 - contraction / 2 + contraction / 2 * np.cos(2 * np.pi * phase)
    areas = np.round(5000 * filled * (1 + noise * random.standard_normal(len(phase))))
    areas[random.random(len(areas)) < dropout] = 0
    return curve(areas, seed, rate_hz if timed else math.nan)


def curve(areas: NDArray[np.float64], seed: int = 0, rate_hz: float = 40) -> Curve:
    """Frames with these areas; not quite regular, some of them not valid."""
    random = np.random.default_rng(seed)
    areas = np.maximum(np.asarray(areas, dtype=np.float64), 0)
    gaps = random.uniform(0.5, 1.5, len(areas)) / rate_hz
    return Curve(
        times=np.cumsum(gaps) + 1e4,
        areas=areas,
        volumes=areas**1.5,
        valid=random.random(len(areas)) < 0.97,
        spaced=seed % 5 != 0,
    )


def check_beats(stages: Stages, frames: Curve, restarts: list[int] | None = None) -> list[Beat]:
    """Frame by frame; returns the beats."""
    expected = {
        (start, position): beat
        for start, part in split_at(frames, restarts or [])
        for position, beat in find_beats(part).items()
    }
    number, first = 0, 0  # the sequence's
    with stages.beats() as beats:
        assert_blank(beats.beat(), 0)
        for i in range(len(frames)):
            if i in (restarts or []):
                beats.restart()
                assert_blank(beats.beat(), number)
                first = i
            beat = expected.get((first, i - first))
            number += beat is not None
            reported = beats.push(
                1000 + i,
                frames.times[i],
                frames.areas[i],
                frames.volumes[i],
                bool(frames.valid[i]),
                frames.spaced,
            )
            assert reported == (beat is not None), i
            assert beats.beat().number == number
            if beat is not None:
                assert_beat(beats.beat(), beat, frames, first)
    return list(expected.values())


def assert_beat(found: CBeat, beat: Beat, frames: Curve, first: int) -> None:
    """`first`: the frame that the beat's are counted from."""
    ed, es = first + beat.ed, first + beat.es
    assert (Flag(found.flags), found.frames) == (beat.flags, beat.frames)
    assert (found.ed_index, found.es_index) == (1000 + ed, 1000 + es)
    assert (found.ed_volume, found.es_volume) == (frames.volumes[ed], frames.volumes[es])
    times = [found.ed_timestamp_s, found.es_timestamp_s]
    assert np.array_equal(times, frames.times[[ed, es]], equal_nan=True)
    assert np.array_equal(found.ejection_fraction, beat.ejection_fraction, equal_nan=True)
    assert found.method == b"single-plane discs, 20, principal axis"


def assert_blank(found: CBeat, number: int) -> None:
    """Nothing that could be taken for a measurement."""
    assert (found.number, found.flags, found.frames) == (number, 0, 0)
    assert math.isnan(found.ejection_fraction)
    assert math.isnan(found.ed_volume)
    assert found.method


def test_a_steady_heart(stages: Stages) -> None:
    """It rises once in each of eight cycles: seven beats from rise to rise."""
    frames = heart(1, noise=0)

    beats = check_beats(stages, frames)

    assert len(beats) == 7
    assert {beat.frames for beat in beats} == {32}
    assert all(beat.ejection_fraction == pytest.approx(100 * (1 - 0.6**1.5)) for beat in beats)


@settings(max_examples=60)
@given(
    seed=NUMBERS,
    timed=st.booleans(),
    rate_hz=st.sampled_from([12.0, 30.0, 60.0]),
    noise=st.sampled_from([0.0, 0.01, 0.05, 0.3]),
    arrhythmia=st.sampled_from([0.0, 0.5, 1.0]),
    dropout=st.sampled_from([0.0, 0.02, 0.3, 0.9]),
    contraction=st.sampled_from([0.0, 0.01, 0.03, 0.1, 0.4, 0.8]),
    restarts=st.lists(st.integers(1, 150), max_size=3),
)
def test_hearts_of_all_kinds(
    stages: Stages,
    seed: int,
    timed: bool,
    rate_hz: float,
    noise: float,
    arrhythmia: float,
    dropout: float,
    contraction: float,
    restarts: list[int],
) -> None:
    frames = heart(
        seed,
        timed=timed,
        rate_hz=rate_hz,
        noise=noise,
        arrhythmia=arrhythmia,
        dropout=dropout,
        contraction=contraction,
    )

    check_beats(stages, frames, [at for at in restarts if at < len(frames)])


@settings(max_examples=300)
@given(
    areas=st.lists(st.integers(0, 6), min_size=1, max_size=60),
    timed=st.booleans(),
    seed=st.integers(0, 9),
)
def test_steps_and_zigzags(stages: Stages, areas: list[int], timed: bool, seed: int) -> None:
    check_beats(stages, curve(np.array(areas) * 100.0, seed, 40 if timed else math.nan))


def test_an_unmoving_image_has_no_beats(stages: Stages) -> None:
    areas = 5000 * (1 + np.random.default_rng(1).uniform(-0.009, 0.009, 1000))

    assert check_beats(stages, curve(areas)) == []
    assert check_beats(stages, curve(np.full(300, 5000.0))) == []
    assert check_beats(stages, curve(np.zeros(300))) == []


def test_a_change_of_size_is_followed_within_the_range(stages: Stages) -> None:
    """As where the probe moves: seconds later the old range is forgotten."""
    large, small = heart(2, beats=10), heart(3, beats=20)
    areas = np.concatenate([large.areas, small.areas * 0.3])

    for rate_hz in (40, math.nan):
        beats = check_beats(stages, curve(areas, 1, rate_hz))
        assert len(beats) > 20


@pytest.mark.parametrize("interval_s", [1 / 40, math.nan])
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("length", [*range(CAPACITY - 3, CAPACITY + 4), 3000])
def test_a_beat_without_end_is_given_up(
    stages: Stages, length: int, empty: bool, interval_s: float
) -> None:
    """A beat of so many frames, as the heart stops when it is full or the probe is taken off."""
    cycle = heart(4, beats=1, noise=0).areas
    pause = np.full(length - len(cycle), 0.0 if empty else cycle[0])
    areas = np.concatenate([np.tile(cycle, 3), pause, np.tile(cycle, 4)])

    beats = check_beats(stages, curve(areas, 1, 1 / interval_s))

    fits = length + 2 <= CAPACITY  # with the two frames that tell its end
    assert max(beat.frames for beat in beats) == (length if fits else len(cycle))


@pytest.mark.parametrize(
    ("interval_s", "length"), [(math.nan, 150), (1 / 64, 3 * 64 + 1), (1 / 1024, CAPACITY)]
)
def test_the_range_ends_where_it_is_said_to(stages: Stages, interval_s: float, length: int) -> None:
    """An outlier hides a rise until it has left the range."""
    areas = np.full(length + 80, 5000.0)
    areas[:2] = 9000  # seen last in the range of frame `length`, so that the next one is a cut
    areas[2:7] = areas[length + 51 : length + 56] = 4000
    frames = curve(areas)

    beats = check_beats(
        stages, replace(frames, times=np.arange(len(areas), dtype=np.float64) * interval_s)
    )

    assert [beat.frames for beat in beats] == [length + 56 - (length + 1)]


def test_fast_frames(stages: Stages) -> None:
    """More of them within three seconds than the range has room for."""
    frames = heart(6, beats=5, rate_hz=700, noise=0.01)

    assert len(check_beats(stages, frames)) >= 3


def test_volumes_that_are_none_make_no_valid_beat(stages: Stages) -> None:
    frames = heart(1, noise=0)
    none = replace(frames, volumes=frames.volumes * 0, valid=np.ones(len(frames), dtype=np.bool_))

    for beat in check_beats(stages, none):
        assert math.isnan(beat.ejection_fraction)
        assert beat.flags == Flag.FRAMES


def test_a_volume_that_grows_while_the_area_shrinks_makes_no_valid_beat(stages: Stages) -> None:
    """As of a foreshortened view: the axis gets shorter, and the discs wider."""
    frames = heart(1, noise=0)
    grown = frames.volumes.max() + frames.volumes.min() - frames.volumes
    reversed_ = replace(frames, volumes=grown, valid=np.ones(len(frames), dtype=np.bool_))

    beats = check_beats(stages, reversed_)

    assert beats
    for beat in beats:
        assert beat.ejection_fraction < 0
        assert Flag.FLAT in beat.flags
        assert Flag.VALID not in beat.flags
