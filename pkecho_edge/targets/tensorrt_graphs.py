"""The ONNX graphs that TensorRT builds plans from: what each version parses, and FP16 in the types.

TensorRT 8 is told the precision by flags, from 10 on a strongly typed network says it itself; so
every precision has a graph for either way. All graphs of a bundle keep their weights in one file.

    weak    opset 17, FP32 in the types, LayerNorm decomposed: what the parser of 8.5 reads
    strong  FP16 between the convolutions; with quantizers opset 19, the first whose quantizers
            read and write FP16

FP16 is for convolutions alone. The kernel head sums over all pixels, and the affinities are
exponentials: both overflow FP16 on networks that are not unusual, cost little, and stay in FP32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.calibration.graph import QUANTIZERS, GraphView, quantizable
from pkecho_edge.files import write_atomically

if TYPE_CHECKING:
    import onnx

__all__ = ["STRONG_OPSET", "WEIGHTS", "float32_nodes", "strong_graph", "weak_graph"]
__all__ += ["write_graphs"]

STRONG_OPSET = 19
WEIGHTS = "weights.bin"
"""The file of all graphs' weights."""

_EXTERNAL_BYTES = 1024
"""Smaller constants stay in the graph: parsers read shapes and axes there."""
_ALIGNMENT = 64


def weak_graph(model: onnx.ModelProto, floats: onnx.ModelProto | None = None) -> onnx.ModelProto:
    """For builders that take the precision from flags.

    Args:
        model: lowered, quantized or not, opset 17.
        floats: the same before quantization: where a weight of it quantizes to the same integers
            it is taken as it is, so that both graphs share it.

    Returns:
        a copy: constants as initializers, LayerNorm in operators that TensorRT 8.5 has.
    """
    found = _copy(model)
    _inline_constants(found.graph)
    _decompose_layer_norms(found.graph)
    if floats is not None:
        _share_weights(found.graph, floats.graph)
    return _checked(found)


def strong_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """For strongly typed networks: convolutions in FP16, all else in FP32.

    Weights that are quantized are stored as INT8, in steps that FP16 holds.

    Args:
        model: lowered, quantized or not, opset 17.

    Returns:
        a copy, with casts where the types meet.
    """
    found = _copy(model)
    _inline_constants(found.graph)
    if any(node.op_type in QUANTIZERS for node in found.graph.node):
        found.opset_import[0].version = STRONG_OPSET
        _store_integer_weights(found.graph)
    _halve(found.graph)
    return _checked(found)


def write_graphs(models: Mapping[str, onnx.ModelProto], folder: Path) -> None:
    """Write `NAME.onnx` of each model, and all large constants once into WEIGHTS.

    Equal models give equal bytes. The models are changed: their weights lie outside afterwards.

    Args:
        models: name -> model, in the order in which weights are laid out.
        folder: exists.
    """
    places: dict[bytes, int] = {}
    blob = bytearray()
    for model in models.values():
        for tensor in model.graph.initializer:
            data = tensor.raw_data
            if len(data) >= _EXTERNAL_BYTES:
                if data not in places:
                    blob.extend(bytes(-len(blob) % _ALIGNMENT))
                    places[data] = len(blob)
                    blob.extend(data)
                _point_outside(tensor, places[data], len(data))
    write_atomically(folder / WEIGHTS, bytes(blob))
    for name, model in models.items():
        write_atomically(folder / f"{name}.onnx", model.SerializeToString(deterministic=True))


