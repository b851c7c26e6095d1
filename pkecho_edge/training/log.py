"""log.csv: a row per step, and the picture of it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import UnusableInput, UsageError
from pkecho_edge.figures import empty_figure
from pkecho_edge.files import write_atomically

__all__ = ["COLUMNS", "StepLog", "draw_curve", "open_log"]

_FREE = "Free some space and resume"

COLUMNS = ("step", "epoch", "loss", "dsc", "learning_rate", "validation_dsc")


class StepLog:
    """Rows of an open CSV file; without a file, nothing happens.

    Both methods raise UsageError where the disk is full.
    """

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    def write(self, row: Mapping[str, object]) -> None:
        """Append a row of COLUMNS; None becomes an empty cell."""
        if self._file is not None:
            with _said(Path(self._file.name), _FREE):
                csv.writer(self._file, lineterminator="\n").writerow(
                    [_cell(row[name]) for name in COLUMNS]
                )

    def flush(self) -> None:
        """Everything written so far is on the disk."""
        if self._file is not None:
            with _said(Path(self._file.name), _FREE):
                self._file.flush()
                os.fsync(self._file.fileno())


@contextmanager
def _said(path: Path, remedy: str) -> Iterator[None]:
    """Turn what the operating system raises on writing into a UsageError."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", path=path, remedy=remedy
        ) from error


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)


@contextmanager
def open_log(path: Path, *, keep: int, enabled: bool) -> Iterator[StepLog]:
    """Open a log to append to; its folder is made if it is missing.

    Args:
        path: of the CSV file.
        keep: rows up to this step stay, those of a run that went further and was killed go.
        enabled: False for a process that must not write.

    Raises:
        UsageError: it cannot be written.
    """
    if not enabled:
        yield StepLog(None)
        return
    with _said(path, "Choose another --out"):
        rows = _up_to(keep, _rows(path)) if keep else []
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(path, buffer.getvalue().encode())
        file = path.open("a", newline="", encoding="utf-8")
    try:
        yield StepLog(file)
    finally:
        with suppress(OSError):  # on a full disk: what matters was flushed, and that was said
            file.close()


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of a log, empty where there is none.

    Raises:
        UnusableInput: it is no log of ours.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="")
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError("other columns")
            # a killed run may have left half a row
            return [row for row in reader if row["step"].isdecimal()]
    except (ValueError, csv.Error) as error:
        raise UnusableInput(
            f"is not a log of a training run ({error})", path=path, remedy="Move it away"
        ) from error


def _up_to(keep: int, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of steps 1 to `keep`; half a row may read "12" for "1234", and breaks the order."""
    kept: list[dict[str, str]] = []
    last = 0
    for row in rows:
        if last < int(row["step"]) <= keep:
            kept.append(row)
            last = int(row["step"])
    return kept


def draw_curve(log: Path, picture: Path) -> None:
    """Loss, batch DSC and validation DSC over the steps, as a PNG.

    Raises:
        MissingDependency: matplotlib is not installed.
        UnusableInput: `log` is no log.
        UsageError: the picture cannot be written.
    """
    figure = empty_figure(9, 3.4)
    rows = _rows(log)
    step, loss, dsc, validation = (
        np.array([float(row[name] or "nan") for row in rows])
        for name in ("step", "loss", "dsc", "validation_dsc")
    )
    left, right = figure.subplots(1, 2)
    left.plot(step, loss, color="0.8", linewidth=0.6)
    left.plot(step, _smooth(loss), color="#a34a00")
    left.set(xlabel="step", ylabel="loss, sum over refinements", title="training loss")
    right.plot(step, 100 * dsc, color="0.8", linewidth=0.6)
    right.plot(step, 100 * _smooth(dsc), color="#a34a00", label="batches")
    known = np.isfinite(validation)
    if known.any():
        right.plot(step[known], validation[known], ".-", color="#1f5fa8", label="validation")
    right.set(xlabel="step", ylabel="DSC, points", title="DSC of the last refinement")
    if len(dsc):
        right.set_ylim(float(np.clip(100 * np.nanpercentile(dsc, 5) - 2, 0, 98)), 100)
    right.legend(loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    with _said(picture, "Free some space; the checkpoints are written"):
        write_atomically(picture, buffer.getvalue())


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the steps around each, up to 25 to either side."""
    reach = 25
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    first, last = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    smooth: NDArray[np.float64] = (total[last] - total[first]) / np.maximum(last - first, 1)
    return smooth
