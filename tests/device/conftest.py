"""A bundle for a Jetson, and the kit in it, run against a stand-in for TensorRT and the driver."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pkecho_edge import pipeline, targets
from pkecho_edge.calibration.rule import RangeRule
from pkecho_edge.data import sources
from pkecho_edge.data.standard import CALIBRATION_SEEDS, TUNING_SEEDS
from pkecho_edge.model.checkpoint import default_checkpoint_path
from pkecho_edge.tuning.choose import QuantizationOrder

STAND_IN = Path(__file__).parent / "stand_in"
SIZE = (96, 96)


@dataclass(frozen=True)
class Outcome:
    """What a run of the kit left behind."""

    code: int
    out: str
    err: str
    result: dict[str, Any] | None


Kit = Callable[..., Outcome]


@pytest.fixture(scope="session")
def jetson_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged network, for the profile orin-jetpack5, whose TensorRT the oldest kit has."""
    root = tmp_path_factory.mktemp("jetson")
    order = pipeline.CompileOrder(
        default_checkpoint_path(),
        root / "heart.pkb",
        calibration=sources.phantoms(CALIBRATION_SEEDS[:2], SIZE),
        trial=sources.phantoms(TUNING_SEEDS[:1], SIZE),
        verification=sources.standard_set(SIZE, 1),
        target="jetson",
        calibration_clips=2,
        quantization=QuantizationOrder(rules=(RangeRule.parse("minmax/minmax"),), restore=False),
        options=targets.options_for("jetson", profile="orin-jetpack5"),
    )
    pipeline.compile(order, cache=root / "cache")
    return root / "heart.pkb"


@pytest.fixture
def bundle(jetson_bundle: Path, tmp_path: Path) -> Path:
    """This test's own copy."""
    return Path(shutil.copytree(jetson_bundle, tmp_path / "heart.pkb"))


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for libcuda."""
    return build_driver(tmp_path_factory.mktemp("driver"))


def build_driver(folder: Path) -> Path:
    """Compile the stand-in for libcuda; the test is skipped where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, which the stand-in for the GPU driver needs")
    library, source = folder / "libcuda.so", STAND_IN / "cuda.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.fixture
def environment(driver: Path, tmp_path: Path) -> dict[str, str]:
    """Of a run: TensorRT 8.5 on an Orin, a home of its own."""
    return {
        **os.environ,
        "PYTHONPATH": str(STAND_IN),
        "PKECHO_CUDA_LIBRARY": str(driver),
        "HOME": str(tmp_path),
        "STAND_IN_VERSION": "8.5.2.2",
        "STAND_IN_BUILDS": str(tmp_path / "builds"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture
def kit(bundle: Path, environment: dict[str, str], tmp_path: Path) -> Kit:
    """Run the kit of the bundle; INT8 alone and few rounds unless told otherwise."""

    def run(*arguments: object, precisions: str = "int8", **changes: str) -> Outcome:
        result = tmp_path / "result.json"
        result.unlink(missing_ok=True)
        words = [str(a) for a in arguments]
        if precisions and "--precisions" not in words:
            words += ["--precisions", precisions]
        command = [sys.executable, bundle / "device" / "pkecho_device.py", "--rounds", "1"]
        command += ["--cache", tmp_path / "plans", "--result", result, *words]
        done = subprocess.run(
            list(map(str, command)),
            env={**environment, **changes},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        found = json.loads(result.read_text()) if result.exists() else None
        return Outcome(done.returncode, done.stdout, done.stderr, found)

    return run


def builds(tmp_path: Path) -> int:
    """How many plans were built so far."""
    path = tmp_path / "builds"
    return len(path.read_text().splitlines()) if path.exists() else 0
