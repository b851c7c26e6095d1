"""Plans by way of Torch-TensorRT against stand-ins: neither it nor a GPU was there to run it."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pkecho_edge import pipeline, targets
from pkecho_edge.data import sources
from pkecho_edge.data.standard import CALIBRATION_SEEDS
from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, PkechoEdgeError, UsageError
from pkecho_edge.lowering.program_export import export_clip_program, export_stream_program
from pkecho_edge.model.checkpoint import default_checkpoint_path
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.runtime.window import Window, open_window
from pkecho_edge.targets import torch_tensorrt
from pkecho_edge.targets.base import CompileOptions, Engine
from pkecho_edge.targets.tensorrt_session import PlanWindow, TensorRtSession
from pkecho_edge.targets.torch_tensorrt import TorchTensorRt
from tests.device.conftest import STAND_IN, build_driver

INNER = (((8,), (8,)), ((8,), (8,)), ((16,), (16,)), ((16,), (16,)))
HALF = CompileOptions("f16")


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """u8 [2, 1, 96, 96], noise."""
    return np.random.default_rng(0).integers(0, 256, (2, 1, 96, 96), dtype=np.uint8)


@pytest.fixture(scope="module")
def programs(
    frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """In FP16."""
    torch.manual_seed(0)
    config = NetworkConfig(
        frames=2, refinements=0, region_proxies="none", widths=Widths(8, (8, 8, 16, 16), INNER)
    )
    network, folder = PKEchoNet(config).eval(), tmp_path_factory.mktemp("programs")
    found = {mode: folder / f"{mode}.pt2" for mode in ("clip", "stream")}
    export_clip_program(network, (96, 96), found["clip"], frames, "f16")
    export_stream_program(network, (96, 96), found["stream"], frames, "f16")
    return found


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def stand_in(
    monkeypatch: pytest.MonkeyPatch, driver: Path, tmp_path_factory: pytest.TempPathFactory
) -> types.ModuleType:
    """torch_tensorrt 2.13.1 beside torch 2.13.0 and TensorRT 10.3.0, on a GPU of a kind."""
    monkeypatch.setenv("STAND_IN_VERSION", "10.3.0")
    monkeypatch.setenv("STAND_IN_PROGRAMS", str(tmp_path_factory.mktemp("plans")))
    monkeypatch.setenv("PKECHO_CUDA_LIBRARY", str(driver))
    monkeypatch.setitem(sys.modules, "torch_tensorrt", types.ModuleType("torch_tensorrt"))
    beside = Path(__file__).with_name("stand_in_torch_tensorrt.py")
    module = _module(monkeypatch, "torch_tensorrt.dynamo", beside)
    _module(monkeypatch, "tensorrt", STAND_IN / "tensorrt" / "__init__.py")
    installed(monkeypatch, torch="2.13.0+cu130", torch_tensorrt="2.13.1")
    return module


def _module(monkeypatch: pytest.MonkeyPatch, name: str, path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """As if these packages were installed, and none else."""

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(
        torch_tensorrt,
        "metadata",
        types.SimpleNamespace(version=version, PackageNotFoundError=metadata.PackageNotFoundError),
    )


@pytest.fixture
def made(
    stand_in: types.ModuleType, programs: dict[str, Path], tmp_path: Path
) -> dict[str, Engine]:
    (tmp_path / "engine").mkdir()
    return TorchTensorRt("cpu").compile(programs, tmp_path / "engine", HALF)


def test_it_writes_a_plan_for_each_mode_and_says_what_built_it(
    stand_in: types.ModuleType, made: dict[str, Engine], tmp_path: Path
) -> None:
    assert {m: e.files for m, e in made.items()} == {
        "clip": ("clip-fp16.plan",),
        "stream": ("stream-fp16.plan",),
    }
    names = {path.name for path in (tmp_path / "engine").iterdir()}
    assert names == {"clip-fp16.plan", "stream-fp16.plan"}
    assert made["clip"].toolchain == {
        "torch": "2.13.0+cu130",
        "torch_tensorrt": "2.13.1",
        "tensorrt": "10.3.0",
    }
    assert made["clip"].options["tf32"] == "off"
    clip, stream = stand_in.calls
    assert clip["shapes"] == [(2, 1, 96, 96)]
    assert stream["dtypes"] == [torch.uint8, torch.float32]
    for call in (clip, stream):
        assert call["disable_tf32"]
        assert not call["version_compatible"]
        assert not call["hardware_compatible"]
        assert not call["timing_cache"].parent.exists()  # it was of that build alone


def test_a_loaded_plan_gives_the_program_s_logits(
    made: dict[str, Engine], programs: dict[str, Path], frames: NDArray[np.uint8]
) -> None:
    program = torch.export.load(programs["clip"]).module()
    with torch.no_grad():
        expected = program(torch.from_numpy(frames)).numpy()

    with TorchTensorRt("cpu").load(made["clip"]) as session:
        found = session.run({"frames": frames})["logits"]
        bound = np.zeros_like(expected)
        session.bind({"frames": frames}, {"logits": bound})()

    assert np.array_equal(found, expected)
    assert np.array_equal(bound, expected)


def test_a_resident_window_gives_what_a_window_on_the_host_gives(
    made: dict[str, Engine], frames: NDArray[np.uint8]
) -> None:
    with TorchTensorRt("cpu").load(made["stream"]) as session:
        host, resident = Window(session, made["stream"]), open_window(session, made["stream"])
        assert isinstance(resident, PlanWindow)
        for index, frame in enumerate([*frames, *frames[::-1], *frames]):
            for window in (host, resident):
                window.frame[:] = frame[0]
                window.advance(anew=index == 4)
            assert np.array_equal(host.logits, resident.logits)
            assert host.pushed == resident.pushed
    with pytest.raises(UsageError, match="the session is closed"):
        resident.advance()
    assert resident.logits.any()  # still the caller's


def test_a_clip_plan_has_no_window(made: dict[str, Engine]) -> None:
    with (
        TorchTensorRt("cpu").load(made["clip"]) as session,
        pytest.raises(UsageError, match="a clip engine has no window"),
    ):
        session.window()


def test_a_plan_of_another_tensorrt_is_refused(
    made: dict[str, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "11.0.0")

    with pytest.raises(
        EnvironmentMismatch, match=r"built with TensorRT 10\.3\.0 for .* this is 11"
    ):
        TorchTensorRt("cpu").load(made["clip"])


def test_a_damaged_plan_is_refused(made: dict[str, Engine]) -> None:
    (made["clip"].directory / "clip-fp16.plan").write_bytes(b"no plan")

    with pytest.raises(EnvironmentMismatch, match=r"cannot be loaded \(Magic tag"):
        TensorRtSession(made["clip"])


def test_without_a_driver_a_plan_cannot_be_loaded(
    made: dict[str, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKECHO_CUDA_LIBRARY", "/nowhere.so")

    with pytest.raises(EnvironmentMismatch, match="there is no NVIDIA driver"):
        TorchTensorRt("cpu").load(made["clip"])


class OnTheCpu(TorchTensorRt):
    """What the registry would give on a machine with a GPU."""

    def __init__(self) -> None:
        super().__init__("cpu")


def test_the_whole_street(
    stand_in: types.ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    timed_briefly: None,
) -> None:
    monkeypatch.setitem(targets.REGISTRY, "torch-tensorrt", f"{__name__}:OnTheCpu")

    order = pipeline.CompileOrder(
        default_checkpoint_path(),
        tmp_path / "heart.pkb",
        calibration=sources.phantoms(CALIBRATION_SEEDS[:2], (96, 96)),
        verification=sources.standard_set((96, 96), 1),
        target="torch-tensorrt",
        calibration_clips=2,
    )
    result = pipeline.compile(order, cache=tmp_path / "cache")

    manifest = json.loads((tmp_path / "heart.pkb" / "manifest.json").read_text())
    assert manifest["target"] == "torch-tensorrt"
    for mode in ("clip", "stream"):
        measured = result.verification.modes[mode]
        assert measured.speed is not None
        assert measured.accuracy is not None
        assert measured.accuracy.agreement.dsc.mean > 99.9


def test_precisions_that_it_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no bf16\. It has f16, f32"):
        TorchTensorRt().compile({}, tmp_path, CompileOptions("bf16"))


def test_a_program_of_another_precision_is_refused(
    stand_in: types.ModuleType, programs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="exported for f16, not f32"):
        TorchTensorRt("cpu").compile(programs, tmp_path, CompileOptions("f32"))
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
        TorchTensorRt("cpu").compile({}, tmp_path, HALF)
    assert f"pip install 'torch-tensorrt=={wanted}.*'" in str(caught.value)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("there", [{}, {"torch": "2.13.0"}])
def test_what_is_not_installed_is_said_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: dict[str, str]
) -> None:
    installed(monkeypatch, **there)

    assert TorchTensorRt().missing() == "pip install 'pkecho-edge[tensorrt]'"
    with pytest.raises(MissingDependency, match=r"is not installed\. Run: pip install '"):
        TorchTensorRt().compile({}, tmp_path, HALF)


def test_without_a_gpu_it_says_so(stand_in: types.ModuleType, tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match="target torch-tensorrt cannot be used here: "):
        TorchTensorRt().compile({}, tmp_path, HALF)


def test_a_package_that_cannot_be_imported_is_missing(
    stand_in: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch_tensorrt.dynamo", None)  # importing it raises

    with pytest.raises(MissingDependency, match="cannot be imported"):
        TorchTensorRt("cpu").compile({}, tmp_path, HALF)


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
        TorchTensorRt("cpu").compile(programs, tmp_path, HALF)
    assert str(programs["clip"]) in str(caught.value)
    assert list(tmp_path.iterdir()) == []
