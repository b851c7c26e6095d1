"""The log of a run: what a kill or a full disk leaves of it, and its picture."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pkecho_edge.errors import UnusableInput, UsageError
from pkecho_edge.training import log
from pkecho_edge.training.log import COLUMNS, draw_curve, open_log

HEADER = ",".join(COLUMNS) + "\n"


def row(step: int) -> str:
    return f"{step},1,0.5,0.9,0.001,\n"


@pytest.mark.parametrize("torn", ["", "1", "12", "12,1,0.", "13,1,0.5,0.9,0.001"])
def test_what_a_killed_run_wrote_too_much_goes(tmp_path: Path, torn: str) -> None:
    """A row of step 12 or 13 may have been cut anywhere, also so that it reads as step 1."""
    path = tmp_path / "log.csv"
    path.write_text(HEADER + "".join(row(n) for n in range(1, 12)) + torn)

    with open_log(path, keep=10, enabled=True):
        pass

    assert path.read_text() == HEADER + "".join(row(n) for n in range(1, 11))


def test_another_table_is_not_overwritten_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("name,age\nx,3\n")

    with (
        pytest.raises(UnusableInput, match=r"log\.csv: is not a log of a training run"),
        open_log(path, keep=1, enabled=True),
    ):
        pass

    assert path.read_text() == "name,age\nx,3\n"


class FullDisk:
    """A file on a disk without space."""

    name = "run/log.csv"

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    flush = close = lambda self: self.write("")


@pytest.mark.parametrize("at", ["write", "flush"])
def test_a_full_disk_is_one_line(at: str) -> None:
    file = log.StepLog(FullDisk())  # type: ignore[arg-type]

    with pytest.raises(UsageError, match=r"run/log\.csv: cannot be written \(No space left"):
        file.write(dict.fromkeys(COLUMNS, 1)) if at == "write" else file.flush()


def test_a_full_disk_is_still_said_when_the_log_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing writes what is left in the buffer, and fails again."""
    monkeypatch.setattr(Path, "open", lambda *_, **__: FullDisk())

    with (
        pytest.raises(UsageError, match="cannot be written"),
        open_log(tmp_path / "log.csv", keep=0, enabled=True) as file,
    ):
        file.flush()


def test_the_curve_needs_one_step_and_says_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.csv").write_text(HEADER + row(1))

    draw_curve(tmp_path / "log.csv", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")

    monkeypatch.setattr(log, "write_atomically", lambda *_: FullDisk().write(""))
    with pytest.raises(UsageError, match=r"curve\.png: cannot be written"):
        draw_curve(tmp_path / "log.csv", tmp_path / "curve.png")
