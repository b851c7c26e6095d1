"""An example of a target of one's own: ONNX Runtime with its graph optimized ahead of time.

ONNX Runtime fuses nodes at every load. This target does what does not depend on the processor once,
where the engine is built, and ships the graph in that form.

docs/adding-a-target.md walks through it; tests/contract/test_targets.py holds it to what every
target does.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

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

__all__ = ["OnnxRuntimeAhead"]

_INSTALL = "pip install 'pkecho-edge[onnxruntime]'"
_DTYPES = {"tensor(uint8)": "u8", "tensor(float)": "f32"}


class OnnxRuntimeAhead:
    """`clip.onnx` and `stream.onnx`, with the fused nodes of ONNX Runtime's own in them."""

    name = "onnxruntime-ahead"
    capabilities = Capabilities(
        precisions=("int8", "f32"), scheme="onnxruntime", opset=21, portable=True
    )

    def missing(self) -> str | None:
        """See Target.missing."""
        return None if importlib.util.find_spec("onnxruntime") else _INSTALL

    def compile(
        self,
        graphs: Mapping[str, Path],
        out_dir: Path,
        options: CompileOptions,
        float_graphs: Mapping[str, Path] | None = None,
    ) -> dict[str, Engine]:
        """See Target.compile."""
        self._require()
        check_precision(self, options)
        return {
            mode: self._compile(mode, graph, out_dir, options) for mode, graph in graphs.items()
        }

    def _compile(self, mode: str, graph: Path, out_dir: Path, options: CompileOptions) -> Engine:
        out = out_dir / f"{mode}.onnx"
        try:
            session = _open(graph, options.threads, save_as=out)
        except Exception as error:  # its exceptions have no common base of their own
            raise PkechoEdgeError(
                f"ONNX Runtime cannot read the graph ({error})",
                path=graph,
                remedy="Report it with the graph attached",
            ) from error
        return Engine(
            target=self.name,
            directory=out_dir,
            files=(out.name,),
            inputs=tuple(map(_spec, session.get_inputs())),
            outputs=tuple(map(_spec, session.get_outputs())),
            options=options.as_dict(),
            toolchain={"onnxruntime": metadata.version("onnxruntime")},
        )

    def load(self, engine: Engine) -> _Session:
        """See Target.load."""
        self._require()
        check_release(engine, "onnxruntime")
        return _Session(engine)

    def _require(self) -> None:
        if command := self.missing():
            raise MissingDependency("ONNX Runtime is not installed", remedy=f"Run: {command}")


class _Session(GuardedSession):
    """Checks, threads and closing are GuardedSession's; these three methods are the toolchain's."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        main = engine.directory / engine.files[0]
        try:
            self._session = _open(main, int(engine.options["threads"]))
        except Exception as error:
            raise EnvironmentMismatch(
                f"ONNX Runtime cannot load the engine ({error})",
                path=main,
                remedy="Compile it again with this version of ONNX Runtime",
            ) from error
        self._names = [spec.name for spec in engine.outputs]

    def _infer(self, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))

    def _bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], object]:
        def infer() -> None:
            for name, found in self._infer(inputs).items():
                np.copyto(outputs[name], found)

        return infer

    def _free(self) -> None:
        del self._session


def _open(path: Path, threads: int, save_as: Path | None = None) -> Any:
    """A session; with `save_as` its optimized graph is written there."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads or allowed_cores()
    settings.log_severity_level = 3  # errors only; they come as exceptions, too
    if save_as is not None:
        # all but the layouts of this very processor, which are chosen when the engine is loaded
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        settings.optimized_model_filepath = str(save_as)
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def _spec(port: Any) -> TensorSpec:
    return TensorSpec(port.name, _DTYPES.get(port.type, port.type), tuple(port.shape))
