"""How long stages took on processors like this one, remembered in the cache for `--dry-run`.

It is a hint and no more: a file that cannot be read or written counts as empty, and of two runs
that write at once the slower one's figures stay.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pkecho_edge.files import write_atomically
from pkecho_edge.processors import allowed_cores, cpu_flags

__all__ = ["FILE", "durations", "remember"]

FILE = "durations.json"
_SCHEMA = "pkecho-edge/durations/1"
_KEPT = 8
_LONGEST_S = 1e9
_LARGEST_BYTES = 1 << 20


def durations(folder: Path, name: str) -> tuple[float, ...]:
    """Seconds that a stage took here before, the newest last; empty where that is not known."""
    found = _read(folder).get(_machine(), {}).get(name, [])
    return tuple(found)


def remember(folder: Path, name: str, seconds: float) -> None:
    """Note that a stage took so long; what cannot be written is forgotten."""
    known = _read(folder)
    here = known.setdefault(_machine(), {})
    here[name] = [*here.get(name, []), round(max(seconds, 0.0), 3)][-_KEPT:]
    text = json.dumps({"schema": _SCHEMA, "machines": known}, sort_keys=True) + "\n"
    with suppress(OSError):
        write_atomically(folder / FILE, text.encode())


def _read(folder: Path) -> dict[str, dict[str, list[float]]]:
    """machine -> stage -> seconds; what is damaged is left out."""
    try:
        path = folder / FILE
        if path.stat().st_size > _LARGEST_BYTES:
            return {}
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    machines = document.get("machines") if isinstance(document, dict) else None
    if not isinstance(machines, dict) or document.get("schema") != _SCHEMA:
        return {}
    stages = {machine: found for machine, found in machines.items() if isinstance(found, dict)}
    return {machine: _numbers(found) for machine, found in stages.items()}


def _numbers(found: Mapping[str, Any]) -> dict[str, list[float]]:
    def is_duration(value: object) -> bool:
        return type(value) in (int, float) and 0 <= value <= _LONGEST_S  # type: ignore[operator]

    lists = {name: values for name, values in found.items() if isinstance(values, list)}
    return {name: [float(v) for v in values if is_duration(v)] for name, values in lists.items()}


def _machine() -> str:
    """A cache may be shared: figures are those of processors with these features and cores."""
    facts = [platform.machine(), str(allowed_cores()), *sorted(cpu_flags())]
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:12]
