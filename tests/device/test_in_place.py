"""`compile` on a machine that has TensorRT and the GPU: here, the stand-ins for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pkecho_edge import verifying
from pkecho_edge.data import sources
from pkecho_edge.device.here import device_here, run_kit
from pkecho_edge.errors import AccuracyGateFailed, EnvironmentMismatch
from pkecho_edge.model.checkpoint import default_checkpoint_path
from tests.device.conftest import SIZE, STAND_IN


@pytest.fixture
def with_device(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This process and those that it starts see the stand-ins."""
    monkeypatch.syspath_prepend(STAND_IN)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_plans_are_built_scored_and_reported(
    bundle: Path, with_device: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    said: list[str] = []

    found = verifying.measure_in_place(
        bundle,
        sources.standard_set(SIZE, 2),
        baseline=default_checkpoint_path(),
        cache=tmp_path / "cache",
        rounds=1,
        say=said.append,
    )

    assert found is not None
    document = json.loads((tmp_path / "heart.report" / "report.json").read_text())
    assert document == found.report.to_dict()
    assert any("measured on Stand-in, sm_87" in text for text in document["warnings"])
    assert len(document["machine"]["device"]["plans"]) == 6
    assert found.modes["stream"].accuracy is not None
    assert any("clip int8: building from clip.int8.onnx" in line for line in said)
    assert (tmp_path / "heart.pkb.result.json").is_file()
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_another_device_is_none_of_the_bundle_s(
    bundle: Path, with_device: pytest.MonkeyPatch
) -> None:
    kit = bundle / "device" / "pkecho_device.py"
    assert device_here(kit) == "Stand-in (sm_87, 8 SMs, 7 GB, TensorRT 8.5.2.2, driver 12.6)"

    with_device.setenv("FAKE_SM", "90")

    assert device_here(kit) is None


def test_without_a_driver_nothing_is_asked(bundle: Path, with_device: pytest.MonkeyPatch) -> None:
    with_device.setenv("PKECHO_CUDA_LIBRARY", "/nowhere.so")

    assert device_here(bundle / "device" / "pkecho_device.py") is None


def test_without_tensorrt_nothing_is_asked(bundle: Path) -> None:
    assert device_here(bundle / "device" / "pkecho_device.py") is None


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (("STAND_IN_FAIL", ".onnx"), EnvironmentMismatch, "no plan can be used"),
        (("STAND_IN_WRONG", "1"), AccuracyGateFailed, "self-test failed"),
    ],
)
def test_the_kit_s_errors_are_ours(
    bundle: Path,
    with_device: pytest.MonkeyPatch,
    tmp_path: Path,
    change: tuple[str, str],
    kind: type[Exception],
    words: str,
) -> None:
    with_device.setenv(*change)
    said: list[str] = []

    with pytest.raises(kind, match=words):
        run_kit(bundle / "device" / "pkecho_device.py", None, tmp_path / "r.json", said.append, 1)

    assert said
    assert not any(line.startswith("error") for line in said)
