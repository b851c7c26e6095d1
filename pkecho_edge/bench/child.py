"""A measurement in a process of its own, where nothing was loaded before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pkecho_edge.errors import PkechoEdgeError

__all__ = ["run_child"]


def run_child(
    module: str, arguments: tuple[str, ...], *, stdin: str = "", about: Path, remedy: str
) -> Any:
    """Run a module of this package; what it prints as JSON.

    Args:
        module: its name.
        arguments, stdin: for it.
        about: what it measures, named where it fails, with the remedy.

    Raises:
        PkechoEdgeError: it failed; the last line that it wrote to stderr is the reason.
    """
    command = [sys.executable, "-m", module, *arguments]
    child = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if child.returncode:
        lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        raise PkechoEdgeError(
            f"a measurement in a process of its own failed ({lines[-1]})",
            path=about,
            remedy=remedy,
        )
    return json.loads(child.stdout)
