"""Capture and replay against a stand-in for torch.cuda that enforces the order; no GPU ran this."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from pkecho_edge.targets.aotinductor_replay import CudaGraph, Inference, ResidentWindow
from pkecho_edge.targets.base import TensorSpec

INPUTS = (TensorSpec("frame", "u8", (1, 1, 2, 3)), TensorSpec("history", "f32", (3, 2, 1, 1)))
OUTPUTS = (
    TensorSpec("logits", "f32", (1, 1, 2, 3)),
    TensorSpec("history_out", "f32", (3, 2, 1, 1)),
)


class StandInStream:
    """Counts what was queued since it was last waited for."""

    def __init__(self) -> None:
        self.pending = 0

    def synchronize(self) -> None:
        self.pending = 0


class StandInCuda:
    """What CudaGraph uses of torch.cuda, as torch 2.13 names it.

    A capture does not compute. A replay computes what was captured, on the same addresses.
    """

    def __init__(self) -> None:
        self.current: StandInStream | None = None
        self.capturing = False
        self.log: list[str] = []
        self.bodies: dict[int, Callable[[], None]] = {}

    def Stream(self) -> StandInStream:
        return StandInStream()

    def CUDAGraph(self) -> StandInGraph:
        return StandInGraph(self)

    @contextmanager
    def stream(self, stream: StandInStream) -> Iterator[None]:
        assert not self.capturing, "a capture has its stream from torch.cuda.graph"
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextmanager
    def graph(
        self,
        cuda_graph: StandInGraph,
        pool: object = None,
        stream: StandInStream | None = None,
        capture_error_mode: str = "global",
    ) -> Iterator[None]:
        assert not cuda_graph.captured, "a graph is captured once"
        assert stream is not None
        assert stream.pending == 0, "work was still queued"
        assert capture_error_mode == "thread_local", "other threads would fail"
        assert "run" in self.log, "capture comes after a warm-up"
        before, self.current, self.capturing = self.current, stream, True
        self.log.append("capture")
        yield
        self.current, self.capturing = before, False
        cuda_graph.captured, cuda_graph.stream = True, stream


class StandInGraph:
    """torch.cuda.CUDAGraph."""

    def __init__(self, cuda: StandInCuda) -> None:
        self.cuda, self.captured = cuda, False
        self.stream: StandInStream | None = None

    def replay(self) -> None:
        assert self.captured, "replayed before it was captured"
        assert self.cuda.current is self.stream, "replayed on another stream"
        assert self.stream is not None
        self.stream.pending += 1
        self.cuda.log.append("replay")
        self.cuda.bodies[id(self)]()


class StandInCudnn:
    """torch.backends.cudnn: flags as torch 2.13 takes them."""

    def __init__(self) -> None:
        self.tf32 = True

    @contextmanager
    def flags(
        self,
        enabled: bool = False,
        benchmark: bool = False,
        benchmark_limit: int = 10,
        deterministic: bool = False,
        allow_tf32: bool = True,
    ) -> Iterator[None]:
        assert (enabled, deterministic, benchmark) == (True, True, False)
        before, self.tf32 = self.tf32, allow_tf32
        yield
        self.tf32 = before


class Device:
    """A stand-in GPU and a model on it that tells how it is run."""

    def __init__(self) -> None:
        self.cuda, self.cudnn = StandInCuda(), StandInCudnn()
        self.addresses: set[tuple[int, ...]] = set()

    def graph(self) -> CudaGraph:
        cuda = self.cuda

        class Noted(CudaGraph):
            """Tells the stand-in what a capture would have recorded."""

            def capture(self, body: Callable[[], None]) -> None:
                cuda.bodies[id(self._graph)] = body
                super().capture(body)

        return Noted(self.cuda, self.cudnn)

    def model(self, tensors: Sequence[Any]) -> Sequence[Any]:
        """logits = frame + sum of the history; the newest feature is the frame's mean."""
        assert self.cuda.current is not None, "it ran outside a turn"
        assert not self.cudnn.tf32
        frame, history = tensors
        self.cuda.log.append("recorded" if self.cuda.capturing else "run")
        self.addresses.add(tuple(tensor.data_ptr() for tensor in tensors))
        newest = frame.float().mean().expand(1, *history.shape[1:])
        window = torch.cat([history, newest])
        return [frame.float() + window.sum(), window[1:]]


