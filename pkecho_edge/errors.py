"""Every error that pkecho-edge raises on purpose, and the exit code each one ends with.

    PkechoEdgeError                 1  internal error
    ├── UsageError                  2  the command line does not make sense
    ├── AccuracyGateFailed          3  the engine loses more accuracy than a gate allows
    ├── SpeedGateFailed             4  the engine is slower than a gate allows
    ├── EnvironmentMismatch         5  built for X, this is Y
    │   └── MissingDependency       5  a package is not installed
    ├── IntegrityError              6  a hash, a signature or the file list does not match; too old
    ├── UnusableInput               7  an input file cannot be used
    │   ├── CheckpointError         7  a checkpoint that cannot be loaded
    │   ├── RecordingError          7  a video or its labels that cannot be read
    │   ├── DatasetError            7  a folder that is not the dataset it should be
    │   └── CalibrationError        7  a calibration set that must not be used
    └── VerificationIncomplete      8  a gate could not be measured

An error is one line: what is wrong, in which file, and what to do about it.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "AccuracyGateFailed",
    "CalibrationError",
    "CheckpointError",
    "DatasetError",
    "EnvironmentMismatch",
    "IntegrityError",
    "MissingDependency",
    "PkechoEdgeError",
    "RecordingError",
    "SpeedGateFailed",
    "UnusableInput",
    "UsageError",
    "VerificationIncomplete",
]


class PkechoEdgeError(Exception):
    """Base of all errors raised on purpose.

    Args:
        what: what is wrong, without a final full stop.
        path: the file or folder it is about, if there is one.
        remedy: what the reader should do next, an imperative sentence.
    """

    exit_code = 1

    def __init__(self, what: str, *, path: Path | str | None = None, remedy: str = "") -> None:
        self.what = what
        self.path = None if path is None else Path(path)
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        """The whole message on one line, whatever its parts contained."""
        where = "" if self.path is None else f"{self.path}: "
        remedy = f". {self.remedy}" if self.remedy else ""
        return " ".join(f"{where}{self.what}{remedy}".split())


class UsageError(PkechoEdgeError):
    """The command line or the configuration does not make sense."""

    exit_code = 2


class AccuracyGateFailed(PkechoEdgeError):
    """The engine loses more accuracy against the baseline than a gate allows."""

    exit_code = 3


class SpeedGateFailed(PkechoEdgeError):
    """The engine is slower than a gate allows."""

    exit_code = 4


class EnvironmentMismatch(PkechoEdgeError):
    """Something was built for another version, machine or runtime than this one."""

    exit_code = 5


class MissingDependency(EnvironmentMismatch):
    """A package that this step needs is not installed."""


class IntegrityError(PkechoEdgeError):
    """A bundle's bytes are not the ones its manifest lists, or it is older than is accepted."""

    exit_code = 6


class UnusableInput(PkechoEdgeError):
    """An input file cannot be used as what it was given for."""

    exit_code = 7


class CheckpointError(UnusableInput):
    """A checkpoint is missing, damaged, unsafe or for another network."""


class RecordingError(UnusableInput):
    """A recording or its labels cannot be read."""


class DatasetError(UnusableInput):
    """A folder does not hold the dataset it was given as."""


class CalibrationError(UnusableInput):
    """A calibration set is empty, stale or overlaps the verification clips."""


class VerificationIncomplete(PkechoEdgeError):
    """No gate failed, but at least one could not be measured."""

    exit_code = 8
