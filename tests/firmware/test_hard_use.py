"""Sanitizers and fuzzers on the C library: minutes each, on demand (-m slow; -s shows figures)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.firmware.conftest import ROOT, configure
from tests.firmware.fake_bundle import write_fake_bundle

pytestmark = pytest.mark.slow

_SECONDS = os.environ.get("PKECHO_FUZZ_SECONDS", "60")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fake") / "fake.pkb"
    write_fake_bundle(path)
    return path


def run(command: list[str | Path], **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_sanitizers_find_nothing(firmware_build: Path, bundle: Path, sanitizers: str) -> None:
    build = ROOT / "build" / f"firmware-{sanitizers.split(',')[0]}"
    configure(
        build, f"-DPKECHO_SANITIZE={sanitizers}", "-DPKECHO_TESTS=ON", "-DPKECHO_OPENVINO=OFF"
    )
    uses = [("threads", "100")]
    if sanitizers != "thread":
        uses += [("random", "2000", "1"), ("random", "2000", "2"), ("starve",)]
    for use, *rest in uses:
        said = run([build / "pkecho-exercise", use, bundle, build / "lib/pkecho", *rest])
        print(f"{sanitizers}: {use} {' '.join(rest)}: {said.strip() or 'nothing found'}")


@pytest.mark.parametrize("name", ["manifest", "signature", "frame"])
def test_fuzzing_finds_nothing(
    firmware_build: Path, bundle: Path, tmp_path: Path, name: str
) -> None:
    if shutil.which("clang++") is None:
        pytest.skip("clang++ is not installed")
    build = ROOT / "build" / "firmware-fuzz"
    configure(
        build,
        "-DCMAKE_CXX_COMPILER=clang++",
        "-DPKECHO_FUZZ=ON",
        "-DPKECHO_OPENVINO=OFF",
        "-DPKECHO_EXAMPLES=OFF",
    )
    run([sys.executable, ROOT / "firmware/fuzz/make_corpus.py", tmp_path])
    corpus = tmp_path / name
    corpus.mkdir(exist_ok=True)
    dictionary = [f"-dict={path}" for path in tmp_path.glob(f"{name}.dict")]
    said = run(
        [build / f"{name}_fuzzer", *dictionary, f"-max_total_time={_SECONDS}", "-max_len=16384",
         "-print_final_stats=1", corpus],
        PKECHO_FUZZ_BUNDLE=str(bundle),
        PKECHO_FUZZ_BACKENDS=str(firmware_build / "lib/pkecho"),
    )  # fmt: skip
    done = re.search(r"stat::number_of_executed_units: (\d+)", said)
    edges = re.findall(r"cov: (\d+)", said)
    assert done is not None
    assert int(done[1]) > 100
    print(
        f"{name}: {done[1]} executions in {_SECONDS} s, {edges[0]} to {edges[-1]} edges, no crash"
    )
