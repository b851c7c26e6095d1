"""Whole or not at all, also when the process dies half-way or another one is at work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pkecho_edge.files import (
    FolderBusy,
    claimed_folder,
    exclusive_folder,
    scratch_folder,
    write_atomically,
)

HOLD = """
import sys, time
from pathlib import Path
from pkecho_edge.files import {function}
with {function}(Path(sys.argv[1]), "a") as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    time.sleep(60)
"""


def holding(function: str, parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process that is filling a folder, and that folder."""
    command = [sys.executable, "-c", HOLD.format(function=function), str(parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_file_is_written_with_its_parents(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "er" / "a.json", b"{}")
    assert (tmp_path / "deep" / "er" / "a.json").read_bytes() == b"{}"
    assert [p.name for p in (tmp_path / "deep" / "er").iterdir()] == ["a.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    write_atomically(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a", b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}


@pytest.mark.parametrize("function", [scratch_folder, exclusive_folder])
def test_a_folder_is_new_empty_and_gone_in_the_end(
    tmp_path: Path,
    function: type[scratch_folder],  # type: ignore[valid-type]
) -> None:
    with function(tmp_path / "made", "a") as folder:
        assert folder.parent == tmp_path / "made"
        assert list(folder.iterdir()) == []
        (folder / "b").mkdir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", [scratch_folder, exclusive_folder])
def test_a_renamed_folder_stays(tmp_path: Path, function: type[scratch_folder]) -> None:  # type: ignore[valid-type]
    with function(tmp_path, "a") as folder:
        folder.rename(tmp_path / "a")
        folder.mkdir()  # somebody else's by now
        (folder / "theirs").touch()
    assert {p.name for p in tmp_path.iterdir()} == {"a", folder.name}
    assert (folder / "theirs").exists()


def test_scratch_folders_of_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    process, theirs = holding("scratch_folder", tmp_path)
    try:
        with scratch_folder(tmp_path, "a") as ours:
            assert ours != theirs
        assert (theirs / "half").read_text() == "half"
    finally:
        kill(process)


def test_what_a_killed_run_abandoned_is_deleted_by_the_next(tmp_path: Path) -> None:
    process, theirs = holding("scratch_folder", tmp_path)
    kill(process)
    assert (theirs / "half").exists()

    with scratch_folder(tmp_path, "b"):
        assert not theirs.exists()


def test_an_exclusive_folder_is_had_by_one_process(tmp_path: Path) -> None:
    process, theirs = holding("exclusive_folder", tmp_path)
    try:
        with pytest.raises(FolderBusy), exclusive_folder(tmp_path, "a"):
            pass
        assert (theirs / "half").read_text() == "half"
        with exclusive_folder(tmp_path, "another"):
            pass
    finally:
        kill(process)

    with exclusive_folder(tmp_path, "a") as ours:
        assert ours == theirs
        assert list(ours.iterdir()) == []


def test_a_claimed_folder_is_had_by_one_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "state"
    with claimed_folder(folder):
        (folder / "half").write_text("half")
        with pytest.raises(FolderBusy), claimed_folder(folder):
            pass

    with claimed_folder(folder):
        assert (folder / "half").read_text() == "half"


def test_neither_files_nor_links_are_swept(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (tmp_path / ".x.partial").touch()
    (tmp_path / ".y.partial").symlink_to(precious)

    with scratch_folder(tmp_path, "a"):
        pass

    assert {p.name for p in tmp_path.iterdir()} == {"precious", ".x.partial", ".y.partial"}


def test_what_a_killed_write_left_is_deleted_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".report.json.abcdefgh.pkecho.writing"
    left.write_bytes(b"half")
    other = tmp_path / ".other.json.abcdefgh.pkecho.writing"
    other.write_bytes(b"half")

    write_atomically(tmp_path / "report.json", b"{}")

    assert {p.name for p in tmp_path.iterdir()} == {"report.json", other.name}


def test_folders_that_other_programs_left_stay(tmp_path: Path) -> None:
    (tmp_path / ".download.partial").mkdir()

    with scratch_folder(tmp_path, "a"):
        pass

    assert [p.name for p in tmp_path.iterdir()] == [".download.partial"]


def test_a_scratch_folder_of_another_user_does_not_stop_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / ".a.12345678.pkecho.partial"
    theirs.mkdir()
    real = os.open

    def forbidding(path: str | Path, *arguments: int) -> int:
        if Path(path) == theirs:
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", forbidding)
    with scratch_folder(tmp_path, "b") as ours:
        assert ours.is_dir()
    assert theirs.is_dir()
