"""Which frames of a recording a stream is compared on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkecho_edge.data.echonet import write_echonet
from pkecho_edge.data.phantom import draw_spec, phantom_recording, phantom_recordings
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.sequence import MAX_SEQUENCE, sequence_indices
from pkecho_edge.data.sources import dataset, phantoms, standard_set


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
