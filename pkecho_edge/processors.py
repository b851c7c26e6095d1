"""The processors that this process may use, and what they can do."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["allowed_cores", "computes_bf16", "cpu_flags", "sums_products_exactly"]


def allowed_cores() -> int:
    """Cores in this process's affinity; all of the machine's where the system has none."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_flags() -> frozenset[str]:
    """Instruction sets by their names in /proc/cpuinfo; empty where the system has no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    named = (line.partition(":") for line in text.splitlines())
    lines = (value for name, _, value in named if name.strip().lower() in ("flags", "features"))
    return frozenset(next(lines, "").split())


def sums_products_exactly() -> bool:
    """Whether products of 8-bit numbers are summed in 32 bits: VNNI on x86, dot products on Arm.

    Without, two of them are summed in 16 bits and saturate, unless weights end at 63: what an INT8
    engine with 8-bit weights gives there is not what its graph says.
    """
    return bool(cpu_flags() & {"avx512_vnni", "avx_vnni", "asimddp"})


def computes_bf16() -> bool:
    """Whether the processor has products of bfloat16: without, they are slower than FP32's."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})
