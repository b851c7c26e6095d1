"""The NVIDIA GPU that torch would use: whether there is one, and what code for it is called."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import re
from importlib import metadata
from pathlib import Path

__all__ = ["NO_GPU", "architecture", "missing_cuda"]

NO_GPU = "no NVIDIA GPU that torch can use"


def missing_cuda() -> str | None:
    """What keeps an installed torch from a GPU, without importing it; None where nothing does."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None
    said = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    if not re.search(r"^cuda\b[^=]*= *['\"]", said, re.MULTILINE):
        version = metadata.version("torch")
        return f"this torch, {version}, is for the CPU only; install the one for CUDA"
    return None if _gpus() else NO_GPU


def _gpus() -> int:
    """How many the driver sees; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


def architecture(device: str) -> str:
    """What code is generated for: "sm_90" on a Hopper GPU, the processor's family on a CPU."""
    import torch

    if device == "cpu":
        return platform.machine()
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"
