"""The C library for 64-bit Arm, cross-compiled with Debian's toolchain and run by qemu-user.

Emulation says whether results are right, never how fast they are. The stages and the stream run on
the tests' own back-end; with PKECHO_AARCH64_OPENVINO naming an unpacked aarch64 wheel of OpenVINO,
and PKECHO_AARCH64_BUNDLE a bundle, its golden self-test runs on the real one, which takes minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.firmware.conftest import ROOT, configure
from tests.firmware.fake_bundle import write_fake_bundle

_ARM = Path("/usr/lib/aarch64-linux-gnu")
_EMULATED = ("qemu-aarch64-static", "-cpu", "cortex-a72", "-L", "/usr/aarch64-linux-gnu")
_PROGRAMS = ("aarch64-linux-gnu-g++", "qemu-aarch64-static", "cmake", "pkg-config")


@pytest.fixture(scope="module")
def arm_build(firmware_build: Path) -> Path:
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if not missing and not (_ARM / "libsodium.so").exists():
        missing = ["libsodium-dev:arm64"]
    if missing:
        pytest.skip(f"nothing is cross-compiled: {', '.join(missing)} not installed")
    build = ROOT / "build" / "firmware-aarch64"
    wheel = os.environ.get("PKECHO_AARCH64_OPENVINO")
    back_end = f"-DOpenVINO_DIR={wheel}/openvino/cmake" if wheel else "-DPKECHO_OPENVINO=OFF"
    toolchain = ROOT / "firmware" / "cmake" / "aarch64-linux-gnu.cmake"
    configure(build, f"-DCMAKE_TOOLCHAIN_FILE={toolchain}", "-DPKECHO_TESTS=ON", back_end)
    return build


def emulate(program: Path, *arguments: str | Path, libraries: str = "") -> str:
    """What a program for Arm prints."""
    places = f"LD_LIBRARY_PATH={program.parent.parent / 'lib'}:{program.parent / 'lib'}:{_ARM}"
    done = subprocess.run(
        [*_EMULATED, "-E", f"{places}:{libraries}", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_golden_vectors_come_out_to_the_last_bit(arm_build: Path, tmp_path: Path) -> None:
    write_fake_bundle(tmp_path / "fake.pkb")
    said = emulate(
        arm_build / "pkecho-exercise", "self-test", tmp_path / "fake.pkb", arm_build / "lib/pkecho"
    )
    assert said.startswith("PKECHO_OK: 3 frames, logits differ by up to 0, pixels by 0.0000 %")


def test_a_video_gives_what_it_gives_here(
    firmware_build: Path, arm_build: Path, tmp_path: Path
) -> None:
    """Every figure that is printed but the times: areas, volumes, beats."""
    write_fake_bundle(tmp_path / "fake.pkb")
    rows, columns = np.ogrid[:120, :160]
    radii = 34 + 8 * np.cos(np.arange(60) * 2 * np.pi / 25)
    noise = np.random.default_rng(0).integers(0, 40, (60, 120, 160))
    distance = np.hypot((rows - 60) * 0.8, columns - 80)
    video = np.stack([np.where(distance < r, 120, 10) for r in radii]) + noise
    (tmp_path / "video.raw").write_bytes(video.astype(np.uint8).tobytes())
    arguments = (tmp_path / "fake.pkb", "-", tmp_path / "video.raw", "160", "120", "25", "0.4")

    here = subprocess.run(
        [firmware_build / "bin/pkecho-play", *arguments], capture_output=True, text=True, check=True
    ).stdout
    there = emulate(arm_build / "bin/pkecho-play", *arguments)

    def without_times(text: str) -> str:
        return re.sub(r" *\d+\.\d\d ms", "", text)

    assert here.count("cm2") == 60
    assert "beat 1: EF" in here
    assert without_times(there) == without_times(here)


def test_it_bears_hard_use_there_too(arm_build: Path, tmp_path: Path) -> None:
    write_fake_bundle(tmp_path / "fake.pkb")
    emulate(
        arm_build / "pkecho-exercise",
        "random",
        tmp_path / "fake.pkb",
        arm_build / "lib/pkecho",
        "40",
        "3",
    )


@pytest.mark.slow
def test_an_engine_passes_its_self_test_on_the_real_back_end(arm_build: Path) -> None:
    wheel, bundle = (os.environ.get(f"PKECHO_AARCH64_{n}") for n in ("OPENVINO", "BUNDLE"))
    if not (wheel and bundle):
        pytest.skip("PKECHO_AARCH64_OPENVINO and PKECHO_AARCH64_BUNDLE are not set")
    said = emulate(
        arm_build / "pkecho-exercise",
        "self-test",
        bundle,
        arm_build / "lib/pkecho",
        libraries=f"{wheel}/openvino/libs",
    )
    print(said)
    assert said.startswith("PKECHO_OK: ")
