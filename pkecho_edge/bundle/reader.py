"""Open a bundle and check it against its manifest.

A bundle may come from anywhere. Until `check_bundle` has passed (and the signature, where one is
asked for), no file in it is to be trusted, and the manifest is only known to be well formed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pkecho_edge.bundle.layout import MANIFEST, SIGNATURE
from pkecho_edge.bundle.manifest import FileEntry, Manifest
from pkecho_edge.bundle.safe_read import hash_regular_file, read_regular_file
from pkecho_edge.bundle.strict_json import MAX_BYTES
from pkecho_edge.errors import IntegrityError, UsageError
from pkecho_edge.targets.base import Engine

__all__ = ["Bundle", "check_bundle", "check_security_version", "read_bundle"]

_MAX_READ = 1 << 30
_REMEDY = "Fetch or build the bundle again"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Attributes:
        path: its folder, absolute.
        manifest: what manifest.json says.
        manifest_sha256: of the bytes of manifest.json that were parsed.
    """

    path: Path
    manifest: Manifest
    manifest_sha256: str

    def engine(self, mode: str = "clip") -> Engine:
        """The engine of one mode, its directory absolute.

        Raises:
            EnvironmentMismatch: the bundle has none for this mode.
        """
        return self.manifest.engine(mode).engine(self.manifest.target, self.path)

    def read(self, path: str) -> bytes:
        """The content of a listed file, hashed before it is returned: nothing can swap it between.

        Raises:
            IntegrityError: not listed, missing, or other bytes than the manifest lists.
        """
        for entry in self.manifest.all_files:
            if entry.path == path:
                data = read_regular_file(self.path / path, min(entry.size, _MAX_READ))
                _compare(entry, self.path, len(data), hashlib.sha256(data).hexdigest())
                return data
        raise IntegrityError("is not listed in the manifest", path=self.path / path)


def read_bundle(path: Path | str) -> Bundle:
    """Read and parse manifest.json, once; no other file is looked at.

    Raises:
        UsageError: there is no such folder.
        IntegrityError: the manifest is missing, damaged or says what it must not.
        EnvironmentMismatch: it has another schema version.
    """
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise UsageError("is not a bundle folder", path=path, remedy="Check the path")
    if not os.path.lexists(folder / MANIFEST):
        remedy = f"{_REMEDY}; a folder of recordings is named with --data"
        raise IntegrityError("is missing", path=folder / MANIFEST, remedy=remedy)
    data = read_regular_file(folder / MANIFEST, MAX_BYTES)
    manifest = Manifest.from_json(data, path=folder / MANIFEST)
    return Bundle(folder, manifest, hashlib.sha256(data).hexdigest())


def check_bundle(path: Path | str) -> Bundle:
    """Compare every file with the manifest: nothing missing, changed, added or linked.

    The signature is not looked at; an unsigned bundle passes.

    Raises:
        UsageError, EnvironmentMismatch: as `read_bundle`.
        IntegrityError: naming the first file that does not fit.
    """
    bundle = read_bundle(path)
    listed = {entry.path for entry in bundle.manifest.all_files}
    folders = {str(parent) for path in listed for parent in PurePosixPath(path).parents}
    for name, is_folder in _walk(bundle.path, folders):
        if not is_folder and name not in listed and name not in (MANIFEST, SIGNATURE):
            raise IntegrityError(
                "is not listed in the manifest",
                path=bundle.path / name,
                remedy="Keep other files out of the bundle's folder",
            )
    for entry in bundle.manifest.all_files:
        size = _size(bundle.path / entry.path)
        if size != entry.size:  # before hashing: the file may be endless
            _compare(entry, bundle.path, size, "")
        _compare(entry, bundle.path, *hash_regular_file(bundle.path / entry.path))
    return bundle


def check_security_version(bundle: Bundle, minimum: int) -> None:
    """Refuse a bundle older than the caller accepts: anti-rollback.

    It is worth as much as the check of the signature before it: anybody can write a high number
    into a manifest that nobody signed.

    Args:
        bundle: checked, and its signature too.
        minimum: the highest version that was ever accepted, kept by the caller.

    Raises:
        IntegrityError: its security version is lower.
    """
    found = bundle.manifest.security_version
    if found < minimum:
        raise IntegrityError(
            f"has security version {found}, older than the minimum of {minimum}",
            path=bundle.path,
            remedy=f"Use a bundle that was compiled with --security-version {minimum} or higher",
        )


def _walk(root: Path, folders: set[str], below: str = "") -> Iterator[tuple[str, bool]]:
    """Path relative to root, and whether it is a folder; only folders with listed files pass."""
    for item in _listing(root / below):
        name = f"{below}/{item.name}" if below else item.name
        mode = item.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise IntegrityError("is a symbolic link", path=root / name, remedy=_REMEDY)
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise IntegrityError("is not a regular file", path=root / name, remedy=_REMEDY)
        if stat.S_ISDIR(mode) and name not in folders:
            raise IntegrityError("is a folder without listed files", path=root / name)
        yield name, stat.S_ISDIR(mode)
        if stat.S_ISDIR(mode):
            yield from _walk(root, folders, name)


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return sorted(items, key=lambda item: item.name)
    except OSError as error:
        raise IntegrityError(f"cannot be read ({error.strerror})", path=folder) from error


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError as error:
        raise IntegrityError("is missing", path=path, remedy=_REMEDY) from error


def _compare(entry: FileEntry, root: Path, size: int, sha256: str) -> None:
    if size != entry.size:
        what = f"has {size} bytes, the manifest lists {entry.size}"
    elif sha256 != entry.sha256:
        what = f"has SHA-256 {sha256[:12]}..., the manifest lists {entry.sha256[:12]}..."
    else:
        return
    raise IntegrityError(what, path=root / entry.path, remedy=_REMEDY)
