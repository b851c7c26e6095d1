"""Where lessons come from: nobody is both learned from and watched on, and TEST stays apart."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkecho_edge import lesson_source
from pkecho_edge.data.echonet import write_echonet
from pkecho_edge.data.phantom import draw_spec, phantom_clip_recording
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.sources import dataset
from pkecho_edge.errors import DatasetError, UsageError
from pkecho_edge.lesson_source import LessonSource, lesson_windows

SIZE, LENGTH = (96, 96), 10


def recording(frames: int, **known: object) -> Recording:
    pictures = np.random.default_rng(0).integers(0, 255, (frames, 32, 32), dtype=np.uint8)
    return Recording("a", "a", "test", pictures, frame_rate_hz=50.0, **known)  # type: ignore[arg-type]


def patients(source: LessonSource, *, held_out: bool) -> set[str]:
    found = source.clips(SIZE, LENGTH, held_out=held_out, on_skip=lambda _: None)
    return {clip.patient for clip in found}


def written(root: Path, splits: list[str]) -> Path:
    write_echonet(
        root,
        (
            replace(phantom_clip_recording(draw_spec(seed), size=SIZE), split=split)
            for seed, split in enumerate(splits, start=300)
        ),
    )
    return root


def test_windows_are_different_and_reach_all_over() -> None:
    found = lesson_windows(recording(80), LENGTH, 6, np.random.default_rng(1))

    assert len(set(found)) == 6
    assert all(len(window) == LENGTH and 0 <= window[0] < window[-1] < 80 for window in found)
    steps = {int(np.diff(window)[0]) for window in found[3:]}
    assert steps <= {1, 2, 3}
    assert found == lesson_windows(recording(80), LENGTH, 6, np.random.default_rng(1))


@pytest.mark.parametrize(("frames", "count"), [(1, 0), (2, 1), (9, 1), (10, 2)])
def test_a_short_recording_gives_what_it_has(frames: int, count: int) -> None:
    found = lesson_windows(recording(frames), LENGTH, 4, np.random.default_rng(0))

    assert len(found) == count or (frames == 10 and 1 <= len(found) <= 2)


def test_labels_at_odds_do_not_lose_a_recording() -> None:
    assert lesson_windows(recording(40, ed_index=5, es_index=5), LENGTH, 2, np.random.default_rng())


def test_validation_is_held_out_and_test_is_left_alone(tmp_path: Path) -> None:
    root = written(tmp_path / "d", ["TRAIN", "TRAIN", "VAL", "TEST"])
    source = LessonSource(root, windows=1)

    learned, held = patients(source, held_out=False), patients(source, held_out=True)

    assert (len(learned), len(held)) == (2, 1)
    assert not learned & held


def test_without_validation_a_patient_of_ten_is_held_out(tmp_path: Path) -> None:
    root = written(tmp_path / "d", ["TRAIN"] * 3 + ["TEST"])
    source = LessonSource(root, windows=1)

    learned, held = patients(source, held_out=False), patients(source, held_out=True)

    assert (len(learned), len(held)) == (2, 1)
    assert not learned & held


def test_one_patient_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be learned from and watched on"):
        patients(LessonSource(written(tmp_path / "d", ["TRAIN"])), held_out=False)


def test_phantoms_are_of_both_kinds_and_never_held_out_too() -> None:
    source = LessonSource(phantoms=2)

    learned = list(source.clips(SIZE, LENGTH, held_out=False, on_skip=lambda _: None))

    assert len(learned) == 2
    areas = [clip.truth.sum(axis=(1, 2)) for clip in learned if clip.truth is not None]
    assert all(np.diff(areas[0].astype(int)) <= 2)  # from ED to ES it shrinks
    assert {clip.patient for clip in learned}.isdisjoint({"phantom-2500000"})


def test_the_key_is_of_the_content_not_the_place(tmp_path: Path) -> None:
    first = written(tmp_path / "a", ["TRAIN", "TRAIN"])
    again = written(tmp_path / "b", ["TRAIN", "TRAIN"])

    assert LessonSource(first).key() == LessonSource(again).key()
    video = next((again / "Videos").iterdir())
    video.write_bytes(video.read_bytes() + b"\0")
    assert LessonSource(first).key() != LessonSource(again).key()
    assert LessonSource(first).key() != LessonSource(first, windows=2).key()


def test_the_key_does_not_mind_what_this_tool_leaves_in_a_folder(tmp_path: Path) -> None:
    root = written(tmp_path / "a", ["TRAIN", "TRAIN"])
    before = LessonSource(root).key()

    (root / "small.safetensors").write_bytes(b"weights")
    (root / "small.safetensors.toml").write_text("[prune]")
    (root / ".hidden").write_bytes(b"\0")
    (root / "heart.pkb").mkdir()
    (root / "heart.pkb" / "manifest.json").write_text("{}")
    assert LessonSource(root).key() == before

    Path(os.fsdecode(bytes(root) + b"/\xff.txt")).write_text("a name that is no text")
    assert LessonSource(root).key() != before


def test_what_lies_behind_a_link_counts_and_a_circle_ends(tmp_path: Path) -> None:
    root = written(tmp_path / "a", ["TRAIN", "TRAIN"])
    (root / "Videos").rename(tmp_path / "elsewhere")
    (root / "Videos").symlink_to(tmp_path / "elsewhere")
    (root / "circle").symlink_to(root)
    before, listed = LessonSource(root).key(), dataset(root, SIZE).signature()
    assert before == LessonSource(written(tmp_path / "b", ["TRAIN", "TRAIN"])).key()

    video = next((tmp_path / "elsewhere").iterdir())
    video.write_bytes(video.read_bytes() + b"\0")

    assert LessonSource(root).key() != before
    assert dataset(root, SIZE).signature() != listed


def test_the_listing_leaves_out_what_the_key_leaves_out(tmp_path: Path) -> None:
    root = written(tmp_path / "a", ["TRAIN", "TRAIN"])
    before = dataset(root, SIZE).signature()

    (root / "heart.pkb").mkdir()
    (root / "heart.pkb" / "manifest.json").write_text("{}")
    (root / "heart.pkb.toml").write_text("[compile]")
    (root / ".new.pkb.partial").mkdir()
    (root / ".new.pkb.partial" / "engine.bin").write_bytes(b"\0")
    assert dataset(root, SIZE).signature() == before

    (root / "more.avi").touch()
    assert dataset(root, SIZE).signature() != before


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = written(tmp_path / "a", ["TRAIN", "TRAIN"])
    (root / "FileList.csv").chmod(0)

    with pytest.raises(DatasetError, match=r"FileList\.csv: cannot be read"):
        LessonSource(root).key()


@pytest.mark.parametrize(
    ("most", "recordings", "clips", "expected"), [(2, 2, 2, 2), (3, 3, 3, 3), (8, 4, 4, 8)]
)  # these recordings are of ten frames, and give one clip each
def test_a_large_dataset_gives_so_many_clips_of_as_many_as_may_be(
    tmp_path: Path, most: int, recordings: int, clips: int, expected: int
) -> None:
    root = written(tmp_path / "d", ["TRAIN"] * 4 + ["VAL"])
    source = LessonSource(root, windows=4, most=most)

    found = list(source.clips(SIZE, LENGTH, held_out=False, on_skip=lambda _: None))

    assert (len({clip.recording for clip in found}), len(found)) == (recordings, clips)
    assert source.expected() == expected
    assert patients(source, held_out=True) == patients(LessonSource(root), held_out=True)


def test_a_recording_of_one_frame_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = written(tmp_path / "d", ["TRAIN", "TRAIN", "VAL"])
    monkeypatch.setattr(lesson_source, "lesson_windows", lambda *_: [])
    told: list[str] = []

    assert not list(LessonSource(root).clips(SIZE, LENGTH, held_out=False, on_skip=told.append))
    assert len(told) == 2
    assert all("a single frame is no clip" in line for line in told)


@pytest.mark.parametrize("wrong", [{"phantoms": 0}, {"windows": 0}, {"most": 0}])
def test_nothing_to_learn_from_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="nothing to learn from"):
        LessonSource(**wrong)  # type: ignore[arg-type]
