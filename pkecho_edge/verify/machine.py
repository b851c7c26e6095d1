"""What a report says about the machine that its figures were measured on.

Read from the operating system and from installed packages' metadata; nothing heavy is imported
and nothing that names the machine or its user (host name, address, account) is recorded.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pkecho_edge.processors import allowed_cores

__all__ = ["machine_facts", "peak_memory_mb"]

MachineFacts = dict[str, object]
"""JSON-ready: strings, numbers, booleans, None, lists and dicts of them."""

PACKAGES = ("pkecho-edge", "numpy", "torch", "openvino", "onnxruntime", "nncf")

_FLAGS = {
    "avx2": ("avx2",),
    "avx512_vnni": ("avx512_vnni",),
    "avx_vnni": ("avx_vnni",),
    "bf16": ("avx512_bf16", "avx_bf16", "bf16"),
    "fp16": ("avx512_fp16", "asimdhp"),
    "amx_int8": ("amx_int8",),
    "amx_bf16": ("amx_bf16",),
    "dotprod": ("asimddp",),
    "i8mm": ("i8mm",),
}
"""Instruction sets that decide INT8 and half-precision speed -> their names in /proc/cpuinfo."""

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def machine_facts() -> MachineFacts:
    """Processor, memory, system and versions; a fact that cannot be read is None.

    Returns:
        `cpu {model, architecture, cores_usable, clock_mhz, governor, flags {name: bool}}`,
        `memory_gib`, `load_average` (1 minute, at the time of the call), `os`, `python`,
        `threads {variable: value}` and `versions {package: version or None}`.
    """
    cpuinfo = _read(Path("/proc/cpuinfo"))
    return {
        "cpu": {
            **parse_cpuinfo(cpuinfo),
            "architecture": platform.machine(),
            "cores_usable": usable_cores(),
            "governor": _read(_GOVERNOR) or None,
        },
        "memory_gib": _memory_gib(_read(Path("/proc/meminfo"))),
        "load_average": _load_average(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "threads": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        "versions": package_versions(PACKAGES),
    }


def parse_cpuinfo(text: str) -> MachineFacts:
    """`model`, `clock_mhz` and `flags` out of the text of /proc/cpuinfo (x86 or Arm).

    The clock is the first core's at this moment. Without text, the model is what Python knows
    of the processor and every flag is None: unknown is not the same as absent.
    """
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    present = set((fields.get("flags") or fields.get("features") or "").split())
    clock = fields.get("cpu mhz")
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine() or None,
        "clock_mhz": float(clock) if clock else None,
        "flags": {
            flag: any(name in present for name in names) if present else None
            for flag, names in _FLAGS.items()
        },
    }


def usable_cores() -> int:
    """Cores this process may run on: its affinity, cut by a control group's CPU quota."""
    cores = allowed_cores()
    return min(cores, _quota_cores(_read(Path("/sys/fs/cgroup/cpu.max"))) or cores)


def _quota_cores(text: str) -> int | None:
    """Whole cores of a cgroup v2 quota such as "200000 100000", None for "max" or no quota."""
    quota, _, period = text.partition(" ")
    if not quota.isdigit() or not period.isdigit():
        return None
    return max(1, int(quota) // int(period))


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Installed versions from package metadata, without importing any; None where missing."""
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def peak_memory_mb() -> float | None:
    """Highest resident set of this whole process since it started, in MB of 10^6 bytes.

    It includes Python, every imported toolchain, the baseline and the engine together: an upper
    bound for what the engine needs, not its footprint. None where the system does not say.
    """
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    unit = 1 if platform.system() == "Darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _memory_gib(meminfo: str) -> float | None:
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) / 2**20, 1)
    return None


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _read(path: Path) -> str:
    """The text of a system file, "" where there is none."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
