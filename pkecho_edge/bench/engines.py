"""From a network to engines that a benchmark can time: graphs, sessions, bound calls."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkecho_edge import targets
from pkecho_edge.bench.memory_child import memory_of
from pkecho_edge.building import engine_size, export_graphs
from pkecho_edge.calibration.activations import merge_activations, observe
from pkecho_edge.calibration.quantize import quantize_graph
from pkecho_edge.calibration.rule import DEFAULT_RULE
from pkecho_edge.calibration.scheme import load_scheme
from pkecho_edge.calibration.transfer import transfer_quantization
from pkecho_edge.data.clip import Clip
from pkecho_edge.data.sources import phantoms
from pkecho_edge.data.standard import CALIBRATION_SEEDS
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.runtime.window import open_window
from pkecho_edge.targets.base import CompileOptions, Engine, LiveWindow, Session

__all__ = ["CALIBRATION_CLIPS", "Graphs", "LoadedEngine", "bench_clips", "build_graphs"]
__all__ += ["compile_graphs", "engine_call", "load_timed"]

CALIBRATION_CLIPS = 8
"""The same for every toolchain that quantizes."""

SCHEMES = ("cpu", "onnxruntime")
"""Of the targets that are timed."""

_LOADS = 3


@dataclass(frozen=True)
class Graphs:
    """The lowered graphs of one network at one size, as ONNX.

    Attributes:
        clip, stream: FP32.
        int8: scheme -> mode -> the quantized graph.
    """

    clip: Path
    stream: Path
    int8: Mapping[str, Mapping[str, Path]]

    def of(self, precision: str, scheme: str = "cpu") -> Mapping[str, Path]:
        """Mode -> graph, for "int8" or "f32"."""
        return self.int8[scheme] if precision == "int8" else self.f32

    @property
    def f32(self) -> Mapping[str, Path]:
        """Mode -> graph."""
        return {"clip": self.clip, "stream": self.stream}


@dataclass(frozen=True)
class LoadedEngine:
    """An engine that is ready to run, and what it took to get there.

    Attributes:
        call: one inference: a clip of T frames, or the push of one frame.
        size_mb: of the engine's files, in MB of 10^6 bytes.
        load_ms: median time of loading it, in milliseconds.
        memory_mb: growth of resident memory by loading and one call in a process of its own, in
            MB; None where the system does not say or it was not asked for.
    """

    call: Callable[[], object]
    size_mb: float
    load_ms: float
    memory_mb: float | None


def bench_clips(size: tuple[int, int], length: int, count: int = CALIBRATION_CLIPS) -> list[Clip]:
    """Phantom clips for calibration; the first one is also what is timed."""
    return list(replace(phantoms(CALIBRATION_SEEDS[:count], size), length=length))


def build_graphs(network: PKEchoNet, clips: Sequence[Clip], folder: Path) -> Graphs:
    """Lower, export and quantize into `folder`, at the clips' size.

    Raises:
        PkechoEdgeError: see the export and the quantization.
    """
    frames = clips[0].frames  # u8 [T, 1, H, W]
    size = (frames.shape[2], frames.shape[3])
    export_graphs(network, size, clips[0], folder)
    clip, stream = folder / "clip.onnx", folder / "stream.onnx"
    activations = merge_activations(observe(clip, clips))
    int8 = {}
    for scheme in SCHEMES:
        paths = {mode: folder / f"{mode}.{scheme}.onnx" for mode in ("clip", "stream")}
        quantize_graph(clip, activations, load_scheme(scheme), DEFAULT_RULE, paths["clip"])
        transfer_quantization(paths["clip"], stream, paths["stream"])
        int8[scheme] = paths
    return Graphs(clip, stream, int8)


def compile_graphs(
    graphs: Mapping[str, Path], target: str, float_precision: str, threads: int, folder: Path
) -> dict[str, Engine]:
    """Compile for a target into `folder`, which is made; mode -> engine."""
    folder.mkdir(parents=True)
    options = CompileOptions(float_precision=float_precision, threads=threads)
    return targets.get(target).compile(graphs, folder, options)


def engine_call(
    session: Session, engine: Engine, frames: NDArray[np.generic]
) -> Callable[[], object]:
    """The quickest way to run a loaded engine: arrays stay where they are.

    Args:
        session: of the engine.
        engine: a stream engine, known by its input "history", or one with a single input.
        frames: u8 [T, 1, H, W] for ours; else whatever the single input takes.

    Returns:
        one push of the next frame for a stream engine, one inference of `frames` for others.
    """
    if any(spec.name == "history" for spec in engine.inputs):
        return _pushes(open_window(session, engine), frames)
    (taken,) = engine.inputs
    inputs = {taken.name: np.ascontiguousarray(frames)}
    return session.bind(inputs, {spec.name: spec.zeros() for spec in engine.outputs})


def _pushes(window: LiveWindow, frames: NDArray[np.generic]) -> Callable[[], object]:
    """Pushes frame after frame, and begins anew after the last."""
    following = itertools.cycle(frames[:, 0])

    def push() -> None:
        window.frame[:] = next(following)
        window.advance()

    return push


def load_timed(
    engine: Engine, frames: NDArray[np.generic], stack: ExitStack, *, loads: int = _LOADS
) -> LoadedEngine:
    """Load an engine `loads` times; the first one stays loaded until the stack closes.

    What loading costs is the median; what memory costs is asked of a new process, if more than one
    load is wanted.
    """
    seconds = []
    start = time.perf_counter()
    session = stack.enter_context(targets.get(engine.target).load(engine))
    seconds.append(time.perf_counter() - start)
    call = engine_call(session, engine, frames)
    for _ in range(loads - 1):
        start = time.perf_counter()
        again = targets.get(engine.target).load(engine)
        seconds.append(time.perf_counter() - start)
        again.close()
    return LoadedEngine(
        call=call,
        size_mb=engine_size(engine) / 1e6,
        load_ms=float(np.median(seconds)) * 1e3,
        memory_mb=memory_of(engine) if loads > 1 else None,
    )
