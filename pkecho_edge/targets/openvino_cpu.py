"""Target `cpu`: OpenVINO on x86-64 and Arm processors."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, PkechoEdgeError
from pkecho_edge.processors import sums_products_exactly
from pkecho_edge.targets.base import (
    Arrays,
    Capabilities,
    CompileOptions,
    Engine,
    GuardedSession,
    TensorSpec,
    check_release,
)
from pkecho_edge.targets.openvino_weights import WEIGHTS, save_with_shared_weights

__all__ = ["OpenVinoCpu", "OpenVinoSession", "engine_settings", "plugin_settings", "port_spec"]

_INSTALL = "pip install 'pkecho-edge[cpu]'"
_FUSED_LENGTH = 10


class OpenVinoCpu:
    """OpenVINO IR (`clip.xml`, `stream.xml`, `weights.bin` for both), run by the CPU plug-in."""

    name = "cpu"
    capabilities = Capabilities(
        precisions=("int8", "bf16", "f32"),
        # what is built is scored here: weights of 8 bits would saturate where sums have 16
        scheme="cpu" if sums_products_exactly() else "cpu-avx2",
        opset=21,
        portable=True,
    )

    def missing(self) -> str | None:
        """See Target.missing."""
        return None if importlib.util.find_spec("openvino") else _INSTALL

    def _require(self) -> None:
        if command := self.missing():
            raise MissingDependency("OpenVINO is not installed", remedy=f"Run: {command}")

    def compile(
        self,
        graphs: Mapping[str, Path],
        out_dir: Path,
        options: CompileOptions,
        float_graphs: Mapping[str, Path] | None = None,
    ) -> dict[str, Engine]:
        """See Target.compile. The IR keeps FP32 constants as they are."""
        self._require()
        models = {mode: _read(graph) for mode, graph in graphs.items()}
        try:
            save_with_shared_weights(models, out_dir)
        except RuntimeError as error:  # of a stream: the reason is lost
            full = shutil.disk_usage(out_dir).free < 1 << 20
            code = errno.ENOSPC if full else errno.EIO
            raise OSError(code, os.strerror(code), str(out_dir)) from error
        return {
            mode: Engine(
                target=self.name,
                directory=out_dir,
                files=(f"{mode}.xml", WEIGHTS),
                inputs=tuple(port_spec(port) for port in model.inputs),
                outputs=tuple(port_spec(port) for port in model.outputs),
                options=options.as_dict(),
                toolchain={"openvino": metadata.version("openvino")},
            )
            for mode, model in models.items()
        }

    def load(self, engine: Engine) -> OpenVinoSession:
        """See Target.load."""
        self._require()
        check_release(engine, "openvino")
        return OpenVinoSession(engine)


def _read(graph: Path) -> Any:
    """The ONNX graph as an OpenVINO model whose ports and nodes have the same names every time."""
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
    _name_alike(model)
    return model


def _name_alike(model: Any) -> None:
    """Number the nodes that the front end named itself, in the graph's order.

    It counts them through the life of the process, so a second compile would give other bytes.
    """
    for index, node in enumerate(model.get_ordered_ops()):
        if counted := re.fullmatch(r"([A-Z][A-Za-z]*)_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{counted[1]}_{index}")


def port_spec(port: Any) -> TensorSpec:
    """An input or output of an openvino.Model."""
    dtype = {"uint8_t": "u8", "float": "f32", "float32": "f32", "uint8": "u8"}
    name = port.element_type.get_type_name()
    return TensorSpec(port.get_any_name(), dtype.get(name, name), tuple(port.shape))


def plugin_settings(options: Mapping[str, str]) -> dict[str, object]:
    """How the CPU plug-in runs an engine with these options, as `CompileOptions.as_dict` has them.

    Raises:
        ValueError: threads that are no number.
    """
    settings: dict[str, object] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": options.get("float_precision", "f32"),
    }
    if threads := int(options.get("threads", "0")):
        settings["INFERENCE_NUM_THREADS"] = threads
    return settings


def engine_settings(engine: Engine) -> dict[str, object]:
    """`plugin_settings` of an engine, and what keeps the plug-in alive.

    With quantized graphs of 4, 6 or 8 frames OpenVINO 2026.4 dies of a segmentation fault while it
    fuses the attention over them. Without fusions of that kind engines are a tenth slower, so those
    of T = 10, which it fuses as it should, keep them.
    """
    settings = plugin_settings(engine.options)
    if _window_length(engine) not in (None, _FUSED_LENGTH):
        settings["SNIPPETS_MODE"] = "DISABLE"
    return settings


def _window_length(engine: Engine) -> int | None:
    """T of a clip or stream engine; None of any other."""
    shapes = {spec.name: spec.shape for spec in engine.inputs}
    if "history" in shapes:
        return int(shapes["history"][0]) + 1
    return int(shapes["frames"][0]) if "frames" in shapes else None


def _check_interface(model: Any, engine: Engine) -> None:
    """ValueError where the topology has other inputs and outputs than the engine is said to."""
    for ports, specs in ((model.inputs, engine.inputs), (model.outputs, engine.outputs)):
        found = tuple(port_spec(port) for port in ports)
        if set(found) != set(specs):
            raise ValueError(f"it takes and gives {found}, not {tuple(specs)}")


class OpenVinoSession(GuardedSession):
    """One compiled model, and an inference request for `run`."""

    def __init__(self, engine: Engine) -> None:
        import openvino as ov

        super().__init__(engine)
        paths = [engine.directory / name for name in engine.files]
        core = ov.Core()
        # read into memory, not mapped: what was checked is what runs, whoever writes to the file
        core.set_property({"ENABLE_MMAP": False})
        try:
            topology, weights = paths
            model = core.read_model(topology, weights)
            _check_interface(model, engine)
            self._compiled = core.compile_model(model, "CPU", engine_settings(engine))
            self._request = self._compiled.create_infer_request()
        except (RuntimeError, ValueError) as error:
            raise EnvironmentMismatch(
                f"OpenVINO cannot load the engine ({error})",
                path=paths[0],
                remedy="Compile it again with this version of OpenVINO",
            ) from error

    def _infer(self, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
        # share_inputs: read the caller's arrays in place; outputs are copied out below
        request = self._request  # stays, even if another thread closes the session meanwhile
        results = request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        return {port.get_any_name(): np.array(value) for port, value in results.items()}

    def _bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], object]:
        import openvino as ov

        request = self._compiled.create_infer_request()
        for name, array in (*inputs.items(), *outputs.items()):
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))

        def infer(_kept: object = (dict(inputs), dict(outputs))) -> None:
            # a tensor does not hold its array: they live as long as this function
            request.infer(share_outputs=True)

        return infer

    def _free(self) -> None:
        del self._request, self._compiled
