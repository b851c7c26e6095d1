"""Targets `jetson` and `tensorrt`: graphs that a device builds its plans from.

A plan is tied to the GPU, the driver and the TensorRT version, so none is shipped. What is shipped
is graphs that the device's parser reads, a recipe, and the kit that builds and measures there.
Loading such an engine here runs the INT8 graph in ONNX Runtime, node by node as it is written: its
numbers are the device's but for the order of sums, its speed says nothing.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkecho_edge.errors import MissingDependency, PkechoEdgeError
from pkecho_edge.files import write_atomically
from pkecho_edge.targets.base import (
    Capabilities,
    CompileOptions,
    Engine,
    TensorSpec,
    check_precision,
    check_release,
)
from pkecho_edge.targets.onnxruntime_session import OnnxRuntimeSession, open_graph, tensor_spec
from pkecho_edge.targets.profile import Profile, check_profile, load_profile
from pkecho_edge.targets.tensorrt_graphs import (
    WEIGHTS,
    float32_nodes,
    strong_graph,
    weak_graph,
    write_graphs,
)
from pkecho_edge.targets.tensorrt_lint import require_tensorrt

if TYPE_CHECKING:
    import onnx

__all__ = ["RECIPE", "Jetson", "TensorRt"]

RECIPE = "recipe.json"
_SCHEMA = "pkecho-edge/recipe/1"
_WEAK, _STRONG = (8, 5), (10, 0)
"""The oldest TensorRT that builds from either kind of graph."""
_INSTALL = "pip install 'pkecho-edge[compile]'"


class TensorRt:
    """Any desktop or data-centre GPU with TensorRT."""

    name = "tensorrt"
    capabilities = Capabilities(
        precisions=("int8", "f16", "f32"),
        scheme="tensorrt",
        opset=17,
        portable=False,
        float_precision="f16",
        float_graphs=True,
        profile="rtx",
        device_kit=True,
        round_to=32,
    )

    def missing(self) -> str | None:
        """See Target.missing: what writes and checks graphs; TensorRT itself is the device's."""
        there = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
        return None if there else _INSTALL

    def compile(
        self,
        graphs: Mapping[str, Path],
        out_dir: Path,
        options: CompileOptions,
        float_graphs: Mapping[str, Path] | None = None,
    ) -> dict[str, Engine]:
        """See Target.compile.

        Without `float_graphs` only the INT8 graph that the profile's TensorRT builds from is
        written, to try it: no kit can build from that.
        """
        if command := self.missing():
            raise MissingDependency("onnx or ONNX Runtime is missing", remedy=f"Run: {command}")
        check_precision(self, options)
        profile = self._profile(options)
        if float_graphs is None:
            return self._compile_trial(graphs, out_dir, options, profile)
        models: dict[str, onnx.ModelProto] = {}
        for mode, graph in graphs.items():
            models |= _models(mode, graph, float_graphs[mode])
        named = {mode: float32_nodes(models[f"{mode}.fp32"]) for mode in graphs}
        write_graphs(models, out_dir)
        files = (*(f"{name}.onnx" for name in models), WEIGHTS, RECIPE)
        engines = {
            mode: self._engine(
                f"{mode}.{_int8(profile, options)}.onnx", files, out_dir, options, profile
            )
            for mode in graphs
        }
        _write_recipe(out_dir / RECIPE, profile, options, engines, named)
        return engines

    def _profile(self, options: CompileOptions) -> Profile:
        """The device that is meant; UsageError as `check_profile`."""
        default = self.capabilities.profile
        assert default is not None
        profile = options.profile or load_profile(default)
        check_profile(self.name, profile)
        return profile

    def _compile_trial(
        self, graphs: Mapping[str, Path], out_dir: Path, options: CompileOptions, profile: Profile
    ) -> dict[str, Engine]:
        kind = _int8(profile, options)
        make = strong_graph if kind == "int8-typed" else weak_graph
        models = {f"{mode}.{kind}": make(_read(path)) for mode, path in graphs.items()}
        write_graphs(models, out_dir)
        return {
            mode: self._engine(f"{name}.onnx", (f"{name}.onnx", WEIGHTS), out_dir, options, profile)
            for mode, name in zip(graphs, models, strict=True)
        }

    def _engine(
        self,
        main: str,
        files: tuple[str, ...],
        folder: Path,
        options: CompileOptions,
        profile: Profile,
    ) -> Engine:
        session = open_graph(folder / main, 1, as_written=True)
        return Engine(
            target=self.name,
            directory=folder,
            files=(main, *(name for name in files if name != main)),
            inputs=tuple(map(tensor_spec, session.get_inputs())),
            outputs=tuple(map(tensor_spec, session.get_outputs())),
            options={**options.as_dict(), "profile": profile.name},
            toolchain={"onnx": metadata.version("onnx")},
        )

    def load(self, engine: Engine) -> OnnxRuntimeSession:
        """The graph that the device builds its INT8 plan from, in ONNX Runtime."""
        if command := self.missing():
            raise MissingDependency("ONNX Runtime is not installed", remedy=f"Run: {command}")
        check_release(engine, "onnx")
        return OnnxRuntimeSession(engine, as_written=True)


