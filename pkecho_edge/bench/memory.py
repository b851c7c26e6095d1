"""This process's memory as Linux tells it; None elsewhere."""

from __future__ import annotations

from pathlib import Path

__all__ = ["peak_resident_mb", "resident_mb", "status_mb"]


def resident_mb() -> float | None:
    """Resident memory at this moment, in MB of 10^6 bytes."""
    return status_mb(_status(), "VmRSS")


def peak_resident_mb() -> float | None:
    """The most that was resident since the process started, in MB of 10^6 bytes."""
    return status_mb(_status(), "VmHWM")


def status_mb(text: str, field: str) -> float | None:
    """A field of /proc/PID/status, which are in KiB, in MB; None where it is missing."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024 / 1e6
    return None


def _status() -> str:
    try:
        return Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
