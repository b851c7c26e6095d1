"""Write a bundle: whole or not at all, the same bytes for the same inputs.

    with staging(out) as folder:            # .NAME.pkb.partial beside `out`
        add_engine(folder, engine)
        golden.write(folder / "golden" / "clip")
        ...                                 # verify the engine where it lies, write reports/
        bundle = finish(folder, manifest)   # hash, write the manifest, rename

A run that is killed leaves a `.partial` folder behind, which the next one replaces. Killed between
the two renames that replace an old bundle, it leaves the old one as `.NAME.pkb.old`; the next run
puts it back first.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pkecho_edge.bundle.golden import GoldenVectors
from pkecho_edge.bundle.layout import (
    ENGINE,
    GOLDEN,
    MANIFEST,
    MODEL,
    MODEL_CARD,
    REPORTS,
    SBOM,
    SIGNATURE,
    check_name,
)
from pkecho_edge.bundle.manifest import FileEntry, Manifest
from pkecho_edge.bundle.model_card import model_card
from pkecho_edge.bundle.reader import Bundle, read_bundle
from pkecho_edge.bundle.safe_read import hash_regular_file, read_regular_file
from pkecho_edge.bundle.sbom import sbom_json
from pkecho_edge.bundle.strict_json import MAX_BYTES
from pkecho_edge.errors import IntegrityError, UsageError
from pkecho_edge.files import FolderBusy, exclusive_folder
from pkecho_edge.records import forget_record, record_path
from pkecho_edge.targets.base import Engine

__all__ = ["add_engine", "add_files", "check_free", "finish", "staging", "write_bundle"]

_FILE_MODE, _FOLDER_MODE = 0o644, 0o755

_DOCUMENTS: Mapping[str, Callable[[Manifest], str]] = {SBOM: sbom_json, MODEL_CARD: model_card}
"""What is written from the manifest and the other files."""


@dataclass(frozen=True)
class _Destination:
    out: Path
    overwrite: bool


_open: dict[Path, _Destination] = {}
"""Where each folder that `staging` has handed out will be renamed to."""


@contextmanager
def staging(out: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `out` that `finish` turns into the bundle.

    It is removed when the block ends without `finish`, or with an exception.

    Args:
        out: the bundle's future path, for example heart.pkb; its parents are made.
        overwrite: replace the bundle that is there now.

    Raises:
        UsageError: `out` exists (with `overwrite`: and is no bundle), cannot be written to, or
            another run is writing it.
    """
    destination = _Destination(Path(out).absolute(), overwrite)
    _check_free(destination)
    parent, name = destination.out.parent, destination.out.name
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(exclusive_folder(parent, name))
        except FolderBusy as error:
            raise UsageError(
                "is being written by another run",
                path=out,
                remedy="Wait for it, or choose another name",
            ) from error
        except OSError as error:
            raise _unwritable(destination.out, error) from error
        _recover(destination.out)
        _check_free(destination)  # it may have appeared while another run held the folder
        _open[folder] = destination
        try:
            yield folder
        finally:
            del _open[folder]


def finish(folder: Path, manifest: Manifest) -> Bundle:
    """Write the SBOM, the model card and the manifest, and rename the folder to its place.

    Args:
        folder: of `staging`, holding model/, engine/, golden/ and reports/ as far as they exist.
        manifest: complete but for `files` and `reports.files`, which are made here.

    Raises:
        UsageError: `out` has appeared meanwhile or cannot be written to, or `folder` is not from
            `staging`.
        IntegrityError: a link or something else that is not a regular file, or a manifest that
            readers would refuse, for example because an engine file is not there.
        ValueError: a file name that a bundle may not hold.
    """
    if folder not in _open:
        raise UsageError("is not a folder that is being staged", path=folder)
    destination = _open[folder]
    with _writing(destination.out):
        for name in (MANIFEST, SIGNATURE, *_DOCUMENTS):
            (folder / name).unlink(missing_ok=True)
        _settle(folder)
        entries = _entries(folder)
        listed = _listing(manifest, entries)
        for name, document in _DOCUMENTS.items():
            _write(folder / name, document(listed))  # the SBOM names the other files' hashes
            entries.append(FileEntry(name, *hash_regular_file(folder / name)))
        manifest = _listing(manifest, entries)
        text = manifest.to_json()
        Manifest.from_json(text)  # what no reader would accept is not shipped
        _write(folder / MANIFEST, text)
        _sync(folder)
        _move(folder, destination)
    return read_bundle(destination.out)


def _listing(manifest: Manifest, entries: Iterable[FileEntry]) -> Manifest:
    """The manifest with these files, those of reports/ under `reports`, sorted by path."""
    ordered = sorted(entries, key=lambda entry: entry.path)
    reports = tuple(e for e in ordered if e.path.startswith(f"{REPORTS}/"))
    return replace(
        manifest,
        files=tuple(e for e in ordered if e not in reports),
        reports=replace(manifest.reports, files=reports),
    )


