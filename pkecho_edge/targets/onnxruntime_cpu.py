"""Target `onnxruntime`: the quantized graph itself, run by ONNX Runtime's CPU provider."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from pkecho_edge.errors import MissingDependency, PkechoEdgeError
from pkecho_edge.targets.base import (
    Capabilities,
    CompileOptions,
    Engine,
    check_precision,
    check_release,
)
from pkecho_edge.targets.onnxruntime_session import OnnxRuntimeSession, open_graph, tensor_spec

__all__ = ["OnnxRuntimeCpu"]

_INSTALL = "pip install 'pkecho-edge[onnxruntime]'"


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
        self,
        graphs: Mapping[str, Path],
        out_dir: Path,
        options: CompileOptions,
        float_graphs: Mapping[str, Path] | None = None,
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
            session = open_graph(graph, options.threads)
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
            inputs=tuple(map(tensor_spec, session.get_inputs())),
            outputs=tuple(map(tensor_spec, session.get_outputs())),
            options=options.as_dict(),
            toolchain={"onnxruntime": metadata.version("onnxruntime")},
        )

    def load(self, engine: Engine) -> OnnxRuntimeSession:
        """See Target.load."""
        self._require()
        check_release(engine, "onnxruntime")
        return OnnxRuntimeSession(engine)
