"""Running a model from fixed buffers: captured once as a CUDA graph, replayed ever after.

A graph replays the addresses that it was captured with. So an inference owns its buffers: what
comes in is copied into them, and what goes out is copied out of them. Of a live stream the history
need not: `ResidentWindow` leaves it on the device from frame to frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.targets.base import Arrays, TensorSpec

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch

__all__ = ["CudaGraph", "DirectGraph", "Graph", "Inference", "Model", "ResidentWindow"]

Model = Callable[[Sequence[Any]], Sequence[Any]]
"""Tensors on the device, in the engine's order, to new tensors."""

_WARM_UPS = 3
"""Runs before capture: libraries allocate and choose kernels in them, which no capture allows."""
_CAPTURES = threading.Lock()
"""CUDA allows one capture at a time in a process."""


class Graph(Protocol):
    """Work that is captured once and replayed."""

    def turn(self) -> AbstractContextManager[None]:
        """Work queued inside runs in order with replays, and is done when the turn ends."""

    def capture(self, body: Callable[[], None]) -> None:
        """Note what `body` does; called once, outside a turn, after it ran a few times."""

    def replay(self) -> None:
        """Do it again; called in a turn."""


class DirectGraph:
    """No graph: a replay calls the body. For devices that have none.

    Args:
        lock: of the model, which one thread at a time may run.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._body: Callable[[], None] | None = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """See Graph.turn."""
        with self._lock:
            yield

    def capture(self, body: Callable[[], None]) -> None:
        """See Graph.capture."""
        self._body = body

    def replay(self) -> None:
        """See Graph.replay."""
        assert self._body is not None
        self._body()


class CudaGraph:
    """A torch.cuda.CUDAGraph on a stream of its own.

    Args:
        cuda: the module torch.cuda.
        cudnn: the module torch.backends.cudnn.
    """

    def __init__(self, cuda: Any, cudnn: Any) -> None:
        self._cuda, self._cudnn = cuda, cudnn
        self._stream = cuda.Stream()
        self._graph = cuda.CUDAGraph()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """See Graph.turn."""
        with self._settings(), self._cuda.stream(self._stream):
            yield
        self._stream.synchronize()

    def capture(self, body: Callable[[], None]) -> None:
        """See Graph.capture."""
        # thread_local: what other threads allocate meanwhile on their streams is no error of ours
        with (
            self._settings(),
            self._cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            body()

    def replay(self) -> None:
        """See Graph.replay."""
        self._graph.replay()

    def _settings(self) -> AbstractContextManager[None]:
        """The same kernels for the same input, and FP32 that is FP32: TF32 is off."""
        settings: AbstractContextManager[None] = self._cudnn.flags(
            enabled=True,
            benchmark=False,
            deterministic=True,
            allow_tf32=False,
        )
        return settings


class _Buffer:
    """A tensor on the device, and where NumPy reads and writes it: pinned memory, or itself."""

    def __init__(self, spec: TensorSpec, device: str) -> None:
        import torch

        dtype = {"u8": torch.uint8, "f32": torch.float32}[spec.dtype]
        self.tensor: torch.Tensor = torch.zeros(spec.shape, dtype=dtype, device=device)
        on_host = device == "cpu"
        self._host = (
            self.tensor if on_host else torch.zeros(spec.shape, dtype=dtype, pin_memory=True)
        )
        self.array: NDArray[Any] = self._host.numpy()

    def to_device(self) -> None:
        if self._host is not self.tensor:
            self.tensor.copy_(self._host, non_blocking=True)

    def to_host(self) -> None:
        if self._host is not self.tensor:
            self._host.copy_(self.tensor, non_blocking=True)


def _buffers(specs: Sequence[TensorSpec], device: str) -> dict[str, _Buffer]:
    return {spec.name: _Buffer(spec, device) for spec in specs}


def _prepare(body: Callable[[], None], graph: Graph) -> None:
    """Warm up, then capture.

    Raises:
        ValueError: the model gives other tensors than the engine is said to.
    """
    with _CAPTURES:
        for _ in range(_WARM_UPS):
            with graph.turn():
                body()
        graph.capture(body)


def _store(results: Sequence[Any], buffers: Mapping[str, _Buffer]) -> None:
    """Copy what the model gave into buffers; ValueError where they are of another kind."""
    for (name, buffer), result in zip(buffers.items(), results, strict=True):
        if result.shape != buffer.tensor.shape or result.dtype != buffer.tensor.dtype:
            raise ValueError(f"{name} comes out as {result.dtype} {list(result.shape)}")
        buffer.tensor.copy_(result)


class Inference:
    """One inference with buffers and a graph of its own.

    Args:
        model: loaded; several inferences may share it.
        inputs, outputs: of the engine.
        device: "cuda" or "cpu".
        graph: new.

    Raises:
        ValueError: the model gives other tensors than `outputs`.
    """

    def __init__(
        self,
        model: Model,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        device: str,
        graph: Graph,
    ) -> None:
        self._inputs, self._outputs = _buffers(inputs, device), _buffers(outputs, device)
        self._graph = graph
        taken = [buffer.tensor for buffer in self._inputs.values()]
        _prepare(lambda: _store(model(taken), self._outputs), graph)

    def __call__(self, inputs: Arrays, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Read `inputs`, fill `outputs`; one thread at a time."""
        for name, buffer in self._inputs.items():
            np.copyto(buffer.array, inputs[name])
        with self._graph.turn():
            for buffer in self._inputs.values():
                buffer.to_device()
            self._graph.replay()
            for buffer in self._outputs.values():
                buffer.to_host()
        for name, buffer in self._outputs.items():
            np.copyto(outputs[name], buffer.array)