def float32_nodes(model: onnx.ModelProto) -> list[str]:
    """The nodes that a builder must keep in FP32 whatever its flags say; see the module.

    Args:
        model: of `weak_graph`, before quantization: quantizers aside, the INT8 graph's nodes are
            the same.
    """
    return [node.name for node in model.graph.node if not _is_half(node)]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """Types and shapes included: a cast that is missing is found here."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    return model


def _point_outside(tensor: onnx.TensorProto, offset: int, length: int) -> None:
    import onnx

    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def _inline_constants(graph: onnx.GraphProto) -> None:
    """Constant nodes become initializers: the axes of a Slice must be one."""
    from onnx import numpy_helper

    kept = []
    for node in graph.node:
        if node.op_type == "Constant":
            values = numpy_helper.to_array(node.attribute[0].t)
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            kept.append(node)
    _replace_nodes(graph, kept)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Also drops the constants that nothing reads any more."""
    import onnx

    copies = []
    for node in nodes:  # deleting them from the graph empties them
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)
    read = {name for node in copies for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    _replace_constants(graph, kept)


def _replace_constants(graph: onnx.GraphProto, tensors: list[onnx.TensorProto]) -> None:
    import onnx

    copies = []
    for tensor in tensors:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copies.append(copy)
    del graph.initializer[:]
    graph.initializer.extend(copies)


def _set_constants(graph: onnx.GraphProto, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Add constants, or give those of these names other values."""
    from onnx import numpy_helper

    kept = [tensor for tensor in graph.initializer if tensor.name not in arrays]
    new = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    _replace_constants(graph, [*kept, *new])


def _decompose_layer_norms(graph: onnx.GraphProto) -> None:
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[Any]] = {}
    for node in graph.node:
        if node.op_type == "LayerNormalization":
            nodes.extend(_layer_norm(node, constants))
        else:
            nodes.append(node)
    _replace_nodes(graph, nodes)
    _set_constants(graph, constants)


def _layer_norm(
    node: onnx.NodeProto, constants: dict[str, NDArray[Any]]
) -> Iterator[onnx.NodeProto]:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias over the last axis."""
    from onnx import helper

    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    assert given.get("axis", -1) == -1, "the lowered head normalizes channels, its last axis"
    source, scale, *bias = node.input
    name = node.name
    constants[f"{name}/epsilon"] = np.asarray(given.get("epsilon", 1e-5), np.float32)

    def step(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        out = output if output == node.output[0] else f"{name}/{output}"
        return helper.make_node(kind, inputs, [out], f"{name}/{output}", **attributes)

    last = node.output[0]
    yield step("ReduceMean", [source], "mean", axes=[-1], keepdims=1)
    yield step("Sub", [source, f"{name}/mean"], "centred")
    yield step("Mul", [f"{name}/centred", f"{name}/centred"], "squared")
    yield step("ReduceMean", [f"{name}/squared"], "variance", axes=[-1], keepdims=1)
    yield step("Add", [f"{name}/variance", f"{name}/epsilon"], "above_zero")
    yield step("Sqrt", [f"{name}/above_zero"], "deviation")
    yield step("Div", [f"{name}/centred", f"{name}/deviation"], "normalized")
    yield step("Mul", [f"{name}/normalized", scale], "scaled" if bias else last)
    if bias:
        yield step("Add", [f"{name}/scaled", *bias], last)


def _share_weights(graph: onnx.GraphProto, floats: onnx.GraphProto) -> None:
    """Give quantizers the weights that were quantized, where the same integers come of them."""
    constants, originals = GraphView(graph).constants, GraphView(floats).constants
    weight_of = {
        f"{node.name}/weight": node.input[1] for node in floats.node if node.op_type == "Conv"
    }
    shared = {}
    for node in graph.node:
        stored = node.input[0]
        original = originals.get(weight_of.get(stored, ""))
        if node.op_type == "QuantizeLinear" and original is not None:
            scale = constants[node.input[1]]
            if np.array_equal(_integers(original, scale), _integers(constants[stored], scale)):
                shared[stored] = original
    _set_constants(graph, shared)


def _integers(weight: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.int8]:
    """As QuantizeLinear along axis 0 with zero points of 0."""
    steps = scale.reshape(-1, *[1] * (weight.ndim - 1))
    integers: NDArray[np.int8] = np.clip(np.rint(weight / steps), -128, 127).astype(np.int8)
    return integers


def _store_integer_weights(graph: onnx.GraphProto) -> None:
    """Weights behind QuantizeLinear become INT8 constants, in steps rounded to what FP16 holds.

    The weights are rounded to the new steps, so each stays within half a step of what it was; its
    channel's last level stays the last.
    """
    constants = GraphView(graph).constants
    new: dict[str, NDArray[Any]] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in constants:
            scale = _half_steps(constants[node.input[1]])
            level = int(np.abs(_integers(constants[node.input[0]], constants[node.input[1]])).max())
            found = _integers(constants[node.input[0]], scale.astype(np.float32))
            new[node.output[0]] = np.clip(found, -level, level)
            new[node.input[1]] = scale.astype(np.float32)
        else:
            kept.append(node)
    _replace_nodes(graph, kept)
    _set_constants(graph, new)


def _half_steps(scale: NDArray[np.float32]) -> NDArray[np.float16]:
    """Steps that FP16 holds; never zero, where FP16 has nothing as small."""
    return np.maximum(scale.astype(np.float16), np.finfo(np.float16).smallest_subnormal)


def _is_half(node: onnx.NodeProto) -> bool:
    """Whether a node computes in FP16: the work of convolutions, and what quantizes for it."""
    return quantizable(node.name) and node.op_type != "Cast"


def _halve(graph: onnx.GraphProto) -> None:
    """FP16 for all that `_is_half`, with casts between."""
    writer = _HalfWriter(graph)
    for node in list(graph.node):
        writer.add(node)
    writer.finish()


class _HalfWriter:
    """Rewrites one graph in place; good for one pass in the graph's order."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = GraphView(graph).constants
        self._half: set[str] = set()  # tensors that are FP16 so far
        self._integers: set[str] = set()  # what QuantizeLinear wrote
        self._nodes: list[onnx.NodeProto] = []
        self._casts: dict[tuple[str, bool], str] = {}
        self._new: dict[str, NDArray[Any]] = {}
        self._outputs = {value.name for value in graph.output}

    def add(self, node: onnx.NodeProto) -> None:
        """The next node, its inputs and outputs in its own type."""
        half = _is_half(node)
        if node.op_type != "Cast":  # a cast takes what there is
            for index, name in enumerate(node.input):
                node.input[index] = self._read(name, half)
        self._nodes.append(node)
        for index, name in enumerate(node.output):
            if node.op_type == "QuantizeLinear":
                self._integers.add(name)
            elif half and name in self._outputs:
                node.output[index] = f"{name}_half"
                self._nodes.append(self._cast(f"{name}_half", name, to_half=False))
            elif half:
                self._half.add(name)

    def _read(self, name: str, half: bool) -> str:
        """The name under which a tensor is read in FP16, or in FP32."""
        constant = self._constants.get(name)
        if constant is not None:
            if not half or constant.dtype != np.float32:
                return name
            self._new[f"{name}_half"] = _rounded(constant)
            return f"{name}_half"
        if not name or name in self._integers or (name in self._half) == half:
            return name
        key = name, half
        if key not in self._casts:
            self._casts[key] = f"{name}_{'half' if half else 'float'}"
            self._nodes.append(self._cast(name, self._casts[key], to_half=half))
        return self._casts[key]

    def _cast(self, source: str, target: str, *, to_half: bool) -> onnx.NodeProto:
        import onnx
        from onnx import helper

        to = onnx.TensorProto.FLOAT16 if to_half else onnx.TensorProto.FLOAT
        return helper.make_node("Cast", [source], [target], f"{target}/cast", to=to)

    def finish(self) -> None:
        """Put nodes and constants in."""
        _set_constants(self._graph, self._new)
        _replace_nodes(self._graph, self._nodes)


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """FP16, what is too large at its end: infinity would make a nan of a zero beside it."""
    end = np.finfo(np.float16).max
    return np.clip(values, -end, end).astype(np.float16)