def step(frame: np.ndarray[Any, Any], history: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """The model, in NumPy."""
    newest = np.full((1, 2, 1, 1), frame.mean(), dtype=np.float32)
    window = np.concatenate([history, newest])
    return frame + window.sum(), window[1:]


def arrays(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return {
        "frame": rng.integers(0, 255, (1, 1, 2, 3), dtype=np.uint8),
        "history": rng.standard_normal((3, 2, 1, 1)).astype(np.float32),
    }


def test_it_warms_up_captures_once_and_replays() -> None:
    device = Device()
    inference = Inference(device.model, INPUTS, OUTPUTS, "cpu", device.graph())

    assert device.cuda.log == [*["run"] * 3, "capture", "recorded"]

    outputs = {spec.name: spec.zeros() for spec in OUTPUTS}
    for seed in range(3):
        inputs = arrays(seed)
        inference(inputs, outputs)
        logits, history = step(inputs["frame"], inputs["history"])
        assert np.allclose(outputs["logits"], logits)
        assert np.allclose(outputs["history_out"], history)
    assert device.cuda.log.count("capture") == 1
    assert device.cuda.log.count("replay") == 3


def test_every_run_reads_the_addresses_of_the_capture() -> None:
    device = Device()
    inference = Inference(device.model, INPUTS, OUTPUTS, "cpu", device.graph())
    outputs = {spec.name: spec.zeros() for spec in OUTPUTS}

    for seed in range(3):
        inference(arrays(seed), outputs)

    assert len(device.addresses) == 1


def test_two_inferences_share_no_buffer() -> None:
    device = Device()
    for _ in range(2):
        Inference(device.model, INPUTS, OUTPUTS, "cpu", device.graph())

    first, second = device.addresses
    assert not set(first) & set(second)


def test_nothing_is_pending_when_a_run_returns() -> None:
    device = Device()
    graph = device.graph()
    inference = Inference(device.model, INPUTS, OUTPUTS, "cpu", graph)

    inference(arrays(0), {spec.name: spec.zeros() for spec in OUTPUTS})

    assert graph._stream.pending == 0
    assert device.cuda.current is None
    assert device.cudnn.tf32  # the caller's own setting is back


def test_a_model_that_gives_other_tensors_is_refused() -> None:
    device = Device()
    wider = (TensorSpec("logits", "f32", (1, 1, 4, 3)), OUTPUTS[1])

    with pytest.raises(ValueError, match=r"logits comes out as torch.float32 \[1, 1, 2, 3\]"):
        Inference(device.model, INPUTS, wider, "cpu", device.graph())
    assert "capture" not in device.cuda.log


def test_the_history_stays_on_the_device_and_is_the_right_one() -> None:
    device = Device()
    window = ResidentWindow(device.model, INPUTS, OUTPUTS, "cpu", device.graph, lambda: None)
    history = np.zeros((3, 2, 1, 1), dtype=np.float32)

    for index in range(6):
        anew = index in (0, 4)
        frame = arrays(index)["frame"]
        window.frame[:] = frame[0, 0]
        window.advance(anew=anew)
        if anew:
            history = np.repeat(step(frame, history)[1][-1:], 3, axis=0)
        logits, history = step(frame, history)
        assert np.allclose(window.logits, logits[0, 0])
        assert window.pushed == (index - 3 if index >= 4 else index + 1)
    # two graphs, one replay for each frame and one more for each first frame
    assert device.cuda.log.count("capture") == 2
    assert device.cuda.log.count("replay") == 8
    assert len(device.addresses) == 1


def test_a_window_of_what_is_closed_does_not_run() -> None:
    device = Device()

    def closed() -> None:
        raise RuntimeError("closed")

    window = ResidentWindow(device.model, INPUTS, OUTPUTS, "cpu", device.graph, closed)

    with pytest.raises(RuntimeError, match="closed"):
        window.advance()
    assert "replay" not in device.cuda.log
    assert window.pushed == 0
