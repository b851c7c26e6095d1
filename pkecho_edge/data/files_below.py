"""The files of a dataset's folder, without those that this tool leaves there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["data_files"]

_OURS = (".safetensors", ".pkb", ".report", ".toml")


def data_files(root: Path) -> list[Path]:
    """Every regular file below a folder, sorted, or the one file that `root` is.

    Links are followed, those to folders, too; one that leads to a folder above it is left out.
    So are hidden files and folders, checkpoints, bundles, their reports and settings: they are no
    recordings. A folder that cannot be listed counts as empty.
    """
    return [root] if root.is_file() else sorted(_below(root, frozenset()))


def _below(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    try:
        facts = folder.stat()
        names = [name for name in os.listdir(folder) if _may_be_data(name)]
    except OSError:
        return
    here = (facts.st_dev, facts.st_ino)
    if here in above:
        return
    for name in names:
        path = folder / name
        if path.is_dir():
            yield from _below(path, above | {here})
        elif path.is_file():
            yield path


def _may_be_data(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix not in _OURS
