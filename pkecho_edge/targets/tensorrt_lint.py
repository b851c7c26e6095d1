"""Whether TensorRT's parser would read a graph, and read it as meant: judged without TensorRT.

No parser runs without a GPU. What it refuses, and what it takes for something else, is known from
its source and documents; docs/jetson.md says which of it a device has confirmed. The scheme's own
rules (which layers are quantized, with what ranges) are the quantizer's linter's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pkecho_edge.calibration.graph import QUANTIZERS, GraphView
from pkecho_edge.errors import PkechoEdgeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import onnx

__all__ = ["RULES", "Finding", "Release", "lint_for_tensorrt", "releases", "require_tensorrt"]

RULES: Mapping[str, str] = {
    "opset": "the operators' version is at most what the release's parser reads",
    "operator": "the parser knows every operator, and none is from another domain",
    "constant": "what must be known when a plan is built is an initializer: shapes, axes, scales",
    "type": "no tensor is FP64 or of integers, but for constants that give shapes, quantized "
    "tensors and 8-bit inputs, which only a Cast reads",
    "shape": "every tensor has a static shape",
    "quantizer": "quantizers have three inputs, zero points of INT8 that are all zero, and scales "
    "that are positive and finite",
    "granularity": "activations have one scale, weights one per output channel with axis 0 written "
    "out",
    "weight": "FP32 weights stand before QuantizeLinear where the release reads no INT8 constants",
    "residual": "no quantizer stands between a convolution and the sum that follows it",
}
"""Short name -> what holds in a graph that a release reads."""

_SHAPE_INPUTS = {"Reshape": (1,), "Slice": (1, 2, 3, 4), "Unsqueeze": (1,), "Squeeze": (1,)}
_SHAPE_INPUTS |= {"Resize": (1, 2, 3), "Expand": (1,), "Tile": (1,), "Pad": (1,), "Split": (1,)}
_FLOATS = ("FLOAT", "FLOAT16")


@dataclass(frozen=True)
class Release:
    """What the parser of one TensorRT release reads.

    Attributes:
        version: as (8, 5).
        opset: newest.
        operators: names.
    """

    version: tuple[int, ...]
    opset: int
    operators: frozenset[str]

    @property
    def reads_integer_weights(self) -> bool:
        """Whether DequantizeLinear may read an INT8 constant."""
        return self.version >= (10,)

    def __str__(self) -> str:
        return f"TensorRT {'.'.join(map(str, self.version))}"


@dataclass(frozen=True)
class Finding:
    """One place that the parser would refuse or misread: the node, a rule of RULES, and what."""

    node: str
    rule: str
    message: str

    def __str__(self) -> str:
        where = f"{self.node}: " if self.node else ""
        return f"{where}{self.message} ({self.rule})"


@cache
def releases() -> tuple[Release, ...]:
    """Every release that the table knows, the oldest first; each reads what earlier ones do."""
    source = resources.files("pkecho_edge.targets") / "tensorrt_operators.toml"
    found: list[Release] = []
    for row in tomllib.loads(source.read_text(encoding="utf-8"))["release"]:
        before = found[-1].operators if found else frozenset()
        version = tuple(map(int, row["tensorrt"].split(".")))
        found.append(Release(version, row["opset"], before | frozenset(row["operators"])))
    return tuple(found)


def release_of(version: tuple[int, ...]) -> Release:
    """The newest release in the table that is not newer than `version`, of at least 8.5."""
    return [each for each in releases() if each.version <= version][-1]


def require_tensorrt(model: onnx.ModelProto, version: tuple[int, ...], path: Path) -> None:
    """Refuse a graph that the parser would not read.

    Args:
        model: with its weights inside.
        version: of TensorRT, as (10, 3, 0).
        path: named in the error.

    Raises:
        PkechoEdgeError: naming the first node, and how many findings there are.
    """
    release = release_of(version)
    if found := lint_for_tensorrt(model, release):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise PkechoEdgeError(
            f"{release} would not read the graph: {found[0]}{more}",
            path=path,
            remedy="Quantize by --scheme tensorrt; if you did, report it with the graph",
        )


def lint_for_tensorrt(model: onnx.ModelProto, release: Release) -> tuple[Finding, ...]:
    """Everything that a release's parser would not read as meant; empty where all is well."""
    view = GraphView(model.graph)
    rules: tuple[Callable[[onnx.ModelProto, GraphView, Release], Iterator[Finding]], ...] = (
        _opset,
        _operators,
        _constants,
        _quantizers,
        _residuals,
        _types_and_shapes,
    )
    return tuple(finding for rule in rules for finding in rule(model, view, release))