class Jetson(TensorRt):
    """NVIDIA's boards: the device's own TensorRT, of its JetPack."""

    name = "jetson"
    capabilities = Capabilities(
        **{**vars(TensorRt.capabilities), "profile": "orin-nano"},
    )


def _int8(profile: Profile, options: CompileOptions) -> str:
    """Which of the INT8 graphs its TensorRT builds from."""
    typed = profile.is_strongly_typed and options.float_precision == "f16"
    return "int8-typed" if typed else "int8"


def _models(mode: str, quantized: Path, in_float: Path) -> dict[str, onnx.ModelProto]:
    """Every graph of a mode by its name, each checked against the oldest parser that reads it."""
    model, floats = _read(quantized), _read(in_float)
    made = {
        "int8": (weak_graph(model, floats), _WEAK),
        "int8-typed": (strong_graph(model), _STRONG),
        "fp32": (weak_graph(floats), _WEAK),
        "fp16": (strong_graph(floats), _STRONG),
    }
    for name, (graph, version) in made.items():
        require_tensorrt(graph, version, quantized.with_name(f"{mode}.{name}.onnx"))
    return {f"{mode}.{name}": graph for name, (graph, _) in made.items()}


def _read(path: Path) -> onnx.ModelProto:
    """PkechoEdgeError where it is no ONNX."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs

    try:
        model = onnx.load(path)
        if not model.graph.node:
            raise ValueError("there is no operator in it")
    except (OSError, DecodeError, ValueError) as error:
        raise PkechoEdgeError(
            f"no graph can be read ({error})",
            path=path,
            remedy="Report it with the graph attached",
        ) from error
    return model


def _write_recipe(
    path: Path,
    profile: Profile,
    options: CompileOptions,
    engines: Mapping[str, Engine],
    float32: Mapping[str, list[str]],
) -> None:
    """What the kit on the device reads: which graph for which precision and TensorRT."""
    half = options.float_precision == "f16"
    precisions = [name for name in profile.precisions if half or name != "fp16"]
    modes = {
        mode: {
            "inputs": [_spec(spec) for spec in engine.inputs],
            "outputs": [_spec(spec) for spec in engine.outputs],
            "graphs": {
                "int8": {
                    "weak": f"{mode}.int8.onnx",
                    "strong": f"{mode}.int8{'-typed' if half else ''}.onnx",
                },
                "fp16": {"weak": f"{mode}.fp32.onnx", "strong": f"{mode}.fp16.onnx"},
                "fp32": {"weak": f"{mode}.fp32.onnx", "strong": f"{mode}.fp32.onnx"},
            },
            "float32_nodes": float32[mode],
        }
        for mode, engine in engines.items()
    }
    recipe = {
        "schema": _SCHEMA,
        "profile": {**profile.as_dict(), "precisions": precisions},
        "half_flags": half,
        "modes": modes,
        "weights": [WEIGHTS],
    }
    text = json.dumps(recipe, indent=1, sort_keys=True) + "\n"
    write_atomically(path, text.encode())


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
