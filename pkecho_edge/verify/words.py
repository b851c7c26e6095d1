"""How figures are written, the same on the terminal and on the page.

A figure that was not measured is a dash, never a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["NONE", "Document", "call_words", "data_words", "gate_limit", "gate_value", "interval"]
__all__ += ["machine_words", "memory_words", "number", "percentage", "signed"]

Document: TypeAlias = Mapping[str, Any]
"""Part of a report.json."""

NONE = "-"


def number(value: float | None, digits: int = 2) -> str:
    """For example "96.16"."""
    return NONE if value is None else f"{value:.{digits}f}"


def signed(metric: str, value: float | None) -> str:
    """For example "+0.02"; EF drift is an absolute difference and has no sign."""
    if value is None or metric == "ef":
        return number(value)
    return f"{round(value, 2) + 0.0:+.2f}"  # never -0.00


def interval(metric: str, summary: Document) -> str:
    """For example "-0.01..+0.06"."""
    if summary["low"] is None or summary["high"] is None:
        return NONE
    return f"{signed(metric, summary['low'])}..{signed(metric, summary['high'])}"


def percentage(share: float | None) -> str:
    """0.126 -> "12.6", without the sign."""
    return number(None if share is None else 100 * share, 1)


def gate_limit(gate: Document) -> str:
    """For example "<= 0.5"."""
    return f"{'>=' if gate['name'] == 'speedup' else '<='} {gate['limit']:g}"


def gate_value(gate: Document) -> str:
    """For example "0.0281 points"; "" where there is no value."""
    return "" if gate["value"] is None else f"{gate['value']:.3g} {gate['unit']}"


def data_words(mode: str, data: Document) -> str:
    """For example "12 clips of 6 patients (phantom, 320x320)"; a stream's are sequences."""
    sizes = [f"{height}x{width}" for height, width in data["image_sizes"]]
    details = ", ".join([*data["sources"], *sizes])
    what = "sequences" if mode == "stream" else "clips"
    words = f"{data['n_clips']} {what} of {data['n_patients']} patients"
    return f"{words} ({details})" if details else words


def call_words(mode: str, speed: Document) -> str:
    """What is timed, for example "10 frames per call"."""
    if mode == "stream":
        return "one result per new frame (baseline: whole window)"
    return f"{speed['frames_per_call']} frames per call"


def memory_words(speed: Document) -> str:
    """Sizes on disk and in memory, with what the latter counts."""
    size, peak = speed.get("engine_size_mb"), speed.get("peak_memory_mb")
    return (
        f"engine {number(size, 1)} MB on disk; peak memory {number(peak, 0)} MB "
        "(whole process, both sides)"
    )


def machine_words(machine: Document) -> str:
    """Whatever is known of processor, memory, system and versions, on one line."""
    cpu = machine.get("cpu") or {}
    flags = [flag for flag, present in (cpu.get("flags") or {}).items() if present]
    cores, memory = cpu.get("cores_usable"), machine.get("memory_gib")
    versions = [f"{name} {v}" for name, v in (machine.get("versions") or {}).items() if v]
    facts = [
        cpu.get("model"),
        f"{cores} cores" if cores else None,
        f"{memory} GiB" if memory else None,
        " ".join(flags),
        machine.get("os"),
        *versions,
    ]
    return ", ".join(str(fact) for fact in facts if fact) or "unknown"
