"""Bad frames and one-sided sets, the same pictures under another name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.calibration.fingerprint import BYTES, NEAR, distances, fingerprints, telling_bits
from pkecho_edge.calibration.frames import check_clips
from pkecho_edge.data.clip import Clip
from pkecho_edge.data.sources import phantoms
from pkecho_edge.data.standard import CALIBRATION_SEEDS, TUNING_SEEDS
from pkecho_edge.errors import CalibrationError


@pytest.fixture(scope="module")
def hearts() -> list[Clip]:
    return list(phantoms(CALIBRATION_SEEDS[:5], (96, 96)))


def other(clip: Clip, frames: np.ndarray, name: str = "other") -> Clip:
    return replace(
        clip,
        identifier=f"{name}@0-9",
        recording=name,
        patient=name,
        frames=frames.astype(np.uint8),
    )


def test_good_clips_have_no_warnings(hearts: list[Clip]) -> None:
    assert check_clips(hearts) == ()
    assert check_clips([]) == ()


def test_a_clip_of_one_grey_is_refused(hearts: list[Clip]) -> None:
    with pytest.raises(CalibrationError, match=r"'grey@0-9' is grey level 7 all through"):
        check_clips([*hearts, other(hearts[0], np.full_like(hearts[0].frames, 7), "grey")])


def test_two_sizes_are_refused(hearts: list[Clip]) -> None:
    (small,) = phantoms(CALIBRATION_SEEDS[7:8], (128, 128))
    with pytest.raises(CalibrationError, match="96x96, 128x128"):
        check_clips([*hearts, small])


def test_a_frozen_clip_is_told_and_only_frozen_clips_are_refused(hearts: list[Clip]) -> None:
    frozen = other(hearts[0], np.repeat(hearts[0].frames[:1], 10, axis=0), "frozen")

    (warning, *_) = check_clips([*hearts[1:], frozen])

    assert warning.startswith("clip 'frozen@0-9' is frozen")
    with pytest.raises(CalibrationError, match="every clip is frozen"):
        check_clips([frozen])


def test_frames_that_repeat_the_one_before_are_told(hearts: list[Clip]) -> None:
    frames = hearts[0].frames[[0, 0, 0, 3, 4, 5, 5, 7, 8, 9]]
    stalled = other(hearts[0], frames, "stalled")

    assert check_clips([*hearts[1:], stalled]) == (
        "clip 'stalled@0-9' stalls: 3 of its frames are the one before",
    )
    # the clip of a recording with few frames: the same frame numbers come twice
    short = replace(stalled, frame_indices=(0, 0, 0, 1, 2, 3, 3, 4, 5, 6))
    assert check_clips([*hearts[1:], short]) == ()


def test_a_nearly_black_clip_is_told_and_only_such_are_refused(hearts: list[Clip]) -> None:
    dark = other(hearts[0], hearts[0].frames // 16, "dark")

    (warning, *_) = check_clips([*hearts[1:], dark])

    assert warning == "clip 'dark@0-9' is nearly black"
    with pytest.raises(CalibrationError, match="every clip is nearly black"):
        check_clips([dark])


def test_a_clipped_clip_is_told(hearts: list[Clip]) -> None:
    frames = np.where(hearts[0].frames > 60, 255, 0)

    (warning, *_) = check_clips([*hearts[1:], other(hearts[0], frames, "clipped")])

    assert warning.startswith("clip 'clipped@0-9' is clipped")


def test_one_recording_many_times_is_told(hearts: list[Clip]) -> None:
    again = [
        replace(hearts[0], identifier=f"again{i}", frames=np.roll(hearts[0].frames, i, axis=0))
        for i in range(4)
    ]

    (warning,) = check_clips([hearts[1], *again])

    assert warning == f"4 of 5 clips are of one recording, {hearts[0].recording!r}"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: np.clip(f.astype(int) + 5, 0, 255), id="brighter"),
        pytest.param(lambda f: np.clip(f.astype(int) - 5, 0, 255), id="darker"),
        pytest.param(lambda f: f * 0.9, id="another gain"),
        pytest.param(lambda f: np.concatenate([f[1:], f[-1:]]), id="a frame later"),
        pytest.param(
            lambda f: np.clip(f + np.random.default_rng(0).normal(0, 4, f.shape), 0, 255),
            id="noise",
        ),
    ],
)
def test_the_same_pictures_under_another_name_may_not_verify(
    hearts: list[Clip], change: object
) -> None:
    chosen = CalibrationSet.of(hearts, "random", 0)
    twin = other(hearts[2], change(hearts[2].frames))  # type: ignore[operator]

    with pytest.raises(CalibrationError, match="shows the pictures of calibration clip"):
        chosen.check_disjoint([twin])
    warnings = check_clips([*hearts, twin])
    assert any("show the same pictures" in warning for warning in warnings)


def test_other_hearts_may_verify(hearts: list[Clip]) -> None:
    others = list(phantoms(TUNING_SEEDS[:12], (96, 96)))

    CalibrationSet.of(hearts, "random", 0).check_disjoint(others)

    ours, theirs = (
        [telling_bits(fingerprints(clip.frames)) for clip in clips] for clips in (others, hearts)
    )
    assert distances(ours, theirs).min() > 1.3 * NEAR


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_the_distance_is_the_median_of_the_nearest_frames_bits(
    ours: int, theirs: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    prints = [[rng.bytes(BYTES).hex() for _ in range(count)] for count in (ours, theirs)]

    bits = [[f"{int(text, 16):0256b}" for text in clip] for clip in prints]
    nearest = [
        min(sum(a != b for a, b in zip(x, y, strict=True)) for y in bits[1]) for x in bits[0]
    ]

    clips = [telling_bits(clip) for clip in prints]
    found = distances(clips, clips)
    assert found[0, 1] == np.median(nearest)
    assert (found.diagonal() == 0).all()


@pytest.mark.parametrize("shape", [(32, 32), (96, 128), (50, 37), (708, 1016)])
def test_bits_say_which_low_frequencies_lie_above_their_median(shape: tuple[int, int]) -> None:
    """Against the transform by its definition, in real numbers."""
    height, width = shape
    frame = np.random.default_rng(height).integers(0, 256, shape)
    rows, columns = (
        np.array([np.interp(np.arange(33) * n / 32, np.arange(n + 1), line) for line in lines])
        for n, lines in ((height, np.eye(height + 1)), (width, np.eye(width + 1)))
    )
    area = np.zeros((height + 1, width + 1))
    area[1:, 1:] = frame.cumsum(0).cumsum(1)
    cells = np.diff(np.diff(rows.T @ area @ columns, axis=0), axis=1)
    k, x = np.arange(16)[:, None], np.arange(32)[None]
    basis = np.cos(np.pi * k * (2 * x + 1) / 64)
    spectrum = basis @ cells @ basis.T
    spectrum[0, 0] = 0
    median = np.median(spectrum)

    (text,) = fingerprints(frame.astype(np.uint8)[None, None])

    bits = np.array(list(f"{int(text, 16):0256b}"), dtype=int).reshape(16, 16)
    clear = np.abs(spectrum - median) > 0.01 * np.abs(spectrum).max()
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(bits[clear], (spectrum > median)[clear])


def test_a_frame_enlarged_is_the_same_picture() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 1, 32, 32), dtype=np.uint8)

    assert fingerprints(np.kron(frame, np.ones((1, 1, 8, 6), np.uint8))) == fingerprints(frame)


def test_flat_frames_say_nothing() -> None:
    flat = telling_bits(fingerprints(np.full((2, 1, 32, 32), 9, dtype=np.uint8)))
    other = telling_bits(["0f" * BYTES])

    assert flat.shape == (0, 256)
    inf = float("inf")
    expected = [[inf, inf, inf], [inf, 0, inf], [inf, inf, inf]]
    clips = [flat, other, telling_bits([])]
    assert distances(clips, clips).tolist() == expected
    assert distances([], clips).shape == (0, 3)
    assert distances(clips, []).shape == (3, 0)
    assert fingerprints(np.zeros((0, 1, 32, 32), dtype=np.uint8)) == ()
