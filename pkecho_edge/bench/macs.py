"""What a graph costs: the multiply-accumulates of an ONNX file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pkecho_edge.errors import PkechoEdgeError

if TYPE_CHECKING:
    import onnx

__all__ = ["count_graph_gmacs"]

Shape = tuple[int, ...]


def count_graph_gmacs(path: Path) -> float:
    """10^9 multiply-accumulates of one inference, of convolutions and matrix products.

    Element-wise work, softmax and normalisation are not counted, nor is what the graph does to
    constants.

    Args:
        path: an ONNX file with static shapes.

    Raises:
        PkechoEdgeError: a shape that inference does not find.
    """
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True).graph
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        shapes[value.name] = tuple(dim.dim_value for dim in dims)
    constants = {tensor.name for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in _COUNTERS and not constants.issuperset(node.input):
            total += _count(node, shapes, path)
    return total / 1e9


def _count(node: onnx.NodeProto, shapes: Mapping[str, Shape], path: Path) -> int:
    known = [shapes.get(name, ()) for name in (*node.input[:2], node.output[0])]
    if not all(shape and all(shape) for shape in known):
        raise PkechoEdgeError(
            f"the shapes around {node.name} are not known",
            path=path,
            remedy="Export it with static shapes",
        )
    return _COUNTERS[node.op_type](node, *known)


def _convolution(_node: onnx.NodeProto, _data: Shape, weight: Shape, out: Shape) -> int:
    """weight [out, in / groups, *kernel], out [N, out, *size]."""
    return math.prod(out) * math.prod(weight[1:])


def _transposed(_node: onnx.NodeProto, data: Shape, weight: Shape, _out: Shape) -> int:
    """weight [in, out / groups, *kernel], data [N, in, *size]."""
    return math.prod(data) * math.prod(weight[1:])


def _product(_node: onnx.NodeProto, left: Shape, _right: Shape, out: Shape) -> int:
    return math.prod(out) * left[-1]


def _gemm(node: onnx.NodeProto, left: Shape, _right: Shape, out: Shape) -> int:
    transposed: Sequence[int] = [a.i for a in node.attribute if a.name == "transA"]
    return math.prod(out) * left[0 if any(transposed) else -1]


_COUNTERS = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "MatMul": _product,
    "Gemm": _gemm,
}
