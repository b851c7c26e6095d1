"""Which frames of a recording a stream is compared on."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkecho_edge.data.echonet import write_echonet
from pkecho_edge.data.phantom import draw_spec, phantom_recording, phantom_recordings
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.sequence import (
    MAX_SEQUENCE,
    forth_and_back,
    long_phantom,
    long_recording,
    sequence_indices,
)
from pkecho_edge.data.sources import LongRun, dataset, phantoms, standard_set
from pkecho_edge.errors import UsageError


def recording(n_frames: int, labelled: tuple[int, ...] = (), **known: int) -> Recording:
    return Recording(
        identifier="r",
        patient="p",
        source="test",
        frames=np.zeros((n_frames, 4, 4), dtype=np.uint8),
        labelled=labelled,
        masks=np.zeros((len(labelled), 4, 4), dtype=np.bool_),
        **known,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("labelled", "expected"),
    [((40, 60), range(31, 61)), ((3, 20), range(21)), ((99,), range(90, 100)), ((0,), range(1))],
)
def test_it_reaches_a_window_before_the_first_label_and_ends_with_the_last(
    labelled: tuple[int, ...], expected: range
) -> None:
    assert sequence_indices(recording(100, labelled), 10) == tuple(expected)


def test_labels_far_apart_keep_the_last() -> None:
    found = sequence_indices(recording(2000, (5, 1500)), 10)

    assert found == tuple(range(1501 - MAX_SEQUENCE, 1501))


def test_ed_and_es_count_as_labels() -> None:
    found = sequence_indices(recording(100, (), ed_index=50, es_index=30), 10)

    assert found == tuple(range(21, 51))


@pytest.mark.parametrize(("n", "kept"), [(1, 1), (5, 5), (MAX_SEQUENCE + 7, MAX_SEQUENCE)])
def test_without_labels_it_is_the_beginning(n: int, kept: int) -> None:
    assert sequence_indices(recording(n), 10) == tuple(range(kept))


def test_a_live_source_of_phantoms_gives_whole_recordings_with_truth_on_every_frame() -> None:
    source = replace(phantoms(range(7, 9), (96, 96)), live=True)

    clips = list(source)

    whole = phantom_recording(draw_spec(7), size=(96, 96))
    assert [clip.patient for clip in clips] == ["phantom-0000007", "phantom-0000008"]
    assert np.array_equal(clips[0].frames[:, 0], whole.frames)
    assert clips[0].truth is not None
    assert np.array_equal(clips[0].truth, whole.masks)
    assert all(clips[0].labelled)
    assert (clips[0].ed_index, clips[0].es_index) == (whole.ed_index, whole.es_index)
    assert len(clips[0].frames) > 20


def test_a_live_standard_set_has_the_same_patients_as_the_clips() -> None:
    clips, sequences = (list(replace(standard_set((96, 96), 2), live=x)) for x in (False, True))

    assert [c.patient for c in clips] == [s.patient for s in sequences]
    assert [c.quality for c in clips] == [s.quality for s in sequences]


def test_a_live_dataset_gives_one_sequence_a_recording(tmp_path: Path) -> None:
    specs = [draw_spec(seed) for seed in range(3)]
    write_echonet(tmp_path, phantom_recordings(specs, size=(112, 112)))
    source = dataset(tmp_path, (96, 96))

    sequences = list(replace(source, live=True))

    assert len(sequences) == len(list(source)) == 3
    for clip in sequences:
        first, last = clip.frame_indices[0], clip.frame_indices[-1]
        assert clip.frame_indices == tuple(range(first, last + 1))
        assert clip.ed_index is not None
        assert clip.labelled[clip.ed_index]
        assert clip.labelled[-1]


def test_a_copied_recording_counts_once(tmp_path: Path) -> None:
    copy = phantom_recording(draw_spec(1), size=(112, 112))
    write_echonet(tmp_path, [copy, replace(copy, identifier="again")])
    source = replace(dataset(tmp_path, (96, 96)), live=True)

    assert len(list(source)) == 1
    assert "the same pictures" in source.skipped[0]


@pytest.mark.parametrize(
    ("n_frames", "count", "expected"),
    [
        (1, 3, [0, 0, 0]),
        (2, 5, [0, 1, 0, 1, 0]),
        (4, 9, [0, 1, 2, 3, 2, 1, 0, 1, 2]),
        (5, 3, [0, 1, 2]),
        (3, 0, []),
    ],
)
def test_forth_and_back(n_frames: int, count: int, expected: list[int]) -> None:
    assert list(forth_and_back(n_frames, count)) == expected


def test_forth_and_back_never_jumps() -> None:
    played = list(forth_and_back(37, 1000))

    assert {abs(b - a) for a, b in itertools.pairwise(played)} == {1}
    assert set(played) == set(range(37))


def test_no_frames_cannot_be_played() -> None:
    with pytest.raises(UsageError):
        next(forth_and_back(0, 5))


def test_a_long_phantom_begins_as_its_recording_and_beats_on() -> None:
    spec = draw_spec(3)
    whole = phantom_recording(spec, size=(32, 32))

    long = long_phantom(spec, 3 * len(whole.frames), (32, 32))
    frames = np.stack(list(long.frames()))

    assert len(frames) == long.n_frames
    assert long.patient == whole.patient
    np.testing.assert_array_equal(frames[: len(whole.frames)], whole.frames)
    np.testing.assert_array_equal(next(long.frames()), frames[0])  # anew at every call
    assert len(np.unique(frames, axis=0)) == len(frames)  # no frame twice
    # nothing jumps where the recording ends: the step there is like any other
    steps = np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2))
    assert steps[len(whole.frames) - 1 :].max() < 1.5 * steps[: len(whole.frames) - 1].max()


def test_a_recording_that_is_longer_is_cut() -> None:
    frames = np.arange(50, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), dtype=np.uint8)
    of_fifty = replace(recording(1), frames=frames)

    short = long_recording(of_fifty, 20, (8, 8))
    long = long_recording(of_fifty, 120, (8, 8))

    assert [int(frame[0, 0]) for frame in short.frames()] == list(range(20))
    assert [int(frame[0, 0]) for frame in long.frames()] == list(forth_and_back(50, 120))
    assert short.identifier == "r@20 frames:8x8"


def test_long_sequences_are_of_the_recordings_that_are_verified(tmp_path: Path) -> None:
    recordings = list(phantom_recordings([draw_spec(i) for i in range(4)], size=(64, 64)))
    write_echonet(tmp_path / "d", (replace(one, split="TEST") for one in recordings))
    run = LongRun(300, 2)
    folder = replace(dataset(tmp_path / "d", (96, 96), count=3), long=run)
    drawn = replace(phantoms(range(10, 13), (96, 96)), long=run)
    standard = replace(standard_set((96, 96), 1), long=run)

    for source, n_sequences in ((folder, 2), (drawn, 2), (standard, 1)):
        live = replace(source, live=True)
        patients = [clip.patient for clip in live]
        found = list(live.long_sequences())

        assert [sequence.patient for sequence in found] == patients[:n_sequences]
        assert all(sequence.n_frames == 300 for sequence in found)
        assert next(found[0].frames()).shape == (96, 96)
    assert sum(1 for _ in next(iter(folder.long_sequences())).frames()) == 300


def test_no_long_sequences_unless_they_are_asked_for() -> None:
    assert list(phantoms(range(3), (96, 96)).long_sequences()) == []


@pytest.mark.parametrize(("frames", "sequences"), [(1, 8), (0, 8), (1000, 0)])
def test_a_long_run_of_nothing_is_refused(frames: int, sequences: int) -> None:
    with pytest.raises(UsageError):
        LongRun(frames, sequences)
