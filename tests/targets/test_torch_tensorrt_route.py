"""The Torch-TensorRT route against a stand-in: neither it nor a GPU was there to run it."""

from __future__ import annotations

import importlib.util
import sys
import types
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, PkechoEdgeError, UsageError
from pkecho_edge.lowering.program_export import export_clip_program, export_stream_program
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.targets import torch_tensorrt_route
from pkecho_edge.targets.torch_tensorrt_route import TorchTensorRtRoute

INNER = (((8,), (8,)), ((8,), (8,)), ((16,), (16,)), ((16,), (16,)))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """In FP16."""
    torch.manual_seed(0)
    config = NetworkConfig(
        frames=2, refinements=0, region_proxies="none", widths=Widths(8, (8, 8, 16, 16), INNER)
    )
    network, folder = PKEchoNet(config).eval(), tmp_path_factory.mktemp("programs")
    frames: NDArray[np.uint8] = np.random.default_rng(0).integers(
        0, 256, (2, 1, 96, 96), dtype=np.uint8
    )
    found = {mode: folder / f"{mode}.pt2" for mode in ("clip", "stream")}
    export_clip_program(network, (96, 96), found["clip"], frames, "f16")
    export_stream_program(network, (96, 96), found["stream"], frames, "f16")
    return found


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Installed as torch_tensorrt 2.13.1 beside torch 2.13.0."""
    path = Path(__file__).with_name("stand_in_torch_tensorrt.py")
    spec = importlib.util.spec_from_file_location("torch_tensorrt.dynamo", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "torch_tensorrt", types.ModuleType("torch_tensorrt"))
    monkeypatch.setitem(sys.modules, "torch_tensorrt.dynamo", module)
    tensorrt = types.ModuleType("tensorrt")
    tensorrt.__version__ = "11.0.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    installed(monkeypatch, torch="2.13.0+cu130", torch_tensorrt="2.13.1")
    return module


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """As if these packages were installed, and none else."""

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(torch_tensorrt_route.metadata, "version", version)


def test_it_writes_a_plan_for_each_mode_and_says_what_built_it(
    stand_in: types.ModuleType, programs: dict[str, Path], tmp_path: Path
) -> None:
    report = TorchTensorRtRoute("cpu").build(programs, tmp_path)

    assert report.plans == {m: tmp_path / f"{m}-fp16.plan" for m in ("clip", "stream")}
    assert {path.name for path in tmp_path.iterdir()} == {"clip-fp16.plan", "stream-fp16.plan"}
    assert all(path.read_bytes().startswith(b"plan of ") for path in report.plans.values())
    assert report.precision == "f16"
    assert report.versions == {
        "torch": "2.13.0+cu130",
        "torch_tensorrt": "2.13.1",
        "tensorrt": "11.0.0",
    }
    clip, stream = stand_in.calls
    assert clip["shapes"] == [(2, 1, 96, 96)]
    assert stream["dtypes"] == [torch.uint8, torch.float32]
    for call in (clip, stream):
        assert call["disable_tf32"]
        assert not call["version_compatible"]
        assert not call["hardware_compatible"]
        assert not call["timing_cache"].parent.exists()  # it was of that build alone


def test_int8_is_sent_to_the_onnx_route(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"INT8 .* ModelOpt.*--target tensorrt"):
        TorchTensorRtRoute().build({}, tmp_path, "int8")
    with pytest.raises(UsageError, match="no plan in bf16"):
        TorchTensorRtRoute().build({}, tmp_path, "bf16")


def test_a_program_of_another_precision_is_refused(
    stand_in: types.ModuleType, programs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="exported for f16, not f32"):
        TorchTensorRtRoute("cpu").build(programs, tmp_path, "f32")
    assert list(tmp_path.iterdir()) == []
    assert stand_in.calls == []


@pytest.mark.parametrize(
    ("torch_version", "partner", "wanted"),
    [("2.13.0+cu130", "2.11.0", "2.13"), ("2.11.0", "2.13.0", "2.11"), ("2.1.0", "2.10.0", "2.1")],
)
def test_releases_that_do_not_go_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, torch_version: str, partner: str, wanted: str
) -> None:
    installed(monkeypatch, torch=torch_version, torch_tensorrt=partner)

    with pytest.raises(EnvironmentMismatch, match="does not go with torch") as caught:
        TorchTensorRtRoute().build({}, tmp_path)
    assert f"pip install 'torch-tensorrt=={wanted}.*'" in str(caught.value)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("there", [{}, {"torch": "2.13.0"}])
def test_what_is_not_installed_is_said_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: dict[str, str]
) -> None:
    installed(monkeypatch, **there)

    with pytest.raises(MissingDependency, match=r"is not installed\. Run: pip install '"):
        TorchTensorRtRoute().build({}, tmp_path)


def test_without_a_gpu_it_says_so(
    stand_in: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(MissingDependency, match="no NVIDIA GPU that torch can use"):
        TorchTensorRtRoute().build({}, tmp_path)


def test_a_package_that_cannot_be_imported_is_missing(
    stand_in: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # importing it raises ImportError

    with pytest.raises(MissingDependency, match="cannot be imported"):
        TorchTensorRtRoute("cpu").build({}, tmp_path)


@pytest.mark.parametrize("fails", ["raises", "empty"])
def test_a_failed_build_leaves_nothing(
    stand_in: types.ModuleType,
    programs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
) -> None:
    def convert(*_args: object, **_named: object) -> bytes:
        if fails == "raises":
            raise UnboundLocalError("interpreter_result")
        return b""

    name = "convert_exported_program_to_serialized_trt_engine"
    monkeypatch.setattr(stand_in, name, convert)

    with pytest.raises(PkechoEdgeError, match="cannot build a plan") as caught:
        TorchTensorRtRoute("cpu").build(programs, tmp_path)
    assert str(programs["clip"]) in str(caught.value)
    assert list(tmp_path.iterdir()) == []
