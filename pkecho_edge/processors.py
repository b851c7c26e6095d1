"""The processors that this process may use, and what they can do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Int8Support", "allowed_cores", "computes_bf16", "cpu_flags", "int8_support"]
__all__ += ["sums_products_exactly"]


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


@dataclass(frozen=True)
class Int8Support:
    """What a processor makes of INT8.

    Attributes:
        name: the best feature that it has for it.
        speed, accuracy: a sentence each.
    """

    name: str
    speed: str
    accuracy: str


def int8_support(flags: frozenset[str], machine: str) -> Int8Support:
    """Of the instruction sets in /proc/cpuinfo.

    Args:
        flags: as `cpu_flags`; empty where that is not known.
        machine: as platform.machine(): "x86_64", "aarch64".
    """
    if not flags:
        return Int8Support("unknown", "The system does not say what it can do.", _UNSURE)
    if flags & {"avx512_vnni", "avx_vnni"}:
        if "amx_int8" in flags:
            fast = "INT8 convolutions peak at four times what VNNI reaches."
            return Int8Support("AMX", fast, _EXACT)
        name = "AVX512-VNNI" if "avx512_vnni" in flags else "AVX-VNNI"
        return Int8Support(name, "INT8 is several times as fast as FP32.", _EXACT)
    if "asimddp" in flags:
        if "i8mm" in flags:
            own = "INT8 has instructions of its own; none was timed."
            return Int8Support("Arm i8mm", own, _EXACT)
        return Int8Support("Arm dotprod", "INT8 has dot products; none was timed.", _EXACT)
    if machine in ("aarch64", "arm64"):
        return Int8Support("Arm, no dot products", "INT8 may gain nothing over FP32.", _UNSURE)
    if "avx2" in flags:
        return Int8Support("AVX2 only", "INT8 gains less over FP32 than with VNNI.", _SATURATES)
    return Int8Support("none", "INT8 may gain nothing over FP32.", _SATURATES)


_EXACT = "Products are summed in 32 bits: 8-bit weights are exact, and target cpu uses them."
_SATURATES = (
    "Two products are summed in 16 bits and saturate, so target cpu takes 7-bit weights by itself "
    "(scheme cpu-avx2); an engine with 8-bit weights from elsewhere can give other masks here."
)
_UNSURE = "Verify an engine here before it is trusted: sums of 8-bit products may saturate."
