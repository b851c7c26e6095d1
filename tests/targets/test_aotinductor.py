"""Target `cuda`, its whole route on the CPU: no test here ran on a GPU."""

from __future__ import annotations

import importlib.util
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pkecho_edge import targets
from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, PkechoEdgeError, UsageError
from pkecho_edge.lowering.parity import HALF_PARITY_LIMIT, PARITY_LIMIT, network_logits
from pkecho_edge.lowering.program_export import export_clip_program, export_stream_program
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.runtime.window import Window, open_window, stream_runner
from pkecho_edge.targets import aotinductor, cuda_device
from pkecho_edge.targets.aotinductor import AotInductor, AotInductorSession
from pkecho_edge.targets.aotinductor_replay import ResidentWindow
from pkecho_edge.targets.base import CompileOptions, Engine, TensorSpec

SIZE = (96, 96)
T = 4

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="AOTInductor needs a C++ compiler"
)


@dataclass(frozen=True)
class Made:
    """Tiny networks, their programs and engines: a bare one's clip in FP32, a whole one's stream in
    FP16."""

    networks: dict[str, PKEchoNet]
    frames: NDArray[np.uint8]
    programs: dict[str, Path]
    clip: Engine
    stream: Engine

    def expected(self, mode: str) -> NDArray[np.float32]:
        """The network's own logits of the frames."""
        return network_logits(self.networks[mode], torch.from_numpy(self.frames)).numpy()


def tiny_network(frames: NDArray[np.uint8], refinements: int, proxies: str) -> PKEchoNet:
    torch.manual_seed(0)
    inner = (((8,), (8,)), ((8,), (8,)), ((16,), (16,)), ((16,), (16,)))
    widths = Widths(8, (8, 8, 16, 16), inner)
    config = NetworkConfig(frames=T, refinements=refinements, region_proxies=proxies, widths=widths)
    network = PKEchoNet(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(frames)[None].float() / 255)
    return network.eval()


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (T, 1, *SIZE), dtype=np.uint8)


@pytest.fixture(scope="module")
def made(frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Compiled once: the compiler takes most of this module's time."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("AOTInductor needs a C++ compiler")
    folder = tmp_path_factory.mktemp("aotinductor")
    networks = {
        "clip": tiny_network(frames, 0, "none"),
        "stream": tiny_network(frames, 1, "interval-1"),
    }
    programs = {"clip": folder / "clip-program.pt2", "stream": folder / "stream-program.pt2"}
    export_clip_program(networks["clip"], SIZE, programs["clip"], frames)
    export_stream_program(networks["stream"], SIZE, programs["stream"], frames, "f16")
    target, engines = AotInductor("cpu"), {}
    # what is tested does not hang on how well g++ optimizes
    quick = {
        "aot_inductor.compile_wrapper_opt_level": "O0",
        "aot_inductor.precompile_headers": False,
        "cpp.simdlen": 1,
    }
    with pytest.MonkeyPatch.context() as patch, torch._inductor.config.patch(quick):
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "cache"))
        for mode, precision in (("clip", "f32"), ("stream", "f16")):
            out = folder / mode
            out.mkdir()
            options = CompileOptions(precision, threads=1)
            engines |= target.compile({mode: programs[mode]}, out, options)
    return Made(networks, frames, programs, engines["clip"], engines["stream"])


@pytest.fixture
def clip(made: Made) -> Iterator[AotInductorSession]:
    with AotInductor("cpu").load(made.clip) as session:
        yield session


@pytest.fixture
def stream(made: Made) -> Iterator[AotInductorSession]:
    with AotInductor("cpu").load(made.stream) as session:
        yield session


