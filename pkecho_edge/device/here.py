"""The device kit run on this very machine, where its TensorRT and its GPU are the bundle's."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pkecho_edge.errors import (
    AccuracyGateFailed,
    EnvironmentMismatch,
    IntegrityError,
    PkechoEdgeError,
    UnusableInput,
)

__all__ = ["KIT", "device_here", "may_be_device", "run_kit"]

KIT = "pkecho_device.py"
"""The kit's file, in this package and in a bundle's folder for the device."""

_ERRORS = {
    AccuracyGateFailed.exit_code: AccuracyGateFailed,
    EnvironmentMismatch.exit_code: EnvironmentMismatch,
    IntegrityError.exit_code: IntegrityError,
    UnusableInput.exit_code: UnusableInput,
}
_CHECK_TIMEOUT_S = 120


def device_here(kit: Path) -> str | None:
    """What this machine's device is, in words; None where the kit's plans cannot be built here.

    Looks for the `tensorrt` package and the driver first, which takes no time where they are
    missing, and asks the kit itself then: it knows its profile.

    Args:
        kit: pkecho_device.py in its bundle.
    """
    if not may_be_device():
        return None
    try:
        asked = subprocess.run(
            _command(kit, "--check"),
            capture_output=True,
            text=True,
            check=False,
            timeout=_CHECK_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = asked.stdout.splitlines()  # on the bundle, then on the device
    return lines[-1].strip() if asked.returncode == 0 and lines else None


def may_be_device() -> bool:
    """Whether TensorRT and a GPU's driver are here; only a kit can tell whether they fit."""
    return importlib.util.find_spec("tensorrt") is not None and _has_driver()


def run_kit(
    kit: Path, pack: Path | None, result: Path, say: Callable[[str], object], rounds: int
) -> None:
    """Build, test, time and score the plans of a bundle in this machine.

    Args:
        kit: pkecho_device.py in its bundle.
        pack: clips to score on, if any.
        result: file that the kit writes.
        say: hears a line at a time of what the kit is doing.
        rounds: timed calls of each plan.

    Raises:
        PkechoEdgeError: the kit's own error, as the class of its exit code.
    """
    command = _command(kit, "--result", str(result), "--rounds", str(rounds))
    command += ["--pack", str(pack)] if pack else []
    last = error_line = ""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                last = line.strip() or last
                if last.startswith("error: "):
                    error_line = last
                else:
                    say(last)
        except BaseException:
            process.terminate()  # it ends its own child
            raise
    if process.returncode:
        error = _ERRORS.get(process.returncode, PkechoEdgeError)
        # the kit's line ends with its own remedy
        raise error(error_line.removeprefix("error: ") or last or "the kit failed", path=kit)


def _command(kit: Path, *options: str) -> list[str]:
    return [sys.executable, str(kit), *options]


def _has_driver() -> bool:
    """Whether the GPU driver's library is there, as the kit will look for it."""
    try:
        ctypes.CDLL(os.environ.get("PKECHO_CUDA_LIBRARY", "libcuda.so.1"))
    except OSError:
        return False
    return True
