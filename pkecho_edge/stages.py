"""Stage folders: written beside their final place, renamed when whole, found again by content.

A stage's key is the SHA-256 of everything that goes into it. A second run with the same inputs
reuses the folder; a run that is killed leaves only a `.partial` folder behind, which the next run
of the same stage replaces.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pkecho_edge.errors import UsageError

__all__ = ["Observer", "SilentObserver", "StageCache", "StageResult", "default_cache"]


class Observer(Protocol):
    """Hears how the street goes on; the command line draws bars from it."""

    def start(self, stage: str, total: int | None) -> None:
        """A stage begins; total steps where they are known."""

    def advance(self) -> None:
        """One step of the current stage is done."""

    def done(self, note: str) -> None:
        """The current stage is over, with one line on what came of it."""


class SilentObserver:
    """Draws nothing."""

    def start(self, stage: str, total: int | None) -> None: ...

    def advance(self) -> None: ...

    def done(self, note: str) -> None: ...


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
        self, name: str, inputs: Mapping[str, object], work: Callable[[Path], object]
    ) -> StageResult:
        """Reuse the finished stage of these inputs, or let `work` fill a new folder.

        Args:
            name: of the stage, for people who look into the cache.
            inputs: JSON values; hashes of files, configuration, tool versions.
            work: fills the empty folder it is given; an exception leaves nothing behind.

        Raises:
            UsageError: the cache folder cannot be written.
        """
        text = json.dumps([name, dict(inputs)], sort_keys=True, allow_nan=False)
        key = hashlib.sha256(text.encode()).hexdigest()
        final = self.root / f"{name}-{key[:24]}"
        if final.is_dir():
            return StageResult(final, key, reused=True)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(".partial", f".{final.name}.", self.root))
        except OSError as error:
            raise UsageError(
                f"the cache cannot be written ({error.strerror})",
                path=self.root,
                remedy="Set PKECHO_EDGE_CACHE to a folder that can",
            ) from error
        try:
            work(partial)
            partial.chmod(0o755)
            try:
                partial.rename(final)
            except OSError:
                if not final.is_dir():
                    raise
                # another run finished the same stage first; its content is the same
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return StageResult(final, key, reused=False)
