"""Target `onnxruntime`: the quantized graph itself, run by ONNX Runtime's CPU provider."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, PkechoEdgeError
from pkecho_edge.processors import allowed_cores
from pkecho_edge.targets.base import (
    Arrays,
    Capabilities,
    CompileOptions,
    Engine,
    GuardedSession,
    TensorSpec,
    check_precision,
    check_release,
)

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OnnxRuntimeCpu", "OnnxRuntimeSession"]

_INSTALL = "pip install 'pkecho-edge[onnxruntime]'"
_DTYPES = {"tensor(uint8)": "u8", "tensor(float)": "f32"}


class OnnxRuntimeCpu:
    """`clip.onnx`, `stream.onnx`, the graphs as they came.

    What ONNX Runtime makes of them depends on the processor, so their optimized form is made at
    every load and never shipped.
    """

    name = "onnxruntime"
    capabilities = Capabilities(
        precisions=("int8", "f32"), scheme="onnxruntime", opset=21, portable=True
    )

    def missing(self) -> str | None:
        """See Target.missing."""
        return None if importlib.util.find_spec("onnxruntime") else _INSTALL

    def _require(self) -> None:
        if command := self.missing():
            raise MissingDependency("ONNX Runtime is not installed", remedy=f"Run: {command}")

    def compile(
        self, graphs: Mapping[str, Path], out_dir: Path, options: CompileOptions
    ) -> dict[str, Engine]:
        """See Target.compile. Each graph keeps its own weights, as it came.

        Raises:
            UsageError: float layers in BF16, which this provider does not compute.
        """
        self._require()
        check_precision(self, options)
        return {
            mode: self._compile(graph, out_dir / f"{mode}.onnx", options)
            for mode, graph in graphs.items()
        }

    def _compile(self, graph: Path, out: Path, options: CompileOptions) -> Engine:
        try:
            session = _open(graph, options.threads)
        except Exception as error:  # its exceptions have no common base of their own
            raise PkechoEdgeError(
                f"ONNX Runtime cannot read the graph ({error})",
                path=graph,
                remedy="Report it with the graph attached",
            ) from error
        shutil.copyfile(graph, out)
        return Engine(
            target=self.name,
            directory=out.parent,
            files=(out.name,),
            inputs=tuple(map(_spec, session.get_inputs())),
            outputs=tuple(map(_spec, session.get_outputs())),
            options=options.as_dict(),
            toolchain={"onnxruntime": metadata.version("onnxruntime")},
        )

    def load(self, engine: Engine) -> OnnxRuntimeSession:
        """See Target.load."""
        self._require()
        check_release(engine, "onnxruntime")
        return OnnxRuntimeSession(engine)


def _open(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session whose settings do not depend on the machine, but for the number of cores."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.intra_op_num_threads = threads or allowed_cores()
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3  # errors only; they come as exceptions, too
    # else its threads go on spinning after a run and take the cores from whatever comes next
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def _spec(port: Any) -> TensorSpec:
    return TensorSpec(port.name, _DTYPES.get(port.type, port.type), tuple(port.shape))


class OnnxRuntimeSession(GuardedSession):
    """One inference session."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        main = engine.directory / engine.files[0]
        try:
            self._session = _open(main, int(engine.options.get("threads", "0")))
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
