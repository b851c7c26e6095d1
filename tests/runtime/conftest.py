"""A bundle of a narrow FP32 network for both modes, and a stand-in engine whose answer is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pkecho_edge import targets
from pkecho_edge.bundle.golden import GoldenVectors
from pkecho_edge.bundle.layout import GOLDEN
from pkecho_edge.bundle.manifest import (
    EngineEntry,
    GoldenTolerances,
    Lineage,
    Manifest,
    Postprocessing,
    Preprocessing,
)
from pkecho_edge.bundle.manifest import Window as WindowEntry
from pkecho_edge.bundle.writer import add_engine, finish, staging
from pkecho_edge.errors import UsageError
from pkecho_edge.lowering.onnx_export import export_clip_onnx, export_stream_onnx
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.runtime import Engine, open_bundle, stream_runner
from pkecho_edge.targets.base import CompileOptions, TensorSpec
from pkecho_edge.targets.base import Engine as CompiledEngine

LENGTH = 4
SIZE = (96, 128)
Frames = NDArray[np.uint8]
WriteBundle = Callable[..., Path]


@pytest.fixture(scope="session")
def frames() -> Frames:
    """u8 [9, 1, 96, 128], noise."""
    return np.random.default_rng(0).integers(0, 256, (9, 1, *SIZE), dtype=np.uint8)


@pytest.fixture(scope="session")
def network(frames: Frames) -> PKEchoNet:
    """A narrow ResNet-18 that sees four frames."""
    torch.manual_seed(0)
    inner = (((16,), (16,)), ((24,), (24,)), ((32,), (32,)), ((32,), (32,)))
    network = PKEchoNet(NetworkConfig(frames=LENGTH, widths=Widths(16, (16, 24, 32, 32), inner)))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(frames[None, :LENGTH]).float() / 255)
    return network.eval()


@pytest.fixture(scope="session")
def compiled(
    network: PKEchoNet, frames: Frames, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, CompiledEngine]:
    """FP32 engines of both modes."""
    folder, out = tmp_path_factory.mktemp("graphs"), tmp_path_factory.mktemp("compiled")
    graphs = {mode: folder / f"{mode}.onnx" for mode in ("clip", "stream")}
    export_clip_onnx(network, SIZE, graphs["clip"], frames[:LENGTH])
    export_stream_onnx(network, SIZE, graphs["stream"], frames[:LENGTH])
    return targets.get("cpu").compile(graphs, out, CompileOptions(threads=1))


@pytest.fixture(scope="session")
def golden(compiled: dict[str, CompiledEngine], frames: Frames) -> dict[str, GoldenVectors]:
    """Per mode, what the engine gives for the first four frames."""
    cpu, clip = targets.get("cpu"), frames[:LENGTH]
    with cpu.load(compiled["clip"]) as session:
        whole = session.run({"frames": clip})["logits"].astype(np.float32)
    with cpu.load(compiled["stream"]) as session:
        pushed = stream_runner(session, compiled["stream"])(clip)
    return {"clip": GoldenVectors.of(clip, whole), "stream": GoldenVectors.of(clip, pushed)}


@pytest.fixture(scope="session")
def write(compiled: dict[str, CompiledEngine], golden: dict[str, GoldenVectors]) -> WriteBundle:
    """Writes a bundle with the given modes."""

    def write_it(
        out: Path,
        modes: tuple[str, ...] = ("clip", "stream"),
        vectors: Mapping[str, GoldenVectors] = golden,
    ) -> Path:
        manifest = Manifest(
            target="cpu",
            profile=None,
            engines=tuple(EngineEntry.of(compiled[mode], mode=mode) for mode in modes),
            preprocessing=Preprocessing(size=SIZE),
            postprocessing=Postprocessing(),
            window=WindowEntry(length=LENGTH),
            golden=GoldenTolerances(pixels_fraction=0.002, area_fraction=0.02),
            lineage=Lineage("1" * 64, None, None, None, {"python": "3.11"}),
        )
        with staging(out) as folder:
            for mode in modes:
                add_engine(folder, compiled[mode])
                vectors[mode].write(folder / GOLDEN / mode)
            return finish(folder, manifest).path

    return write_it


@pytest.fixture(scope="session")
def bundle(write: WriteBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written to."""
    return write(tmp_path_factory.mktemp("bundle") / "heart.pkb")


@pytest.fixture
def engine(bundle: Path) -> Iterator[Engine]:
    with open_bundle(bundle) as engine:
        yield engine


class StandIn:
    """A stream engine: a pixel's logit is 100 less its grey value; the history notes grey values.

    Attributes:
        fails_at: number of the inference that fails, from 0; None where none does.
        before: called at the beginning of each inference.
        seen: the history of every inference that did not fail, f32 [3].
    """

    def __init__(self) -> None:
        self.fails_at: int | None = None
        self.before: Callable[[], None] = lambda: None
        self.seen: list[list[float]] = []
        self._inferences = 0

    def bind(
        self, inputs: Mapping[str, NDArray[np.generic]], outputs: Mapping[str, NDArray[np.generic]]
    ) -> Callable[[], None]:
        def infer() -> None:
            self.before()
            self._inferences += 1
            if self._inferences - 1 == self.fails_at:
                raise UsageError("the session is closed")
            self.seen.append(inputs["history"].ravel().tolist())
            np.subtract(np.float32(100), inputs["frame"], out=outputs["logits"])
            outputs["history_out"][:-1] = inputs["history"][1:]
            outputs["history_out"][-1] = inputs["frame"][0, 0, 0, 0]

        return infer

    def run(self, _: object) -> dict[str, NDArray[np.generic]]:
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture(scope="session")
def stand_in_engine(tmp_path_factory: pytest.TempPathFactory) -> CompiledEngine:
    """How the stand-in is called: frames of 96x96, a window of four."""
    image, history = (1, 1, 96, 96), (LENGTH - 1, 1, 1, 1)
    return CompiledEngine(
        target="stand-in",
        directory=tmp_path_factory.mktemp("stand-in"),
        files=(),
        inputs=(TensorSpec("frame", "u8", image), TensorSpec("history", "f32", history)),
        outputs=(TensorSpec("logits", "f32", image), TensorSpec("history_out", "f32", history)),
    )
