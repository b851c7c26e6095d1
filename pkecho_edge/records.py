"""Where the settings of a run are kept beside what it made, and when they go.

A record must never tell of another output than the one that it lies beside: whoever replaces an
output deletes the record first, and the command that was given writes the new one last.
"""

from __future__ import annotations

from pathlib import Path

from pkecho_edge.errors import UsageError

__all__ = ["HEADING", "forget_record", "is_record", "record_path"]

HEADING = "Settings of a run of `pkecho-edge "
"""How the first line of every record begins, after "# "; nothing that people write does."""


def record_path(output: Path) -> Path:
    """OUTPUT.toml beside OUTPUT.

    Raises:
        UsageError: a path without a name of its own, such as "." or "/".
    """
    if output.name in ("", ".."):
        raise UsageError("is no name for what a run makes", path=output, remedy="Name it in --out")
    return output.with_name(f"{output.name}.toml")


def is_record(path: Path) -> bool:
    """Whether a file begins as records do; False where it is missing or cannot be read."""
    begins = f"# {HEADING}".encode()
    try:
        with path.open("rb") as file:
            return file.read(len(begins)) == begins
    except OSError:
        return False


def forget_record(path: Path) -> None:
    """Delete a record; a file that is none stays.

    Raises:
        OSError: it cannot be deleted.
    """
    if is_record(path):
        path.unlink(missing_ok=True)