class ResidentWindow:
    """The window of a stream engine whose history never leaves the device.

    To its user it is a `runtime.window.Window`: the first frame is looked at twice, once for its
    features, then with T - 1 copies of them before it. Not safe for two threads; several windows
    may share one model.

    Args:
        model: a stream engine's, loaded.
        inputs, outputs: of the engine.
        device: "cuda" or "cpu".
        graph: makes a new graph; two are needed.
        check_open: raises UsageError once the session is closed.

    Attributes:
        frame: u8 [H, W], write the next frame here.
        logits: f32 [H, W], of the newest frame; overwritten by the next `advance`.
        pushed: frames taken in since the start; the window is full once there were T.

    Raises:
        ValueError: the model gives other tensors than `outputs`.
    """

    def __init__(
        self,
        model: Model,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        device: str,
        graph: Callable[[], Graph],
        check_open: Callable[[], None],
    ) -> None:
        taken, given = _buffers(inputs, device), _buffers(outputs, device)
        self._frame, history = taken["frame"], taken["history"].tensor
        self._logits, after = given["logits"], given["history_out"].tensor
        tensors = [buffer.tensor for buffer in taken.values()]

        def fill() -> None:
            """The newest features, T - 1 times, become the history."""
            _store(model(tensors), given)
            history.copy_(after[-1:].expand_as(history))

        def step() -> None:
            _store(model(tensors), given)
            history.copy_(after)

        self._fill, self._step = graph(), graph()
        _prepare(fill, self._fill)
        _prepare(step, self._step)
        self._check_open = check_open
        self.pushed = 0
        self.frame: NDArray[np.uint8] = self._frame.array[0, 0]
        self.logits: NDArray[np.float32] = self._logits.array[0, 0]

    def advance(self, *, anew: bool = False) -> None:
        """Take `frame` into the window and segment it into `logits`.

        Args:
            anew: forget every earlier frame first.

        Raises:
            UsageError: the session is closed.
        """
        self._check_open()
        if anew or not self.pushed:
            self.pushed = 0
            with self._fill.turn():
                self._frame.to_device()
                self._fill.replay()
        with self._step.turn():
            self._frame.to_device()
            self._step.replay()
            self._logits.to_host()
        self.pushed += 1

    def restart(self) -> None:
        """Forget every frame: the next one is the first."""
        self.pushed = 0
