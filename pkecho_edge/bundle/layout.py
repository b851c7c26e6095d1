"""Where things lie in a bundle, and which names a file in it may have."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "DEVICE",
    "ENGINE",
    "GOLDEN",
    "MANIFEST",
    "MODEL",
    "MODEL_CARD",
    "REPORTS",
    "SBOM",
    "SIGNATURE",
    "check_name",
    "check_no_collision",
    "check_path",
    "enclosing_bundle",
]

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.minisig"
SBOM = "sbom.cdx.json"
MODEL_CARD = "MODEL_CARD.md"
MODEL, ENGINE, DEVICE, GOLDEN, REPORTS = "model", "engine", "device", "golden", "reports"

_FOLDERS = (MODEL, ENGINE, DEVICE, GOLDEN, REPORTS)
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@=-]{0,126}")
_MAX_LENGTH = 240


def enclosing_bundle(path: Path) -> Path | None:
    """The bundle that a path would lie in, or be; None outside of any."""
    place = Path(os.path.realpath(path))
    for folder in (place, *place.parents):
        if (folder / MANIFEST).is_file() and (folder / ENGINE).is_dir():
            return folder
    return None


def check_path(text: str) -> str:
    """The path itself when it may be listed: relative, plain ASCII names joined by "/".

    No part may be empty or start with a dot, so "..", absolute paths and hidden files are out;
    so are backslashes, colons and blanks, which other systems read differently. The file lies in
    model/, engine/, device/, golden/ or reports/, or is the SBOM or the model card.

    Raises:
        ValueError: anything else.
    """
    parts = check_name(text).split("/")
    if text not in (SBOM, MODEL_CARD) and (len(parts) < 2 or parts[0] not in _FOLDERS):
        raise ValueError(f"{text} has no place in a bundle")
    return text


def check_name(text: str) -> str:
    """The name itself when it is relative and plain, wherever in a bundle it may lie.

    Raises:
        ValueError: as `check_path` says.
    """
    if len(text) > _MAX_LENGTH or not all(_PART.fullmatch(part) for part in text.split("/")):
        raise ValueError(f"{text[:80]!a} is not a path that a bundle may hold")
    return text


def check_no_collision(paths: Iterable[str]) -> None:
    """Refuse a path given twice, also where only upper and lower case differ.

    Raises:
        ValueError: naming the path.
    """
    seen: set[str] = set()
    for path in paths:
        if path.casefold() in seen:
            raise ValueError(f"{path} is listed twice")
        seen.add(path.casefold())
