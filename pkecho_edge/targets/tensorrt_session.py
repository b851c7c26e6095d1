"""A TensorRT plan loaded in this process, by the code that loads it on a device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.device import pkecho_device as kit
from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, UsageError
from pkecho_edge.targets.base import Arrays, Engine, GuardedSession

__all__ = ["PlanWindow", "TensorRtSession", "tensorrt_version"]


def tensorrt_version() -> str:
    """Of the TensorRT of this machine; MissingDependency without one."""
    try:
        return str(kit.import_tensorrt().__version__)
    except kit.KitError as error:
        raise MissingDependency(error.what, remedy=error.remedy) from error


class TensorRtSession(GuardedSession):
    """One loaded plan; every bound inference and every window has an execution context of its own.

    Raises:
        EnvironmentMismatch: no TensorRT, no GPU, or the plan is of another version or GPU.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._turn = threading.RLock()  # nothing may be freed while it is used
        self._path = engine.directory / engine.files[0]
        with _as_ours(self._path):
            self._trt, self._cuda = kit.import_tensorrt(), kit.Cuda()
            self._data = self._path.read_bytes()
            self._own = self._runner()
        self._others: list[kit.Runner] = []

    def _runner(self) -> kit.Runner:
        self._cuda.enter()
        tensors = [
            {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
            for spec in (*self._inputs, *self._outputs)
        ]
        return kit.Runner(self._trt, self._cuda, "plan", self._data, tensors)

    def _another(self) -> kit.Runner:
        with self._turn, _as_ours(self._path):
            self._check_open()
            runner = self._runner()
        self._others.append(runner)
        return runner

    def window(self) -> PlanWindow:
        """See KeepsHistory.window."""
        self._check_open()
        if "history" not in {spec.name for spec in self._inputs}:
            raise UsageError("a clip engine has no window", remedy="Load the stream engine")
        return PlanWindow(self._another(), self._held)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The session stays open meanwhile; the kit's errors are ours.

        Raises:
            UsageError: it is closed.
        """
        with self._turn, _as_ours(self._path):
            self._check_open()
            self._cuda.enter()
            yield

    def _infer(self, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
        outputs = {spec.name: spec.zeros() for spec in self._outputs}
        with self._held():
            _run(self._own, inputs, outputs)
        return dict(outputs)

    def _bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], object]:
        runner, taken, given = self._another(), dict(inputs), dict(outputs)

        def infer() -> None:
            with self._held():
                _run(runner, taken, given)

        return infer

    def _free(self) -> None:
        with self._turn, _as_ours(self._path):
            self._cuda.enter()
            for runner in (self._own, *self._others):
                runner.close()
            self._cuda.release()


class PlanWindow:
    """The window of a stream plan, whose history stays on the GPU; a `LiveWindow`.

    Args:
        runner: of this window alone.
        held: keeps the session open, and raises UsageError once it is closed.
    """

    def __init__(
        self, runner: kit.Runner, held: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._runner, self._held = runner, held
        self.pushed = 0
        # the runner's own arrays end with the session
        self.frame: NDArray[np.uint8] = np.zeros_like(runner.given[0, 0])
        self.logits: NDArray[np.float32] = np.zeros_like(runner.logits[0, 0])

    def advance(self, *, anew: bool = False) -> None:
        """See LiveWindow.advance; EnvironmentMismatch where the GPU fails."""
        with self._held():
            if anew or not self.pushed:
                self.pushed = 0
                self._runner.restart(self.frame[None, None])
            self._runner.given[0, 0] = self.frame
            self._runner.advance()
            self.logits[:] = self._runner.logits[0, 0]
        self.pushed += 1

    def restart(self) -> None:
        """See LiveWindow.restart."""
        self.pushed = 0


def _run(runner: kit.Runner, inputs: Arrays, outputs: Arrays) -> None:
    """One inference, the history given and taken like any other tensor."""
    np.copyto(runner.given, inputs[runner.frame_name])
    if runner.is_stream:
        runner.remember(inputs["history"])
    runner.infer()
    np.copyto(outputs["logits"], runner.logits)
    if runner.is_stream:
        np.copyto(outputs["history_out"], runner.written())


@contextmanager
def _as_ours(path: Path) -> Iterator[None]:
    """The kit's errors as EnvironmentMismatch."""
    try:
        yield
    except kit.KitError as error:
        raise EnvironmentMismatch(error.what, path=path, remedy="Compile it again here") from error
