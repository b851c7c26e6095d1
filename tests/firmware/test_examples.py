"""The examples, as somebody runs them who has a signed bundle."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pkecho_edge.bundle.signing import sign_bundle, write_key_pair
from tests.firmware.fake_bundle import write_fake_bundle
from tests.firmware.small_bundle import SIDE


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fake.pkb, the key that signed it, and another one."""
    folder = tmp_path_factory.mktemp("signed")
    write_fake_bundle(folder / "fake.pkb")
    for name in ("key", "other"):
        write_key_pair(folder / name)
    sign_bundle(folder / "fake.pkb", folder / "key")
    return folder


def run(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_live_use_shows_the_newest_frames(firmware_build: Path, signed: Path) -> None:
    done = run(
        firmware_build / "bin/pkecho-capture", signed / "fake.pkb", signed / "key.pub", "1.2"
    )

    assert (done.returncode, done.stderr) == (0, "")
    counts = re.search(r"(\d+) frames shown, (\d+) dropped, the last took [\d.]+ ms", done.stdout)
    assert counts is not None
    shown, dropped = int(counts[1]), int(counts[2])
    assert shown > 5
    assert (
        shown + dropped <= 60
    )  # 1.2 s at 50 frames a second; the newest may be dropped at the end


def test_a_video_is_played_to_its_end(firmware_build: Path, signed: Path) -> None:
    rows, columns = np.ogrid[:SIDE, :SIDE]
    radii = 28 + 6 * np.cos(2 * np.pi * np.arange(80) / 25)
    distance = np.hypot(rows - 48, columns - 48)
    video = np.stack([np.where(distance < r, 130, 0) for r in radii]).astype(np.uint8)
    (signed / "video.raw").write_bytes(video.tobytes() + b"half a frame")

    done = run(
        firmware_build / "bin/pkecho-play",
        *(signed / "fake.pkb", signed / "key.pub", signed / "video.raw"),
        *(str(SIDE), str(SIDE), "25", "0.5"),
    )

    assert done.returncode == 0, done.stderr
    assert "part of a frame is left" in done.stderr
    lines = done.stdout.splitlines()
    frames = [line for line in lines if " area " in line]
    assert len(frames) == 80
    assert "not valid" in frames[0]  # the window warms up
    assert "not valid" not in frames[40]
    beats = [re.fullmatch(r"beat (\d+): EF ([\d.]+) % \(.+\)", line) for line in lines]
    found = [float(match[2]) for match in beats if match]
    assert len(found) >= 2
    assert found[0] == pytest.approx(100 * (1 - (22 / 34) ** 3), abs=2)


@pytest.mark.parametrize("program", ["pkecho-play", "pkecho-capture"])
def test_a_bundle_of_somebody_else_is_refused(
    firmware_build: Path, signed: Path, program: str
) -> None:
    done = run(
        firmware_build / "bin" / program,
        *(signed / "fake.pkb", signed / "other.pub", signed / "none.raw", "96", "96", "25"),
    )
    assert done.returncode == 1
    assert "none of the public keys given. Check" in done.stderr
    assert done.stdout == ""