def _opset(model: onnx.ModelProto, _: GraphView, release: Release) -> Iterator[Finding]:
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            yield Finding("", "operator", f"operators of {entry.domain!r} are no part of ONNX")
        elif entry.version > release.opset:
            what = f"opset {entry.version} is newer than {release.opset}, the last of {release}"
            yield Finding("", "opset", what)


def _operators(model: onnx.ModelProto, _: GraphView, release: Release) -> Iterator[Finding]:
    for node in model.graph.node:
        if node.op_type not in release.operators:
            yield Finding(node.name, "operator", f"{release} has no {node.op_type}")


def _constants(model: onnx.ModelProto, view: GraphView, _: Release) -> Iterator[Finding]:
    for node in model.graph.node:
        for index in _SHAPE_INPUTS.get(node.op_type, ()):
            name = node.input[index] if index < len(node.input) else ""
            if name and name not in view.constants:
                what = f"input {index} of {node.op_type}, {name}, is no initializer"
                yield Finding(node.name, "constant", what)


def _quantizers(model: onnx.ModelProto, view: GraphView, release: Release) -> Iterator[Finding]:
    for node in model.graph.node:
        if node.op_type not in QUANTIZERS:
            continue
        if len(node.input) != 3:
            yield Finding(node.name, "quantizer", f"it has {len(node.input)} inputs, not 3")
            continue
        scale, zero_point = (view.constants.get(name) for name in node.input[1:])
        if scale is None or zero_point is None:
            yield Finding(node.name, "constant", "its scale or zero point is no initializer")
            continue
        if zero_point.dtype != np.int8 or zero_point.any():
            yield Finding(node.name, "quantizer", "its zero points are not INT8 and all zero")
        if not (np.isfinite(scale) & (scale > 0)).all():
            yield Finding(node.name, "quantizer", "a scale is not positive and finite")
        yield from _granularity(node, scale.size, view, release)


def _granularity(
    node: onnx.NodeProto, n_scales: int, view: GraphView, release: Release
) -> Iterator[Finding]:
    weight = view.constants.get(node.input[0])
    if weight is None and view.quantizers(node.input[0]):
        weight = view.constants.get(view.quantizers(node.input[0])[-1].input[0])
    if weight is None:
        if n_scales != 1:
            yield Finding(node.name, "granularity", f"an activation has {n_scales} scales")
        return
    axes = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
    if n_scales != weight.shape[0] or axes != [0]:
        what = f"weights of {weight.shape[0]} channels have {n_scales} scales along axis {axes}"
        yield Finding(node.name, "granularity", what)
    stored = view.constants.get(node.input[0])
    is_integer = node.op_type == "DequantizeLinear" and stored is not None
    if is_integer and not release.reads_integer_weights:
        yield Finding(node.name, "weight", f"{release} reads no INT8 constants")


def _residuals(model: onnx.ModelProto, view: GraphView, _: Release) -> Iterator[Finding]:
    """A convolution whose result is quantized before the sum cannot be fused with it.

    Of two convolutions, main and shortcut, one is quantized; the other is the one to fuse.
    """
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        makers = [view.makers.get(name) for name in node.input]
        sources = [
            view.makers.get(chain[-1].input[0]) if (chain := view.quantizers(name)) else maker
            for name, maker in zip(node.input, makers, strict=True)
        ]
        quantized = [bool(view.quantizers(name)) for name in node.input]
        from_convolution = [s is not None and s.op_type == "Conv" for s in sources]
        if any(from_convolution) and all(
            q for q, conv in zip(quantized, from_convolution, strict=True) if conv
        ):
            yield Finding(node.name, "residual", "its convolution is quantized before the sum")


def _types_and_shapes(model: onnx.ModelProto, view: GraphView, _: Release) -> Iterator[Finding]:
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    names = onnx.TensorProto.DataType
    quantized = {n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    graph = inferred.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        for extent in kind.shape.dim:
            if extent.dim_value < 1:
                yield Finding(value.name, "shape", "its shape is not static")
                break
        name = names.Name(kind.elem_type)
        if name in _FLOATS or value.name in quantized:
            continue
        readers = {node.op_type for node, _ in view.readers.get(value.name, ())}
        if name == "UINT8" and readers == {"Cast"} and value.name not in view.makers:
            continue
        yield Finding(value.name, "type", f"a tensor of {name}")
