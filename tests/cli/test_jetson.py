"""`compile --target jetson` as it is typed on a machine without any GPU, and what follows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import COMPILE
from tests.device.conftest import STAND_IN, build_driver

Refuses = Callable[..., str]
Type = Callable[[str], Any]

JETSON = f"{COMPILE} --target jetson --rule minmax/minmax --no-restore"


def test_it_yields_a_complete_kit_and_claims_nothing_unmeasured(world: Path, typed: Type) -> None:
    outcome = typed(f"{JETSON} --out heart-jetson.pkb --json report.json")

    assert outcome.code == 0, outcome.err
    bundle = world / "heart-jetson.pkb"
    assert (bundle / "device" / "pkecho_device.py").is_file()
    recipe = json.loads((bundle / "engine" / "recipe.json").read_text())
    assert recipe["profile"]["name"] == "orin-nano"
    for entry in recipe["modes"].values():
        for graphs in entry["graphs"].values():
            assert all((bundle / "engine" / name).is_file() for name in graphs.values())
    report = json.loads((world / "report.json").read_text())
    assert report["verdict"] == "incomplete"
    assert all(mode["speed"] is None for mode in report["modes"].values())
    speedups = [gate for gate in report["gates"] if gate["name"] == "speedup"]
    assert [gate["pass"] for gate in speedups] == [None, None]
    assert {gate["reason"] for gate in speedups} == {"to be measured on the device"}
    assert any("accuracy: measured on the Q/DQ graph" in text for text in report["warnings"])
    assert "fps" not in json.dumps(json.loads((bundle / "manifest.json").read_text())["reports"])
    assert "pkecho_device.py" in outcome.out

    packed = typed("verify heart-jetson.pkb --data data --clips 1 --pack heart.npz")
    assert packed.code == 0, packed.err
    assert (world / "heart.npz").is_file()
    assert "pkecho_device.py --pack heart.npz" in packed.out

    verified = typed("verify heart-jetson.pkb --data data --clips 1 --gates gates.toml --quiet")
    assert verified.code == 8  # incomplete: nothing here can time it


def test_on_the_device_itself_it_goes_on_to_the_plans(
    world: Path,
    typed: Type,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The stand-ins of tests/device for TensorRT 10.3 and the driver of an Orin."""
    monkeypatch.syspath_prepend(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    monkeypatch.setenv("STAND_IN_VERSION", "10.3.0")
    monkeypatch.setenv("HOME", str(world))
    driver = build_driver(tmp_path_factory.mktemp("driver"))
    monkeypatch.setenv("PKECHO_CUDA_LIBRARY", str(driver))
    line = f"{JETSON} --mode clip --out here.pkb"

    outcome = typed(line)

    assert outcome.code == 0, outcome.err
    assert "plans, on this device    Stand-in (sm_87, 8 SMs, 7 GB, TensorRT 10.3.0" in outcome.out
    assert "measured on Stand-in, sm_87, TensorRT 10.3.0" in " ".join(outcome.out.split())
    assert (world / "here.report" / "report.html").is_file()
    assert (world / "here.pkb.result.json").is_file()
    assert "--merge here.pkb.result.json" in outcome.out

    elsewhere = typed(f"{line} --overwrite --no-in-place")
    assert elsewhere.code == 0, elsewhere.err
    assert "on this device" not in elsewhere.out


def test_a_profile_is_recorded(world: Path, typed: Type) -> None:
    assert typed(f"{JETSON} --profile xavier-nx --mode clip --out x.pkb --quiet").code == 0

    manifest = json.loads((world / "x.pkb" / "manifest.json").read_text())
    assert manifest["profile"] == "xavier-nx"
    assert manifest["engines"][0]["files"][0] == "clip.int8.onnx"


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        pytest.param(f"{JETSON} --profile nano --out x.pkb", 2, "there is no profile 'nano'",
                     id="a profile that there is not"),
        pytest.param(f"{JETSON} --profile rtx --out x.pkb", 2, "is for --target tensorrt",
                     id="a desktop's profile for a Jetson"),
        pytest.param(f"{COMPILE} --profile thor --out x.pkb", 2, "cpu has no profiles",
                     id="a profile for a processor"),
        pytest.param(f"{JETSON} --via torch-tensorrt --out x.pkb", 2, "is built in one way only",
                     id="a way that a Jetson does not have"),
        pytest.param(f"{COMPILE} --target tensorrt --via nvcc --out x.pkb", 2, "Use onnx or torch-",
                     id="a way that there is not"),
        pytest.param(f"{COMPILE} --target tensorrt --via torch-tensorrt --out x.pkb", 5,
                     "is not installed. Run: pip install", id="Torch-TensorRT where it is not"),
        pytest.param(f"{JETSON} --float-precision bf16 --out x.pkb", 2, "has no bf16",
                     id="a precision that the target does not have"),
        pytest.param("verify heart.pkb --data data --pack x.npz", 2, "needs no device kit",
                     id="a pack for a processor"),
        pytest.param("verify heart.pkb --data data --merge set.json", 2, "needs no device kit",
                     id="a result for a processor"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(refuses: Refuses, line: str, code: int, words: str) -> None:
    refuses(line, code, words)
