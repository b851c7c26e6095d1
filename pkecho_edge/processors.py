"""The processors that this process may use."""

from __future__ import annotations

import os

__all__ = ["allowed_cores"]


def allowed_cores() -> int:
    """Cores in this process's affinity; all of the machine's where the system has none."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
