"""The C library, built once for all its tests, in build/firmware-tests of the checkout."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.firmware.library import Library
from tests.firmware.small_bundle import write_small_bundle
from tests.firmware.trust_program import Library as TrustLibrary

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


@pytest.fixture(scope="session")
def pkecho(firmware_build: Path) -> Library:
    """libpkecho itself, through ctypes."""
    return Library(firmware_build)


@pytest.fixture
def library(firmware_build: Path, tmp_path: Path) -> TrustLibrary:
    """What it says of bundles, through the program pkecho-trust."""
    return TrustLibrary.of(firmware_build, tmp_path)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that nobody changes."""
    out = tmp_path_factory.mktemp("original") / "heart.pkb"
    write_small_bundle(out)
    return out


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
