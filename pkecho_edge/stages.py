"""Stage folders: written beside their final place, renamed when whole, found again by content.

A stage's key is the SHA-256 of everything that goes into it. A second run with the same inputs
reuses the folder, if its files still have the hashes that were noted when it was finished; one
that a full disk, a crash or a hand has changed is made anew. A run that is killed leaves only a
`.partial` folder behind, which the next run deletes. How long each took is remembered beside them
(durations.py).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pkecho_edge.durations import durations, remember
from pkecho_edge.errors import UsageError
from pkecho_edge.files import feed_digest, scratch_folder, write_atomically

__all__ = [
    "LineObserver",
    "Observer",
    "SilentObserver",
    "StageCache",
    "StageResult",
    "default_cache",
]
__all__ += ["package_sha256"]

_HASHES = "hashes.json"


class Observer(Protocol):
    """Hears how the street goes on; the command line draws bars from it."""

    def start(self, stage: str, total: int | None) -> None:
        """A stage begins; total steps where they are known."""

    def advance(self) -> None:
        """One step of the current stage is done."""

    def describe(self, text: str) -> None:
        """How the current stage is going."""

    def done(self, note: str) -> None:
        """The current stage is over, with one line on what came of it."""


class SilentObserver:
    """Draws nothing."""

    def start(self, stage: str, total: int | None) -> None: ...

    def advance(self) -> None: ...

    def describe(self, text: str) -> None: ...

    def done(self, note: str) -> None: ...


class LineObserver:
    """Says one line on stderr when a stage is over, with what came of it and how long it took."""

    def __init__(self) -> None:
        self._stage, self._began = "", 0.0

    def start(self, stage: str, total: int | None) -> None:
        """Remembers when it began."""
        self._stage, self._began = stage, time.perf_counter()

    def advance(self) -> None:
        """Says nothing."""

    def describe(self, text: str) -> None:
        """Says nothing."""

    def done(self, note: str) -> None:
        """Says the line."""
        seconds = time.perf_counter() - self._began
        print(f"{self._stage}: {note} ({seconds:.1f} s)", file=sys.stderr)


def default_cache() -> Path:
    """$PKECHO_EDGE_CACHE, else the user's cache folder."""
    chosen = os.environ.get("PKECHO_EDGE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pkecho-edge"


@dataclass(frozen=True)
class StageResult:
    """A finished stage: its folder, its key, and whether it was there before."""

    folder: Path
    key: str
    reused: bool


@dataclass(frozen=True)
class StageCache:
    """All stage folders of one user."""

    root: Path

    def run(
        self,
        name: str,
        inputs: Mapping[str, object],
        work: Callable[[Path], object],
        alike: str = "",
    ) -> StageResult:
        """Reuse the finished stage of these inputs, or let `work` fill a new folder.

        Args:
            name: of the stage, for people who look into the cache.
            inputs: JSON values; hashes of files, configuration, tool versions.
            work: fills the empty folder it is given; an exception leaves nothing behind.
            alike: what else its duration depends on, such as the frames' size.

        Raises:
            UsageError: the cache folder cannot be written.
        """
        if (found := self.find(name, inputs)) is not None:
            return found
        key = self.key(name, inputs)
        final = self._folder(name, key)
        started = time.monotonic()
        try:
            with scratch_folder(self.root, final.name) as folder:
                work(folder)
                _note_hashes(folder)
                folder.chmod(0o755)
                _move(folder, final)
        except OSError as error:
            raise self._unwritable(error) from error
        self.remember(name, time.monotonic() - started, alike)
        return StageResult(final, key, reused=False)

    def find(self, name: str, inputs: Mapping[str, object]) -> StageResult | None:
        """The finished stage of these inputs, None where there is none or it is damaged."""
        key = self.key(name, inputs)
        final = self._folder(name, key)
        return StageResult(final, key, reused=True) if _is_intact(final) else None

    def forget(self, name: str, inputs: Mapping[str, object]) -> None:
        """Delete the stage of these inputs, so that it is made anew."""
        shutil.rmtree(self._folder(name, self.key(name, inputs)), ignore_errors=True)

    def _folder(self, name: str, key: str) -> Path:
        return self.root / f"{name}-{key[:24]}"

    def remember(self, name: str, seconds: float, alike: str = "") -> None:
        """Note how long a stage, or another part of a run, took; see `run` for `alike`."""
        remember(self.root, f"{name} {alike}".rstrip(), seconds)

    def durations(self, name: str, alike: str = "") -> tuple[float, ...]:
        """Seconds that it took on such a processor before, the newest last; maybe none."""
        return durations(self.root, f"{name} {alike}".rstrip())

    @staticmethod
    def key(name: str, inputs: Mapping[str, object]) -> str:
        """The SHA-256 by which a stage of these inputs is found again."""
        text = json.dumps([name, dict(inputs)], sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def keep(self, source: Path, sha256: str, kind: str) -> Path:
        """A copy of a file, found again at KIND/SHA256; one that is there and intact stays.

        Raises:
            UsageError: the cache folder cannot be written, or the file has other bytes by now.
        """
        kept = self.root / kind / sha256
        try:
            if not kept.is_file() or _sha256(kept) != sha256:
                data = source.read_bytes()
                if hashlib.sha256(data).hexdigest() != sha256:
                    raise UsageError("it has changed", path=source, remedy="Run again")
                with scratch_folder(self.root, sha256[:24]) as folder:
                    write_atomically(folder / sha256, data)
                    kept.parent.mkdir(exist_ok=True)
                    (folder / sha256).replace(kept)
        except OSError as error:
            raise self._unwritable(error) from error
        return kept

    def _unwritable(self, error: OSError) -> UsageError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        return UsageError(
            f"the cache cannot be written ({error.strerror or error})",
            path=self.root,
            remedy="Free some space, or set PKECHO_EDGE_CACHE to another folder"
            if full
            else "Set PKECHO_EDGE_CACHE to a folder that can be written",
        )


def package_sha256(*parts: str) -> str:
    """SHA-256 of this package's sources: a changed one makes its stages anew.

    Args:
        parts: folders and modules that count, as "data" or "training/lessons.py"; none: all.
    """
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if parts and name not in parts and name.partition("/")[0] not in parts:
            continue
        digest.update(f"{path.relative_to(root)}\0{_sha256(path)}\n".encode())
    return digest.hexdigest()


def _move(folder: Path, final: Path) -> None:
    """Rename a finished stage; if another run was faster, its content is the same."""
    if final.exists() and not _is_intact(final):
        shutil.rmtree(final)
    try:
        folder.rename(final)
    except OSError:
        if not _is_intact(final):
            raise


def _note_hashes(folder: Path) -> None:
    """Everything on the disk, and its hashes beside it."""
    hashes = _hashes(folder)
    for name in hashes:
        descriptor = os.open(folder / name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    write_atomically(folder / _HASHES, json.dumps(hashes, sort_keys=True).encode())


def _is_intact(folder: Path) -> bool:
    try:
        noted = json.loads((folder / _HASHES).read_bytes())
        return bool(noted == _hashes(folder))
    except (OSError, ValueError):
        return False


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a stage by its relative name, but for the list itself."""
    return {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _HASHES
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    feed_digest(digest, path)
    return digest.hexdigest()
