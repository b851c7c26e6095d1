"""Clips: which frames are taken, in which order, and what goes with them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkecho_edge.data.clip import (
    CLIP_LENGTH,
    MAX_WINDOWS,
    WINDOW_S,
    clip_at,
    clip_indices,
    ed_es_clip,
    window_indices,
)
from pkecho_edge.data.recording import Recording
from pkecho_edge.errors import RecordingError

SIZE = (8, 8)


def recording(ed: int | None, es: int | None, frames: int = 40) -> Recording:
    """Frame i is grey i; ED and ES are labelled with masks that fill the left or the upper half."""
    labelled = tuple(sorted({i for i in (ed, es) if i is not None}))
    masks = np.zeros((len(labelled), *SIZE), dtype=np.bool_)
    for place, index in enumerate(labelled):
        if index == ed:
            masks[place, :, :4] = True
        else:
            masks[place, :4] = True
    grey = np.arange(frames, dtype=np.uint8)[:, None, None]
    return Recording(
        identifier="a",
        patient="p",
        source="video",
        frames=np.broadcast_to(grey, (frames, *SIZE)).copy(),
        spacing_mm=(1.0, 2.0),
        ed_index=ed,
        es_index=es,
        labelled=labelled,
        masks=masks,
        quality="good",
    )


def test_ten_frames_equidistant_from_ed_to_es() -> None:
    clip = ed_es_clip(recording(3, 21), SIZE)

    assert CLIP_LENGTH == 10
    assert clip.frame_indices == (3, 5, 7, 9, 11, 13, 15, 17, 19, 21)
    assert clip.frames.shape == (10, 1, *SIZE)
    assert clip.frames[:, 0, 0, 0].tolist() == list(clip.frame_indices)
    assert (clip.ed_index, clip.es_index) == (0, 9)
    assert (clip.recording, clip.patient, clip.source, clip.quality) == ("a", "p", "video", "good")


def test_time_runs_forward_where_es_comes_first() -> None:
    clip = ed_es_clip(recording(30, 12), SIZE)

    assert list(clip.frame_indices) == sorted(clip.frame_indices)
    assert (clip.ed_index, clip.es_index) == (9, 0)
    assert clip.truth is not None
    assert clip.truth[9, 7, 0]
    assert not clip.truth[9, 0, 7]
    assert clip.truth[0, 0, 7]


@pytest.mark.parametrize(("ed", "es"), [(2, 5), (5, 2), (2, 3)])
def test_a_short_clip_begins_and_ends_with_ed_and_es(ed: int, es: int) -> None:
    """Where frames repeat, the later phase stands at its last place: there training has a label."""
    clip = ed_es_clip(recording(ed, es), SIZE)

    ends = (0, CLIP_LENGTH - 1)
    assert (clip.ed_index, clip.es_index) == (ends if ed < es else ends[::-1])


def test_frames_repeat_where_ed_and_es_are_close() -> None:
    clip = ed_es_clip(recording(4, 6), SIZE)

    assert set(clip.frame_indices) == {4, 5, 6}
    assert len(clip.frame_indices) == CLIP_LENGTH
    assert clip.frame_indices[0] == 4
    assert clip.frame_indices[-1] == 6
    assert clip.ed_index is not None
    assert clip.es_index is not None
    assert clip.frame_indices[clip.ed_index] == 4
    assert clip.frame_indices[clip.es_index] == 6


def test_only_labelled_frames_have_truth() -> None:
    clip = ed_es_clip(recording(3, 21), SIZE)

    assert clip.labelled == (True, *(False,) * 8, True)
    assert clip.truth is not None
    assert not clip.truth[1:-1].any()
    assert clip.truth[0].sum() == clip.truth[-1].sum() == 32


def test_no_label_no_truth() -> None:
    clip = clip_at(recording(None, None), (1, 2, 3), SIZE)

    assert clip.truth is None
    assert clip.labelled == (False, False, False)
    assert (clip.ed_index, clip.es_index) == (None, None)


def test_frames_truth_and_spacing_are_resized_together() -> None:
    clip = ed_es_clip(recording(3, 21), (16, 4), length=2)

    assert clip.frames.shape == (2, 1, 16, 4)
    assert clip.truth is not None
    assert clip.truth.shape == (2, 16, 4)
    assert clip.truth[0, :, :2].all()
    assert not clip.truth[0, :, 2:].any()
    assert clip.spacing_mm == (0.5, 4.0)


def test_an_identifier_tells_frames_and_size() -> None:
    whole = recording(3, 21)

    clips = [ed_es_clip(whole, SIZE), ed_es_clip(whole, (4, 4)), clip_at(whole, (4, 21), SIZE)]

    assert clips[0].identifier == "a@3-21:8x8"
    assert len({clip.identifier for clip in clips}) == 3


def test_the_hash_is_that_of_the_pictures() -> None:
    first, second = ed_es_clip(recording(3, 21), SIZE), ed_es_clip(recording(3, 21), SIZE)
    renamed = replace(first, identifier="other", patient="other")
    changed = replace(first, frames=first.frames ^ np.uint8(1))
    reshaped = replace(first, frames=first.frames.reshape(5, 2, *SIZE))

    assert first.content_sha256 == second.content_sha256 == renamed.content_sha256
    assert len({first.content_sha256, changed.content_sha256, reshaped.content_sha256}) == 3


@pytest.mark.parametrize(("ed", "es"), [(None, 5), (5, None), (None, None), (5, 5)])
def test_a_recording_without_two_distinct_phases(ed: int | None, es: int | None) -> None:
    with pytest.raises(RecordingError, match="no distinct ED and ES") as caught:
        ed_es_clip(recording(ed, es), SIZE)

    assert caught.value.remedy


def test_a_recording_checks_what_it_is_given() -> None:
    good = recording(3, 21)

    for change in (
        {"ed_index": 40},
        {"labelled": (21, 3)},
        {"labelled": (3, 3)},
        {"masks": good.masks[:1]},
        {"masks": good.masks.astype(np.uint8)},
        {"frames": good.frames[:0]},
        {"frames": good.frames.astype(np.float32)},
        {"spacing_mm": (0.0, 1.0)},
        {"spacing_mm": (float("nan"), 1.0)},
        {"frame_rate_hz": 0.0},
        {"frame_rate_hz": float("inf")},
        {"frame_rate_hz": float("nan")},
    ):
        with pytest.raises(RecordingError, match="'a'"):
            replace(good, **change)


# --- recordings without ED and ES ---


def test_ed_and_es_decide_where_both_are_known() -> None:
    assert clip_indices(recording(3, 21)) == [ed_es_clip(recording(3, 21), SIZE).frame_indices]
    assert len(clip_indices(recording(3, None))) == 4
    with pytest.raises(RecordingError, match="no distinct ED and ES"):
        clip_indices(recording(5, 5))


@pytest.mark.parametrize(
    ("rate", "step"), [(None, 1), (10, 1), (30, 1), (50, 2), (60, 2), (80, 3), (120, 4)]
)
def test_a_window_spans_about_a_systole(rate: float | None, step: int) -> None:
    (first, *_) = window_indices(1000, rate)

    assert set(np.diff(first)) == {step}
    if rate and rate >= 30:
        assert (first[-1] - first[0]) / rate == pytest.approx(WINDOW_S, abs=0.07)


def test_windows_lie_in_the_middle_of_equal_parts() -> None:
    assert [(w[0], w[-1]) for w in window_indices(100, 30)] == [
        (7, 16), (32, 41), (57, 66), (82, 91),
    ]  # fmt: skip
    assert [(w[0], w[-1]) for w in window_indices(20, 30)] == [(0, 9), (10, 19)]
    assert [(w[0], w[-1]) for w in window_indices(19, 30)] == [(4, 13)]
    assert [(w[0], w[-1]) for w in window_indices(10, None)] == [(0, 9)]


def test_too_few_frames_for_a_window_are_all_used() -> None:
    assert window_indices(3, 30) == [(0, 0, 0, 1, 1, 1, 1, 2, 2, 2)]
    (indices,) = window_indices(15, 80)  # a window would need 28
    assert (indices[0], indices[-1]) == (0, 14)
    assert len(set(indices)) == CLIP_LENGTH


def test_one_frame_is_no_clip() -> None:
    with pytest.raises(RecordingError, match="has one frame; a clip needs at least two") as caught:
        clip_indices(recording(None, None, frames=1))

    assert caught.value.remedy
    assert len(clip_indices(recording(None, None, frames=2))) == 1


@given(
    st.integers(2, 5000),
    st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
    st.integers(2, 20),
)
def test_windows_stay_inside_and_share_no_frame(
    n_frames: int, rate: float | None, length: int
) -> None:
    windows = window_indices(n_frames, rate, length)
    spans = [range(window[0], window[-1] + 1) for window in windows]

    assert 1 <= len(windows) <= MAX_WINDOWS
    for window in windows:
        assert len(window) == length
        assert list(window) == sorted(window)
        assert window[0] >= 0
        assert window[-1] < n_frames
    for before, after in pairwise(spans):
        assert before.stop <= after.start
