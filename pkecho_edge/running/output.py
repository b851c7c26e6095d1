"""The folder that a run writes: it appears whole or not at all, and replaces only its like."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pkecho_edge.bundle.layout import enclosing_bundle
from pkecho_edge.errors import UsageError
from pkecho_edge.files import scratch_folder

__all__ = ["SUMMARY", "check_output", "default_output", "output_folder"]

SUMMARY = "summary.json"
_SCHEMA_START = b'{\n  "schema": "pkecho-edge/run/'


def default_output(source: Path) -> Path:
    """NAME.run in the current folder, for a recording NAME.avi, or a folder NAME."""
    return Path(f"{source.stem or source.resolve().name}.run")


def check_output(out: Path, bundle: Path, source: Path, *, overwrite: bool) -> None:
    """Refuse, before any work is done, a folder that would not be written when it is done.

    Args:
        out: what is to be written.
        bundle, source: what is run on what; both must survive.
        overwrite: whether an earlier run's folder may be replaced.

    Raises:
        UsageError: it exists (with `overwrite`: and is not what a run wrote), lies in a bundle, or
            holds the source or the bundle.
    """
    if enclosing_bundle(out) is not None:
        raise UsageError(
            "lies in a bundle, which nothing but compile writes",
            path=out,
            remedy="Choose another place for it",
        )
    if not os.path.lexists(out):
        return
    if not overwrite:
        remedy = "Choose another --out" + (", or pass --overwrite" if _is_run(out) else "")
        raise UsageError("exists", path=out, remedy=remedy)
    if not _is_run(out):
        raise UsageError(
            "was not written by this command, so it is not replaced",
            path=out,
            remedy="Choose another --out",
        )
    for what, place in (("recording", source), ("bundle", bundle)):
        if place.resolve().is_relative_to(out.resolve()):
            raise UsageError(
                f"holds the {what}, so it is not replaced", path=out, remedy="Choose another --out"
            )


@contextmanager
def output_folder(out: Path, bundle: Path, source: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the block ends without an exception.

    Args:
        out, bundle, source, overwrite: as `check_output`, which is asked again at the end: another
            run may have written there meanwhile.

    Raises:
        UsageError: it cannot be written, or as `check_output`.
    """
    try:
        with scratch_folder(out.absolute().parent, out.name) as scratch:
            folder = scratch / "new"
            folder.mkdir()
            yield folder
            check_output(out, bundle, source, overwrite=overwrite)
            _move(folder, out.absolute(), scratch / "old")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot be written ({reason})",
            path=out,
            remedy="Check the folder, its permissions and the free space",
        ) from error


def _move(folder: Path, out: Path, aside: Path) -> None:
    """Rename into place; an older folder goes with the scratch folder, or back on failure."""
    if not os.path.lexists(out):
        folder.rename(out)
        return
    try:
        out.rename(aside)
        folder.rename(out)
    except BaseException:  # Ctrl-C between the two, for example
        if aside.exists() and not os.path.lexists(out):
            aside.rename(out)
        raise


def _is_run(out: Path) -> bool:
    """Whether the folder holds what this command writes."""
    if out.is_symlink() or not out.is_dir():
        return False
    try:
        with (out / SUMMARY).open("rb") as file:
            return file.read(len(_SCHEMA_START)) == _SCHEMA_START
    except OSError:
        return False
