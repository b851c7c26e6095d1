"""The C library, built once for all its tests, in build/firmware-tests of the checkout."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def firmware_build() -> Path:
    """The folder with libpkecho, its back-ends and the programs of the tests."""
    missing = [name for name in ("cmake", "g++", "pkg-config") if shutil.which(name) is None]
    if not missing and subprocess.run(["pkg-config", "--exists", "libsodium"]).returncode:
        missing = ["libsodium-dev"]
    if missing:
        pytest.skip(f"the C library is not built: {', '.join(missing)} not installed")
    pytest.importorskip("openvino", reason="the back-end for target cpu needs OpenVINO's headers")
    build = ROOT / "build" / "firmware-tests"
    with _alone(build):
        configure(build, "-DPKECHO_TESTS=ON", f"-DOpenVINO_DIR={openvino_cmake()}")
    return build


def configure(build: Path, *definitions: str, source: Path = ROOT / "firmware") -> None:
    """Configure with CMake and build what has changed."""
    for command in (
        ["cmake", "-S", str(source), "-B", str(build), *definitions],
        ["cmake", "--build", str(build), "--parallel", "2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def openvino_cmake() -> Path:
    """Where OpenVINO's package keeps what CMake needs."""
    import openvino

    return Path(openvino.__file__).parent / "cmake"


@contextmanager
def _alone(build: Path) -> Iterator[None]:
    """One process at a time: the others find everything built."""
    build.mkdir(parents=True, exist_ok=True)
    with (build / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
