"""Disks that are full or read-only, for real where a small one can be mounted."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkecho_edge.bundle.writer import staging
from pkecho_edge.cli import main as command_line
from pkecho_edge.errors import UsageError
from pkecho_edge.files import write_atomically
from pkecho_edge.stages import StageCache

from .full_disk import small_disk

MORE_THAN_THERE_IS = bytes(3 << 20)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of 2 MB."""
    try:
        with small_disk(tmp_path / "disk", 2) as place:
            yield place
    except PermissionError as error:
        pytest.skip(str(error))


@pytest.fixture
def read_only(disk: Path) -> Path:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    return disk


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """The exit code of the command line."""
    monkeypatch.setattr("sys.argv", ["pkecho-edge", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_stage_that_fills_the_disk_leaves_it_empty(disk: Path) -> None:
    def work(folder: Path) -> None:
        (folder / "small").write_bytes(b"small")
        (folder / "large").write_bytes(MORE_THAN_THERE_IS)

    with pytest.raises(UsageError, match=r"the cache cannot be written.*No space left"):
        StageCache(disk / "cache").run("export", {}, work)
    assert list(disk.iterdir()) == []


def test_a_checkpoint_that_does_not_fit_is_not_kept_in_part(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(MORE_THAN_THERE_IS)
    digest = hashlib.sha256(MORE_THAN_THERE_IS).hexdigest()
    with pytest.raises(UsageError, match="No space left"):
        StageCache(disk / "cache").keep(tmp_path / "weights", digest, "checkpoints")
    assert not [p for p in disk.rglob("*") if p.is_file()]


def test_a_file_that_does_not_fit_keeps_the_old_one(disk: Path) -> None:
    write_atomically(disk / "report.json", b"old")
    with pytest.raises(OSError, match="No space left"):
        write_atomically(disk / "report.json", MORE_THAN_THERE_IS)
    assert [(p.name, p.read_bytes()) for p in disk.iterdir()] == [("report.json", b"old")]


def test_a_bundle_that_does_not_fit_leaves_the_disk_empty(disk: Path) -> None:
    def fill() -> None:
        with staging(disk / "a.pkb") as folder:
            (folder / "weights.bin").write_bytes(MORE_THAN_THERE_IS)

    with pytest.raises(OSError, match="No space left"):
        fill()
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", "--size", "96", "--out", "DISK/a.pkb"],
        ["phantom", "--clips", "1", "--size", "96", "--out", "DISK/data"],
        ["demo", "--out", "DISK/demo"],
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_a_read_only_disk_is_said_in_one_line(
    read_only: Path,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [argument.replace("DISK", str(read_only)) for argument in arguments]

    assert run(monkeypatch, *given, "--quiet") == 2

    printed = capsys.readouterr().err.strip()
    assert f"{read_only}/" in printed
    assert "cannot be written (" in printed
    assert printed.startswith("error: ")
    assert "\n" not in printed


def test_a_read_only_cache_is_said_in_one_line(
    read_only: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PKECHO_EDGE_CACHE", str(read_only))
    out = tmp_path / "out" / "a.pkb"

    assert run(monkeypatch, "compile", "--clips", "1", "--size", "96", "--out", out, "-q") == 2

    printed = capsys.readouterr().err.strip()
    assert "the cache cannot be written (Read-only file system)" in printed
    assert "\n" not in printed
    assert list(tmp_path.iterdir()) == [read_only]
