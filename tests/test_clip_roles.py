"""Which clips a run drew is noted under all that decides them, and under nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.clip_roles import ClipsWanted, find_noted_clips, note_clips
from pkecho_edge.data import sources
from pkecho_edge.data.clip import Clip
from pkecho_edge.stages import StageCache
from pkecho_edge.verify import machine

SIZE = (96, 96)
CLIP = Clip("a", "a", "a", "test", np.zeros((2, 1, *SIZE), np.uint8), (0, 1))
SET = CalibrationSet.of([CLIP], "given", 0)
PHANTOMS = sources.phantoms(range(3), SIZE)


def wanted(root: Path) -> ClipsWanted:
    return ClipsWanted(sources.dataset(root, SIZE), PHANTOMS, None, 2, 0)


def test_what_was_noted_is_found_again(tmp_path: Path) -> None:
    cache, asked = StageCache(tmp_path / "cache"), wanted(tmp_path / "data")
    assert find_noted_clips(asked, cache) is None

    note_clips(asked, SET, [CLIP], cache)

    found = find_noted_clips(asked, cache)
    assert found is not None
    assert found.calibration_sha256 == SET.sha256
    assert found.trial_sha256 == (CLIP.content_sha256,)


@pytest.mark.parametrize("change", ["seed", "count", "given", "trial", "size", "split", "length"])
def test_whatever_decides_them_is_asked_for(tmp_path: Path, change: str) -> None:
    cache, asked = StageCache(tmp_path / "cache"), wanted(tmp_path / "data")
    note_clips(asked, SET, [CLIP], cache)
    others = {
        "seed": {"seed": 1},
        "count": {"count": 3},
        "given": {"given": SET},
        "trial": {"trial": sources.phantoms(range(4), SIZE)},
        "size": {"calibration": replace(asked.calibration, size=(96, 128))},
        "split": {"calibration": replace(asked.calibration, split="VAL")},
        "length": {"calibration": replace(asked.calibration, length=5)},
    }

    assert find_noted_clips(replace(asked, **others[change]), cache) is None


def test_a_note_that_says_otherwise_is_replaced(tmp_path: Path) -> None:
    cache, asked = StageCache(tmp_path / "cache"), wanted(tmp_path / "data")
    note_clips(asked, SET, [], cache)

    note_clips(asked, SET, [CLIP], cache)

    found = find_noted_clips(asked, cache)
    assert found is not None
    assert found.trial_sha256 == (CLIP.content_sha256,)


@pytest.mark.parametrize("package", ["av", "numpy", "scipy", "nibabel"])
def test_another_version_of_what_reads_recordings_may_give_other_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    cache, asked = StageCache(tmp_path / "cache"), wanted(tmp_path / "data")
    note_clips(asked, SET, [CLIP], cache)
    real = machine.version
    monkeypatch.setattr(machine, "version", lambda name: "0" if name == package else real(name))

    assert find_noted_clips(asked, cache) is None


@pytest.mark.parametrize("change", ["content", "name", "new"])
def test_so_are_the_files_of_a_dataset(tmp_path: Path, change: str) -> None:
    root = tmp_path / "data"
    (root / "Videos").mkdir(parents=True)
    (root / "Videos" / "a.avi").write_bytes(b"a")
    cache, asked = StageCache(tmp_path / "cache"), wanted(root)
    note_clips(asked, SET, [CLIP], cache)
    assert find_noted_clips(asked, cache) is not None

    if change == "content":
        (root / "Videos" / "a.avi").write_bytes(b"ab")
    elif change == "name":
        times = (root / "Videos").stat()
        (root / "Videos" / "a.avi").rename(root / "Videos" / "b.avi")
        os.utime(root / "Videos", ns=(times.st_atime_ns, times.st_mtime_ns))
    else:
        (root / "more.avi").touch()

    assert find_noted_clips(asked, cache) is None
