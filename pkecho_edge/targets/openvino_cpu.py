"""Target `cpu`: OpenVINO on x86-64 and Arm processors."""

from __future__ import annotations

import importlib.util
import threading
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, PkechoEdgeError, UsageError
from pkecho_edge.targets.base import (
    Arrays,
    Capabilities,
    CompileOptions,
    Engine,
    TensorSpec,
    check_inputs,
)

__all__ = ["OpenVinoCpu", "OpenVinoSession"]

_INSTALL = "pip install 'pkecho-edge[cpu]'"
_DTYPES = {"u8": "u8", "f32": "f32"}


class OpenVinoCpu:
    """OpenVINO IR (`engine.xml`, `engine.bin`), run by the CPU plug-in."""

    name = "cpu"
    capabilities = Capabilities(
        precisions=("int8", "bf16", "f32"), scheme="cpu", opset=21, portable=True
    )

    def missing(self) -> str | None:
        """See Target.missing."""
        return None if importlib.util.find_spec("openvino") else _INSTALL

    def _require(self) -> None:
        if command := self.missing():
            raise MissingDependency("OpenVINO is not installed", remedy=f"Run: {command}")

    def compile(self, graph: Path, out_dir: Path, options: CompileOptions) -> Engine:
        """See Target.compile. The IR keeps FP32 constants as they are."""
        self._require()
        import openvino as ov

        try:
            model = ov.convert_model(graph)
        except Exception as error:  # the front end raises many types, none documented
            raise PkechoEdgeError(
                f"OpenVINO cannot read the graph ({error})",
                path=graph,
                remedy="Report it with the graph attached",
            ) from error
        for port in (*model.inputs, *model.outputs):
            port.get_tensor().set_names({port.get_any_name()})
        ov.save_model(model, out_dir / "engine.xml", compress_to_fp16=False)
        return Engine(
            target=self.name,
            directory=out_dir,
            files=("engine.xml", "engine.bin"),
            inputs=tuple(_spec(port) for port in model.inputs),
            outputs=tuple(_spec(port) for port in model.outputs),
            options=options.as_dict(),
            toolchain={"openvino": metadata.version("openvino")},
        )

    def load(self, engine: Engine) -> OpenVinoSession:
        """See Target.load."""
        self._require()
        built, here = engine.toolchain.get("openvino", ""), metadata.version("openvino")
        # an IR is read by later releases, not by earlier ones
        if _release(here) < _release(built):
            raise EnvironmentMismatch(
                f"the engine was built with OpenVINO {built}, this is {here}",
                path=engine.directory,
                remedy=f"Run: pip install 'openvino>={built}'",
            )
        return OpenVinoSession(engine)


def _release(version: str) -> tuple[int, ...]:
    """Compared as integers; anything after the numbers is ignored."""
    numbers = version.split("-")[0].split("+")[0].split(".")[:3]
    return tuple(int(n) for n in numbers if n.isdigit())


def _spec(port: Any) -> TensorSpec:
    dtype = {"uint8_t": "u8", "float": "f32", "float32": "f32", "uint8": "u8"}
    name = port.element_type.get_type_name()
    return TensorSpec(port.get_any_name(), dtype.get(name, name), tuple(port.shape))


class OpenVinoSession:
    """One compiled model and one inference request."""

    def __init__(self, engine: Engine) -> None:
        import openvino as ov

        self._specs = engine.inputs
        precision = engine.options.get("float_precision", "f32")
        settings: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_PRECISION_HINT": precision,
        }
        if threads := int(engine.options.get("threads", "0")):
            settings["INFERENCE_NUM_THREADS"] = threads
        core = ov.Core()
        main = engine.directory / engine.files[0]
        try:
            self._request = core.compile_model(main, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise EnvironmentMismatch(
                f"OpenVINO cannot load the engine ({error})",
                path=main,
                remedy="Compile it again with this version of OpenVINO",
            ) from error
        self._busy = threading.Lock()
        self._closed = False

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
        """See Session.run."""
        if self._closed:
            raise UsageError("the session is closed", remedy="Load the engine again")
        check_inputs(self._specs, inputs)
        if not self._busy.acquire(blocking=False):
            raise UsageError("two threads run one session", remedy="Load one session per thread")
        try:
            # share_inputs: read the caller's arrays in place; outputs are copied out below
            results = self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
            return {port.get_any_name(): np.array(value) for port, value in results.items()}
        finally:
            self._busy.release()

    def close(self) -> None:
        """See Session.close."""
        if not self._closed:
            self._closed = True
            del self._request

    def __enter__(self) -> OpenVinoSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
