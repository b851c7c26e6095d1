"""An ONNX graph in ONNX Runtime's CPU provider: a target of its own, the reference of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import EnvironmentMismatch
from pkecho_edge.processors import allowed_cores
from pkecho_edge.targets.base import Arrays, Engine, GuardedSession, TensorSpec

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OnnxRuntimeSession", "open_graph", "tensor_spec"]

_DTYPES = {"tensor(uint8)": "u8", "tensor(float)": "f32"}


def open_graph(
    path: Path, threads: int, *, as_written: bool = False
) -> onnxruntime.InferenceSession:
    """A session whose settings do not depend on the machine, but for the number of cores.

    Args:
        path: of the ONNX file; its weights may lie beside it.
        threads: 0 for every core.
        as_written: node by node, nothing fused or moved.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    settings.graph_optimization_level = (
        level.ORT_DISABLE_ALL if as_written else level.ORT_ENABLE_ALL
    )
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.intra_op_num_threads = threads or allowed_cores()
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3  # errors only; they come as exceptions, too
    # else its threads go on spinning after a run and take the cores from whatever comes next
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def tensor_spec(port: Any) -> TensorSpec:
    """Of an input or output of a session."""
    return TensorSpec(port.name, _DTYPES.get(port.type, port.type), tuple(port.shape))


class OnnxRuntimeSession(GuardedSession):
    """One inference session.

    Args:
        engine: its first file is the graph.
        as_written: see `open_graph`.

    Raises:
        EnvironmentMismatch: ONNX Runtime cannot load it.
    """

    def __init__(self, engine: Engine, *, as_written: bool = False) -> None:
        super().__init__(engine)
        main = engine.directory / engine.files[0]
        try:
            threads = int(engine.options.get("threads", "0"))
            self._session = open_graph(main, threads, as_written=as_written)
        except Exception as error:  # as in compile
            raise EnvironmentMismatch(
                f"ONNX Runtime cannot load the engine ({error})",
                path=main,
                remedy="Compile it again with this version of ONNX Runtime",
            ) from error
        self._names = [spec.name for spec in engine.outputs]

    def _infer(self, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))

    def _bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], object]:
        session = self._session
        binding = session.io_binding()
        for arrays, tie in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
            for name, array in arrays.items():
                tie(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        def infer(_kept: object = (dict(inputs), dict(outputs))) -> None:
            # the binding knows addresses only: the arrays live as long as this function
            session.run_with_iobinding(binding)

        return infer

    def _free(self) -> None:
        del self._session