def write_bundle(
    out: Path | str,
    manifest: Manifest,
    *,
    engine: Engine,
    golden: GoldenVectors,
    model_files: Mapping[str, Path] | None = None,
    reports: Mapping[str, Path] | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle whose parts all exist already.

    Args:
        out: the bundle's future path.
        manifest: complete but for `files` and `reports.files`; its first engine is `engine`.
        engine: its files are copied.
        golden: the self-test's vectors.
        model_files, reports: name in model/ or reports/ -> file to copy.
        overwrite: replace the bundle that is there now.

    Raises:
        UsageError, IntegrityError, ValueError: as `staging` and `finish`.
    """
    with staging(out, overwrite=overwrite) as folder:
        entry = manifest.engines[0]
        add_engine(folder, engine, directory=entry.directory)
        golden.write(folder / GOLDEN / entry.mode)
        add_files(folder / MODEL, model_files or {})
        add_files(folder / REPORTS, reports or {})
        return finish(folder, manifest)


def add_engine(folder: Path, engine: Engine, *, directory: str = ENGINE) -> Engine:
    """Copy an engine's files into `directory` of a staged folder; returns the copy."""
    files = {name: engine.directory / name for name in engine.files}
    add_files(folder / directory, files)
    return replace(engine, directory=folder / directory)


def add_files(folder: Path, files: Mapping[str, Path]) -> None:
    """Copy files into a folder under the given names, which may hold "/"; contents only.

    Raises:
        UsageError: a file cannot be read or written.
        ValueError: a name that a bundle may not hold.
    """
    for name, source in files.items():
        target = folder / check_name(name)
        with _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8"))
    path.chmod(_FILE_MODE)
    _sync(path)


def _settle(folder: Path) -> None:
    """Fixed mode bits and no empty folders; everything on the disk before anything is renamed."""
    for below, _, names in os.walk(folder, topdown=False):
        here = Path(below)
        if here != folder and not any(here.iterdir()):
            here.rmdir()
            continue
        for name in names:
            if stat.S_ISREG((here / name).lstat().st_mode):
                (here / name).chmod(_FILE_MODE)
                _sync(here / name)
        here.chmod(_FOLDER_MODE)
        _sync(here)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entries(folder: Path) -> list[FileEntry]:
    """Every file below the folder, sorted by path; links and the like are refused by the hash."""
    found = [
        Path(below, name).relative_to(folder).as_posix()
        for below, folders, names in os.walk(folder)
        for name in (*names, *(f for f in folders if Path(below, f).is_symlink()))
    ]
    return [FileEntry(path, *hash_regular_file(folder / path)) for path in sorted(found)]


def check_free(out: Path | str, *, overwrite: bool = False) -> None:
    """Refuse, before any work, a place that `staging` would refuse because something is there.

    Raises:
        UsageError: as `staging`.
    """
    _check_free(_Destination(Path(out).absolute(), overwrite))


def _check_free(destination: _Destination) -> None:
    out = destination.out
    if not os.path.lexists(out):
        return
    if not destination.overwrite:
        remedy = "Choose another name" + (", or add --overwrite" if out.is_dir() else "")
        raise UsageError("exists already", path=out, remedy=remedy)
    if out.is_symlink() or not _is_bundle(out):
        raise UsageError(
            "exists and is not a bundle, so it is not overwritten",
            path=out,
            remedy="Choose another name",
        )


def _is_bundle(folder: Path) -> bool:
    """Whether the manifest claims to be one of ours, of any version, damaged or not."""
    try:
        return b'"pkecho-edge/bundle/' in read_regular_file(folder / MANIFEST, MAX_BYTES)
    except IntegrityError:
        return False


def _move(folder: Path, destination: _Destination) -> None:
    """Rename the finished folder into place; an old bundle is back in its place on failure."""
    out = destination.out
    _check_free(destination)
    forget_record(record_path(out))  # it tells of the old one
    if not os.path.lexists(out):
        folder.rename(out)
    else:
        aside = _aside(out)
        out.rename(aside)
        try:
            folder.rename(out)
        except BaseException:
            aside.rename(out)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    _sync(out.parent)


def _aside(out: Path) -> Path:
    """Where the old bundle lies while the new one moves in."""
    return out.with_name(f".{out.name}.old")


def _recover(out: Path) -> None:
    """Finish or undo a replacement that a dead run left half done."""
    aside = _aside(out)
    if not aside.is_dir() or aside.is_symlink():
        return
    if os.path.lexists(out):
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.rename(out)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say which path a disk that is full, read-only or gone was met at."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot be written ({error.strerror})",
        path=path,
        remedy="Check the folder, its permissions and the free space",
    )
