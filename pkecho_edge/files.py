"""Files and folders that appear whole or not at all, whenever the process dies.

A folder is filled under a hidden name beside its place and renamed when it is whole. While that
goes on, its maker holds an advisory lock on it, which ends with the process however it ends: that
is how the next run tells what a dead one abandoned from what a living one is filling.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = [
    "FolderBusy",
    "atomic_file",
    "claimed_folder",
    "exclusive_folder",
    "feed_digest",
    "scratch_folder",
    "write_atomically",
]

_PIECE = 1 << 20
_PARTIAL = ".partial"
_WRITING = ".pkecho.writing"
_SCRATCH = ".pkecho.partial"
"""Only such folders are swept: a cache may lie in a folder that holds other things, too."""


class FolderBusy(Exception):
    """A living process is filling the folder."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` as `atomic_file` does.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    with atomic_file(path) as file:
        file.write(data)


def feed_digest(digest: hashlib._Hash, path: Path) -> None:
    """Hash a file's bytes, read in pieces.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path`, that is flushed to the disk and renamed into place at the end.

    Missing parent folders are made. A failure leaves no partial file and an older file as it was;
    what a kill leaves, the next write of the same file deletes.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_WRITING}"):
        _forget(left)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=_WRITING, delete=False
    ) as file:
        try:
            _lock(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _forget(left: Path) -> None:
    """Delete what a dead write left; a living one holds a lock on it."""
    with suppress(OSError):
        descriptor = os.open(left, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            if _lock(descriptor):
                left.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new empty folder `.NAME.RANDOM.pkecho.partial`; several processes may have one each.

    What dead processes abandoned in `parent` is deleted first. The folder is deleted at the end,
    unless it was renamed.

    Raises:
        OSError: `parent` cannot be made or written to.
    """
    with _parents(parent):
        _sweep(parent)
        while True:
            folder = Path(tempfile.mkdtemp(_SCRATCH, f".{name}.", parent))
            claim = _claim(folder)
            if claim is not None:  # else another run swept it between the two lines
                break
        with _held(folder, claim):
            yield folder


@contextmanager
def exclusive_folder(parent: Path, name: str) -> Iterator[Path]:
    """The empty folder `.NAME.partial`, which one process at a time can have.

    What a dead process left in it is deleted first. The folder is deleted at the end, unless it
    was renamed.

    Raises:
        FolderBusy: a living process has it.
        OSError: `parent` cannot be made or written to.
    """
    folder = parent / f".{name}{_PARTIAL}"
    with _parents(parent):
        while True:
            folder.mkdir(exist_ok=True)
            claim = _claim(folder)
            if claim is not None:
                break
            if folder.exists():
                raise FolderBusy(folder)
        with _held(folder, claim):
            for left in folder.iterdir():
                _delete(left)
            yield folder


@contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """A folder that one process at a time can have, and that stays with what is in it.

    Raises:
        FolderBusy: a living process has it.
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    claim = _claim(folder)
    if claim is None:
        raise FolderBusy(folder)
    try:
        yield
    finally:
        os.close(claim)


@contextmanager
def _parents(folder: Path) -> Iterator[None]:
    """Make the folder and those above it; those that were made and end up empty go again."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # the first that is not empty ends it
            for path in made:
                path.rmdir()


@contextmanager
def _held(folder: Path, claim: int) -> Iterator[None]:
    """Delete the folder in the end if it is still the claimed one, then let go of it."""
    try:
        yield
    finally:
        if _is_same(folder, claim):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(claim)


def _claim(folder: Path, *, sure: bool = False) -> int | None:
    """A descriptor that locks the folder, None where another holds it or it is gone meanwhile.

    Where the file system cannot lock, the folder counts as free, unless one must be sure.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    locked = _lock(descriptor)
    if (not sure if locked is None else locked) and _is_same(folder, descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _lock(descriptor: int) -> bool | None:
    """Whether it is locked now; None where that cannot be told."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return None
    return True


def _is_same(folder: Path, descriptor: int) -> bool:
    """Whether the path still leads to the folder that was opened."""
    try:
        return os.path.samestat(os.lstat(folder), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sweep(parent: Path) -> None:
    """Delete the scratch folders that no living process holds."""
    for left in parent.glob(f".*{_SCRATCH}"):
        if not left.is_dir() or left.is_symlink():
            continue
        try:
            claim = _claim(left, sure=True)
        except PermissionError:
            continue  # another user's, in a cache that is shared
        if claim is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(claim)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
