"""What the verbs share: options, messages, progress bars, files for machines."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from pkecho_edge.cli.settings import Setting
from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["Bars", "DebugOption", "GatesOption", "JsonOption", "QuietOption", "SizeOption"]
__all__ += [
    "attempt",
    "check_file",
    "check_folder",
    "check_place",
    "console",
    "debugging",
    "errors",
    "parse_size",
]
__all__ += ["parse_split", "plain", "write_json"]

# emoji off: a file may be called a:heart:.pt
console = Console(highlight=False, emoji=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

_state = {"debug": False}


def debugging() -> bool:
    """Whether --debug was given."""
    return _state["debug"]


def _remember_debug(value: bool) -> bool:
    _state["debug"] = value
    return value


DebugOption = Annotated[
    bool,
    typer.Option("--debug", help="Show the traceback of an error.", callback=_remember_debug),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


def _check_json(path: Path | None) -> Path | None:
    if path is not None:
        check_file(path)
    return path


JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Also write the figures to this file.",
        metavar="FILE",
        callback=_check_json,
    ),
]
GatesOption = Annotated[
    Path | None,
    typer.Option(help="TOML file with a \\[gates] table.", metavar="FILE"),
    Setting(example="gates.toml"),
]


def parse_size(text: str) -> tuple[int, int]:
    """ "128" -> (128, 128), "96x128" -> (96, 128): height, then width.

    Raises:
        UsageError: another form, or an impossible size.
    """
    from pkecho_edge.frame_size import check_frame_size

    found = re.fullmatch(r"(\d{2,4})(?:x(\d{2,4}))?", text)
    if not found:
        raise UsageError(f"size {text!r} is not N or HxW", remedy="Write for example 128 or 96x128")
    height = int(found[1])
    return check_frame_size((height, int(found[2] or height)))


SizeOption = Annotated[
    str,
    typer.Option(help="Frame size, N or HxW: multiples of 32 from 96 to 640.", metavar="SIZE"),
    Setting(check=parse_size),
]


def parse_split(text: str) -> str | None:
    """A dataset's split by its name in capitals; None, every recording, for "ALL"."""
    return None if text.upper() == "ALL" else text.upper()


def plain(text: object) -> str:
    """For printing: on one line, and no markup or control character of a file's making."""
    return escape("".join(c if c.isprintable() else " " for c in str(text)))


def check_file(path: Path) -> None:
    """Refuse, before any work is done, a file that could not be written when it is done.

    Raises:
        UsageError: a folder, a device, in a place that cannot be written, or a file that is no
            text: a slip must not cost a checkpoint.
    """
    check_place(path)
    if path.is_dir() or (path.exists() and not path.is_file()):
        what = "is a folder" if path.is_dir() else "is not a regular file"
        raise UsageError(what, path=path, remedy="Name a file to write")
    if path.exists() and not _is_text(path):
        raise UsageError(
            "exists and holds something else, so it is not overwritten",
            path=path,
            remedy="Choose another name",
        )


def _is_text(path: Path) -> bool:
    """Whether a file is text or cannot be read; a first part of it tells."""
    try:
        with path.open("rb") as file:
            start = file.read(65536)
    except OSError:
        return True
    return b"\0" not in start


def check_folder(path: Path) -> None:
    """Refuse, before any work is done, a folder that could not be filled when it is done.

    Raises:
        UsageError: a file, or in a place that cannot be written.
    """
    check_place(path)
    if os.path.lexists(path) and not path.is_dir():
        raise UsageError("is not a folder", path=path, remedy="Name a folder to write into")


def check_place(path: Path) -> None:
    """The path can exist outside of any bundle, and the nearest folder takes new entries."""
    from pkecho_edge.bundle.layout import enclosing_bundle

    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # a name too long, a file taken for a folder, a NUL
        raise _unwritable(path, error) from error
    if enclosing_bundle(path) is not None:
        raise UsageError(
            "lies in a bundle, which nothing but compile writes",
            path=path,
            remedy="Choose another place for it",
        )
    place = path.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        raise _unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _unwritable(path: Path, error: OSError | ValueError) -> UsageError:
    reason = getattr(error, "strerror", None) or str(error)
    return UsageError(
        f"cannot be written ({reason})", path=path, remedy="Choose another place for it"
    )


def attempt(write: Callable[[], None]) -> UsageError | None:
    """Why something could not be written; None where it was.

    What is written last must not hide a gate that failed: check the gates, then raise this.
    """
    try:
        write()
    except UsageError as error:
        return error
    return None


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        UsageError: the folder cannot be written.
    """
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; what is no Unicode is written as escapes.

    Raises:
        UsageError: the folder cannot be written.
    """
    from pkecho_edge.files import write_atomically

    try:
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise _unwritable(path, error) from error


class Bars:
    """Progress of the street on the terminal: one line per stage, a bar while it runs."""

    def __init__(self, quiet: bool = False, *, width: int = 24) -> None:
        from rich import progress  # a help page shows no bars

        self._quiet = quiet
        self._progress = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=width),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=quiet or not console.is_interactive,
        )
        self._task: TaskID | None = None
        self._stage = ""
        self._has_told = False

    @property
    def quiet(self) -> bool:
        """Whether nothing is printed."""
        return self._quiet

    def start(self, stage: str, total: int | None) -> None:
        """See stages.Observer."""
        self._stage = stage
        self._task = self._progress.add_task(stage, total=total)

    def advance(self) -> None:
        """See stages.Observer."""
        if self._task is not None:
            self._progress.advance(self._task)

    def describe(self, text: str) -> None:
        """Say beside the bar how the stage is going."""
        if self._task is not None:
            self._progress.update(self._task, description=f"{self._stage}  {text}")

    def done(self, note: str) -> None:
        """See stages.Observer."""
        if self._task is None:
            return
        seconds = self._progress.tasks[self._progress.task_ids.index(self._task)].elapsed or 0.0
        self._progress.remove_task(self._task)
        self._task = None
        if not self._quiet:
            self._has_told = True
            console.print(
                f"[green]✓[/] {self._stage:<24} {plain(note)} [dim]({seconds:.1f} s)[/]",
                soft_wrap=True,
            )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        if self._has_told and not console.is_interactive:
            console.print()  # what follows stands apart from the stages