def relative(found: NDArray[np.generic], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_an_engine_is_one_package_and_says_how_it_was_built(made: Made) -> None:
    for engine, mode, precision in ((made.clip, "clip", "f32"), (made.stream, "stream", "f16")):
        assert engine.target == "cuda"
        assert engine.files == (f"{mode}.pt2",)
        assert [path.name for path in engine.directory.iterdir()] == [f"{mode}.pt2"]
        assert engine.options["float_precision"] == precision
        assert engine.options["tf32"] == "off"
        assert engine.toolchain["torch"] == torch.__version__


def test_the_interface_is_that_of_every_engine(made: Made) -> None:
    history = (T - 1, 32, 3, 3)
    assert made.clip.inputs == (TensorSpec("frames", "u8", (T, 1, *SIZE)),)
    assert made.clip.outputs == (TensorSpec("logits", "f32", (T, 1, *SIZE)),)
    assert made.stream.inputs == (
        TensorSpec("frame", "u8", (1, 1, *SIZE)),
        TensorSpec("history", "f32", history),
    )
    assert made.stream.outputs == (
        TensorSpec("logits", "f32", (1, 1, *SIZE)),
        TensorSpec("history_out", "f32", history),
    )


def test_a_clip_in_f32_gives_the_networks_logits(made: Made, clip: AotInductorSession) -> None:
    logits = clip.run({"frames": made.frames})["logits"]

    assert logits.dtype == np.float32
    assert relative(logits, made.expected("clip")) < PARITY_LIMIT


def test_a_stream_in_f16_gives_the_networks_logits_of_the_last_frame(
    made: Made, stream: AotInductorSession
) -> None:
    window = Window(stream, made.stream)
    for frame in made.frames:
        window.frame[:] = frame[0]
        window.advance()

    difference = relative(window.logits, made.expected("stream")[-1, 0])
    assert PARITY_LIMIT < difference < HALF_PARITY_LIMIT  # it is FP16, and right


def test_a_resident_window_gives_what_a_window_on_the_host_gives(
    made: Made, stream: AotInductorSession
) -> None:
    host, resident = Window(stream, made.stream), stream.window()
    for index, frame in enumerate([*made.frames, *made.frames[::-1]]):
        anew = index == 6
        for window in (host, resident):
            window.frame[:] = frame[0]
            window.advance(anew=anew)
        assert np.array_equal(host.logits, resident.logits)
        assert host.pushed == resident.pushed == (index - 5 if index >= 6 else index + 1)


def test_a_restarted_resident_window_has_forgotten(made: Made, stream: AotInductorSession) -> None:
    fresh, used = stream.window(), stream.window()
    used.frame[:] = 255 - made.frames[1, 0]
    used.advance()
    used.advance()
    used.restart()

    for window in (fresh, used):
        window.frame[:] = made.frames[0, 0]
        window.advance()

    assert np.array_equal(fresh.logits, used.logits)


def test_live_use_opens_the_resident_window(made: Made, stream: AotInductorSession) -> None:
    assert isinstance(open_window(stream, made.stream), ResidentWindow)
    frames = np.concatenate([made.frames, made.frames])
    host = Window(stream, made.stream)

    found = stream_runner(stream, made.stream)(frames)

    for frame, logits in zip(frames, found, strict=True):
        host.frame[:] = frame[0]
        host.advance()
        assert np.array_equal(host.logits, logits[0])


def test_only_a_stream_has_a_window(clip: AotInductorSession) -> None:
    with pytest.raises(UsageError, match="a clip engine has no window"):
        clip.window()


def test_a_window_of_a_closed_session_says_so(made: Made) -> None:
    session = AotInductor("cpu").load(made.stream)
    window = session.window()
    session.close()
    session.close()

    with pytest.raises(UsageError, match="the session is closed"):
        window.advance()
    with pytest.raises(UsageError, match="the session is closed"):
        session.window()
    with pytest.raises(UsageError, match="the session is closed"):
        session.run({})


def test_the_same_input_gives_the_same_bits_and_outputs_are_the_callers(
    made: Made, clip: AotInductorSession
) -> None:
    first = clip.run({"frames": made.frames})["logits"]
    kept = first.copy()
    clip.run({"frames": 255 - made.frames})

    assert np.array_equal(first, kept)
    assert np.array_equal(clip.run({"frames": made.frames})["logits"], kept)


@pytest.mark.parametrize("kind", ["strided", "mirrored", "read-only"])
def test_any_layout_of_the_input_will_do(made: Made, clip: AotInductorSession, kind: str) -> None:
    expected = clip.run({"frames": made.frames})["logits"]
    given = made.frames.copy()
    if kind == "strided":
        given = np.repeat(given, 2, axis=-1)[..., ::2]
    elif kind == "mirrored":
        given = np.ascontiguousarray(given[::-1])[::-1]
    else:
        given.flags.writeable = False

    assert np.array_equal(clip.run({"frames": given})["logits"], expected)
    assert np.array_equal(given, made.frames)


def test_a_wrong_input_is_refused(made: Made, clip: AotInductorSession) -> None:
    with pytest.raises(UsageError, match="frames is float32"):
        clip.run({"frames": made.frames.astype(np.float32)})
    with pytest.raises(UsageError, match=r"inputs are \[\]"):
        clip.run({})


def test_what_is_bound_apart_runs_at_once_in_two_threads(
    made: Made, clip: AotInductorSession
) -> None:
    clips = [made.frames.copy(), 255 - made.frames]
    expected = [clip.run({"frames": frames})["logits"] for frames in clips]
    places = [{"logits": np.zeros_like(logits)} for logits in expected]
    bound = [clip.bind({"frames": a}, b) for a, b in zip(clips, places, strict=True)]
    right: list[bool] = []

    def work(index: int) -> None:
        for _ in range(5):
            places[index]["logits"][:] = 0
            bound[index]()
            right.append(np.array_equal(places[index]["logits"], expected[index]))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert right == [True] * 10


def test_a_package_of_another_torch_or_architecture_is_refused(made: Made) -> None:
    target = AotInductor("cpu")
    other = replace(made.clip, options={**made.clip.options, "architecture": "sm_90"})

    with pytest.raises(EnvironmentMismatch, match=r"built with torch .* for sm_90, this is torch"):
        target.load(other)
    for version in ("9999.12.31", "2.0.0"):
        older = replace(made.clip, toolchain={"torch": version})
        with pytest.raises(EnvironmentMismatch, match=f"built with torch {version} for"):
            target.load(older)
    with pytest.raises(EnvironmentMismatch, match=r"and CUDA 13\.0 for"):
        target.load(replace(made.clip, toolchain={**made.clip.toolchain, "cuda": "13.0"}))


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_damaged_package_is_an_error_of_ours(made: Made, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clip.pt2").write_bytes(content)

    with pytest.raises(EnvironmentMismatch, match="it is no package") as caught:
        AotInductor("cpu").load(replace(made.clip, directory=tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_a_package_with_another_interface_is_not_run(made: Made) -> None:
    larger = (TensorSpec("frames", "u8", (T, 1, 640, 640)),)

    with pytest.raises(EnvironmentMismatch, match="takes and gives other tensors"):
        AotInductor("cpu").load(replace(made.clip, inputs=larger))
    with pytest.raises(EnvironmentMismatch, match="takes and gives other tensors"):
        AotInductor("cpu").load(
            replace(made.clip, directory=made.stream.directory, files=made.stream.files)
        )


@needs_compiler
@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_program_that_is_none_is_an_error_of_ours(tmp_path: Path, content: bytes | None) -> None:
    program, out = tmp_path / "program.pt2", tmp_path / "out"
    out.mkdir()
    if content is not None:
        program.write_bytes(content)

    with pytest.raises(PkechoEdgeError, match="no exported program can be read") as caught:
        AotInductor("cpu").compile({"clip": program}, out, CompileOptions("f32"))
    assert str(program) in str(caught.value)
    assert list(out.iterdir()) == []


def test_a_precision_that_the_program_or_the_target_does_not_have_is_refused(
    made: Made, tmp_path: Path
) -> None:
    target = AotInductor("cpu")

    with pytest.raises(UsageError, match="exported for f32, not f16"):
        target.compile({"clip": made.programs["clip"]}, tmp_path, CompileOptions("f16"))
    with pytest.raises(UsageError, match="target cuda has no bf16"):
        target.compile({"clip": made.programs["clip"]}, tmp_path, CompileOptions("bf16"))
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")

    with pytest.raises(MissingDependency, match="there is no no-such-compiler"):
        AotInductor("cpu").compile({}, tmp_path, CompileOptions("f32"))


def torch_at(folder: Path, cuda: str) -> object:
    """A module spec of a torch that was built for `cuda`, as its version.py says it."""
    text = f"from typing import Optional\n__version__ = '2.13.0'\ncuda: Optional[str] = {cuda}\n"
    (folder / "version.py").write_text(text, "utf-8")
    return importlib.util.spec_from_file_location("torch", folder / "__init__.py")


@pytest.mark.parametrize(
    ("cuda", "gpus", "message"),
    [
        ("None", 1, "is for the CPU only; install the one for CUDA"),
        ("'13.0'", 0, "no NVIDIA GPU that torch can use"),
        ("'13.0'", 1, None),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: str, gpus: int, message: str | None
) -> None:
    spec = torch_at(tmp_path, cuda)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: spec)
    monkeypatch.setattr(cuda_device, "_gpus", lambda: gpus)

    found = targets.get("cuda").missing()

    assert (found is None) if message is None else (found is not None and message in found)
    if message:
        with pytest.raises(MissingDependency, match="target cuda cannot be used here") as caught:
            targets.get("cuda").compile({}, tmp_path, CompileOptions("f32"))
        assert caught.value.exit_code == 5


def test_without_torch_it_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)

    with pytest.raises(MissingDependency, match="pip install 'pkecho-edge"):
        targets.get("cuda").compile({}, tmp_path, CompileOptions("f32"))


def test_a_gpu_that_torch_cannot_use_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aotinductor, "missing_cuda", lambda: None)  # the driver sees one
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(MissingDependency, match="no NVIDIA GPU that torch can use"):
        targets.get("cuda").compile({}, tmp_path, CompileOptions("f32"))
