"""Whether a Q/DQ graph obeys its scheme, judged by the graph alone.

What the quantizer meant is not asked: a fault of placement.py or quantize.py shows here, and so
does one of any other tool that wrote the graph. Foreign and damaged graphs give findings too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.calibration.graph import QUANTIZERS, GraphView, layer_of, quantizable
from pkecho_edge.calibration.placement import residual_branches
from pkecho_edge.calibration.scheme import Scheme
from pkecho_edge.errors import MissingDependency, PkechoEdgeError, UnusableInput

if TYPE_CHECKING:
    import onnx

__all__ = ["RULES", "Finding", "lint_graph", "lint_model", "require_scheme"]

RULES: Mapping[str, str] = {
    "opset": "the operators' version is at most the scheme's",
    "operator": "every node is one of ONNX's own operators of that version, without control flow; "
    "the full checker agrees",
    "constant": "whatever a node reads is made, fed or stored in the file; scales, zero points, "
    "weights and biases are initializers",
    "shape": "every tensor has a static shape",
    "pair": "a QuantizeLinear is read by DequantizeLinear only, a DequantizeLinear reads a "
    "constant or a QuantizeLinear of the same scale and zero point, nothing is quantized twice",
    "type": "activations are stored in the scheme's integer type",
    "zero-point": "zero points are written out, and zero where integers are signed",
    "scale": "scales are FP32, finite and at least the smallest normal number",
    "granularity": "activations have one scale; weights and biases one per output channel, with "
    "axis 0 written out",
    "weight": "weights are s8, or FP32 in front of a quantizer, as the scheme says",
    "level": "stored weights end at 127, or at 63 where the scheme wants 7 bits",
    "bias": "biases are FP32, or s32 in steps of input scale times weight scale, as the scheme "
    "says",
    "coverage": "every convolution that does not stay in float has input and weights quantized",
    "float-layer": "no input of a layer that stays in float is quantized",
    "residual": "of a residual sum the scheme's branches are quantized, and no others",
    "pool": "quantizers stand before a max-pool or around it, as the scheme says",
    "float-part": "head, affinity arithmetic and results read no dequantized tensor",
}
"""Short name -> what holds in a graph that obeys."""


@dataclass(frozen=True)
class Finding:
    """One place where a graph does not obey.

    Attributes:
        node: its name, or its first output where it has none; a tensor's name where no node is at
            fault, and empty for the graph as a whole.
        rule: of RULES.
        message: what is wrong there.

    Raises:
        ValueError: there is no such rule.
    """

    node: str
    rule: str
    message: str

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"there is no rule {self.rule!r}")

    def __str__(self) -> str:
        where = f"{self.node}: " if self.node else ""
        return " ".join(f"{where}{self.message} ({self.rule})".split())


def lint_graph(
    graph: Path, scheme: Scheme, float_layers: Collection[str] = ()
) -> tuple[Finding, ...]:
    """Every place where a Q/DQ ONNX file does not obey its scheme; none where it does.

    Args:
        graph: a clip or a stream graph.
        scheme: that it was quantized by.
        float_layers: layers that stay in float beside the scheme's own.

    Raises:
        MissingDependency: onnx is not installed.
        UnusableInput: the file cannot be read, or is no ONNX.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency(
            "onnx is not installed", remedy="Run: pip install 'pkecho-edge[compile]'"
        ) from error
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs

    try:
        # tensors in other files are not read: wherever their paths lead, they are a finding
        model = onnx.load(graph, format="protobuf", load_external_data=False)
    except (OSError, DecodeError) as error:
        raise UnusableInput(
            f"no ONNX can be read: {error}", path=graph, remedy="Name a file that quantizing wrote"
        ) from error
    return lint_model(model, scheme, float_layers)


def lint_model(
    model: onnx.ModelProto, scheme: Scheme, float_layers: Collection[str] = ()
) -> tuple[Finding, ...]:
    """As `lint_graph`, of a model in memory.

    Where operators or constants are at fault, those alone are found: what such a graph computes is
    not known.
    """
    broken = [*_operators(model), *_constants(model.graph)] or [*_checker(model)]
    found = [*_opset(model, scheme), *broken]
    if not broken:
        found += [*_shapes(model), *_Rules(GraphView(model.graph), scheme, float_layers).findings()]
    return tuple(found)


def require_scheme(
    model: onnx.ModelProto, scheme: Scheme, float_layers: Collection[str], path: Path
) -> None:
    """Refuse a model that does not obey; arguments as `lint_graph`, `path` is where it would go.

    Raises:
        PkechoEdgeError: there are findings; it names the first.
    """
    if found := lint_model(model, scheme, float_layers):
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise PkechoEdgeError(
            f"the quantized graph does not obey scheme {scheme.name}: {found[0]}{more}",
            path=path,
            remedy="Report it with the FP32 graph attached",
        )


def _name(node: onnx.NodeProto) -> str:
    return str(node.name or next(iter(node.output), node.op_type))


def _opset(model: onnx.ModelProto, scheme: Scheme) -> Iterator[Finding]:
    for version in (each.version for each in model.opset_import if _is_onnx(each.domain)):
        if version > scheme.max_opset:
            yield Finding("", "opset", f"opset {version} is above {scheme.max_opset}")


def _is_onnx(domain: str) -> bool:
    return domain in ("", "ai.onnx")


def _operators(model: onnx.ModelProto) -> Iterator[Finding]:
    """Each node by itself: whether the graph's opset has it."""
    import onnx

    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {each.domain: each.version for each in model.opset_import}
    for node in model.graph.node:
        texts = [node.name, node.domain, node.op_type, *node.input, *node.output]
        if not all(isinstance(text, str) for text in texts):  # damaged ones are bytes
            yield Finding(_name(node), "operator", "one of its names is not text")
        elif not _is_onnx(node.domain):
            yield Finding(_name(node), "operator", f"{node.domain}.{node.op_type} is not ONNX's")
        elif any(each.HasField("g") or each.graphs for each in node.attribute):
            yield Finding(_name(node), "operator", f"{node.op_type} holds a graph of its own")
        else:
            try:
                onnx.checker.check_node(node, context)
            except (onnx.checker.ValidationError, ValueError) as error:
                yield Finding(_name(node), "operator", str(error))


def _constants(graph: onnx.GraphProto) -> Iterator[Finding]:
    """What is read must be there, and constants must be in the file and readable."""
    import onnx

    known = {""} | {value.name for value in graph.input} | {t.name for t in graph.initializer}
    known |= {name for node in graph.node for name in node.output}
    for node in graph.node:
        for name in node.input:
            if name not in known:
                yield Finding(_name(node), "constant", f"reads {name}, which is not there")
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield Finding(tensor.name, "constant", "its values are in another file")
            continue
        try:
            onnx.checker.check_tensor(tensor)
            onnx.numpy_helper.to_array(tensor)
        except (onnx.checker.ValidationError, ValueError, TypeError, KeyError) as error:
            yield Finding(tensor.name, "constant", f"its values cannot be read: {error}")


def _checker(model: onnx.ModelProto) -> Iterator[Finding]:
    """ONNX's own checker on the whole, with the node that it names, if any."""
    import onnx

    faults = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (*faults, ValueError, RuntimeError) as error:
        named = re.search(r"node name: ([^)]+)\)|name: (\S+) OpType", str(error))
        node = next(filter(None, named.groups()), "") if named else ""
        yield Finding(node, "operator", f"the ONNX checker says: {error}")


def _shapes(model: onnx.ModelProto) -> Iterator[Finding]:
    """Where a size is first unknown; what follows from it is not repeated."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    static = {""} | {
        value.name
        for value in [*graph.value_info, *graph.input, *graph.output]
        if value.type.tensor_type.HasField("shape")
        and all(size.dim_value > 0 for size in value.type.tensor_type.shape.dim)
    }
    static |= {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name not in static:
            yield Finding(value.name, "shape", "the shape of this input is not static")
    for node in graph.node:
        if static.issuperset(node.input) and not static.issuperset(node.output):
            yield Finding(_name(node), "shape", "the shape of its output is not static")


class _Rules:
    """The rules on quantizers and their readers, of a graph that ONNX's checker lets pass."""

    def __init__(self, view: GraphView, scheme: Scheme, float_layers: Collection[str]) -> None:
        self._view, self._scheme, self._float_layers = view, scheme, float_layers
        self._results = {value.name for value in view.graph.output}

    def findings(self) -> Iterator[Finding]:
        """Of every node, in the graph's order."""
        nodes = self._view.graph.node
        if not any(node.op_type in QUANTIZERS for node in nodes):
            yield Finding("", "coverage", "nothing is quantized")
            return
        for node in nodes:
            if node.op_type == "QuantizeLinear":
                yield from self._quantize(node)
            elif node.op_type == "DequantizeLinear":
                yield from self._dequantize(node)
            elif node.op_type == "Conv":
                yield from self._convolution(node)
            elif node.op_type == "Add" and (branches := self._branches(node)):
                yield from self._residual(node, *branches)
            elif node.op_type == "MaxPool" and quantizable(node.name):
                yield from self._pool(node)
            else:
                yield from self._float_part(node)

    # What stands where

    def _readers(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return [reader for reader, _ in self._view.readers.get(node.output[0], [])]

    def _source(self, name: str) -> str:
        """What was quantized: the tensor in front of its quantizers, or itself."""
        chain = self._view.quantizers(name)
        return str(chain[-1].input[0]) if chain else name

    def _rounding(self, name: str) -> list[onnx.NodeProto]:
        """The quantizers whose integers a tensor still holds, the last first: also past a pool."""
        while not (chain := self._view.quantizers(name)):
            maker = self._view.makers.get(name)
            if maker is None or maker.op_type != "MaxPool":
                return []
            name = maker.input[0]
        return chain if chain[0].op_type == "DequantizeLinear" else []

    def _is_convolution_work(self, node: onnx.NodeProto) -> bool:
        constant = self._source(node.input[1]) in self._view.constants
        return constant and quantizable(node.name)

    def _stays_in_float(self, node: onnx.NodeProto) -> bool:
        layer = layer_of(node.name)
        return layer in self._float_layers or self._scheme.keeps_in_float(layer)

    def _quantize(self, node: onnx.NodeProto) -> Iterator[Finding]:
        """Of an activation all; of weights only the pair, the rest is their convolution's."""
        readers = self._readers(node)
        if not readers or any(reader.op_type != "DequantizeLinear" for reader in readers):
            yield Finding(_name(node), "pair", "not read by DequantizeLinear alone")
        if node.output[0] in self._results:
            yield Finding(_name(node), "pair", "its integers are a result of the graph")
        if self._view.quantizers(node.input[0]):
            yield Finding(_name(node), "pair", "quantizes what is quantized already")
        if node.input[0] not in self._view.constants:
            yield from self._scale(node, channels=None)
            yield from self._zero_point(node, self._scheme.activation_type, "type")

    def _dequantize(self, node: onnx.NodeProto) -> Iterator[Finding]:
        maker = self._view.makers.get(node.input[0])
        if maker is None or maker.op_type != "QuantizeLinear":
            if node.input[0] not in self._view.constants:
                yield Finding(_name(node), "pair", "dequantizes what no QuantizeLinear made")
        elif not self._same_numbers(maker, node):
            message = f"its scale or zero point is not that of {_name(maker)}"
            yield Finding(_name(node), "pair", message)
        if not self._readers(node):
            yield Finding(_name(node), "pair", "nothing reads it")
        if node.output[0] in self._results:
            yield Finding(_name(node), "float-part", "a result of the graph is dequantized")

    def _same_numbers(self, one: onnx.NodeProto, other: onnx.NodeProto) -> bool:
        if list(one.input[1:]) == list(other.input[1:]):
            return True
        pairs = [[self._view.constants.get(n) for n in node.input[1:]] for node in (one, other)]
        return len(pairs[0]) == len(pairs[1]) and all(
            a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)
            for a, b in zip(*pairs, strict=True)
        )

    # Their numbers

    def _scale(self, node: onnx.NodeProto, channels: int | None) -> Iterator[Finding]:
        """One scale, or one for each channel along axis 0."""
        scale = self._view.constants.get(node.input[1])
        if scale is None:
            yield Finding(_name(node), "constant", "its scale is no initializer")
            return
        smallest = np.finfo(np.float32).tiny
        if scale.dtype != np.float32:
            yield Finding(_name(node), "scale", f"its scale is {scale.dtype}, not float32")
        elif not (np.isfinite(scale) & (scale >= smallest)).all():
            yield Finding(_name(node), "scale", "its scale is not finite, positive and normal")
        if scale.shape != (() if channels is None else (channels,)):
            wanted = "one scale" if channels is None else f"{channels} scales"
            message = f"its scale has the shape {list(scale.shape)}, not {wanted}"
            yield Finding(_name(node), "granularity", message)

    def _zero_point(
        self, node: onnx.NodeProto, dtype: type[Any], rule: str = "zero-point"
    ) -> Iterator[Finding]:
        """Written out, of the type; `rule` is broken where it is of another."""
        if len(node.input) < 3 or not node.input[2]:
            yield Finding(_name(node), "zero-point", "its zero point is not written out")
            return
        zero, scale = (self._view.constants.get(node.input[index]) for index in (2, 1))
        if zero is None:
            yield Finding(_name(node), "constant", "its zero point is no initializer")
        elif zero.dtype != dtype:
            message = f"its integers are {zero.dtype}, not {np.dtype(dtype)}"
            yield Finding(_name(node), rule, message)
        elif np.issubdtype(dtype, np.signedinteger) and zero.any():
            yield Finding(_name(node), "zero-point", "its zero point is not 0")
        elif scale is not None and zero.size != scale.size:
            yield Finding(_name(node), "zero-point", "not as many zero points as scales")

    def _per_channel(
        self, chain: list[onnx.NodeProto], dtype: type[Any], channels: int
    ) -> Iterator[Finding]:
        """Of weights or a bias. A pair has its numbers in common, so they are judged once."""
        for node in chain:
            axis = [each.i for each in node.attribute if each.name == "axis"]
            if axis != [0]:
                yield Finding(_name(node), "granularity", "axis 0 is not written out")
        yield from self._scale(chain[-1], channels)
        yield from self._zero_point(chain[-1], dtype)

    # Their readers

    def _convolution(self, node: onnx.NodeProto) -> Iterator[Finding]:
        if not self._is_convolution_work(node):
            yield from self._float_part(node)
        elif self._stays_in_float(node):
            if any(self._rounding(name) for name in node.input):
                yield Finding(_name(node), "float-layer", "stays in float, but reads integers")
        else:
            chains = [self._rounding(node.input[0]), self._view.quantizers(node.input[1])]
            for chain, what in zip(chains, ("input", "weights"), strict=True):
                if not chain:
                    yield Finding(_name(node), "coverage", f"its {what} is not quantized")
            if chains[1]:
                yield from self._weight(node, chains[1])
            yield from self._bias(node, *chains)

    def _weight(self, node: onnx.NodeProto, chain: list[onnx.NodeProto]) -> Iterator[Finding]:
        weight = self._view.constants[chain[-1].input[0]]
        stored = [each.op_type for each in chain], weight.dtype
        integers = ["DequantizeLinear"], np.dtype(np.int8)
        floats = ["DequantizeLinear", "QuantizeLinear"], np.dtype(np.float32)
        if stored != (integers if self._scheme.weights == "integer" else floats):
            message = f"its weights are stored as {weight.dtype} behind {', '.join(stored[0])}"
            yield Finding(_name(node), "weight", message)
            return
        found = [*self._per_channel(chain, np.int8, len(weight))]
        yield from found or self._levels(chain[-1], weight)

    def _levels(self, node: onnx.NodeProto, weight: NDArray[Any]) -> Iterator[Finding]:
        """Of sound scales."""
        level, integers = self._scheme.weight_level, weight.astype(np.float32)
        if node.op_type == "QuantizeLinear":
            scale = self._view.constants[node.input[1]]
            with np.errstate(over="ignore"):
                integers = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
        if not (np.abs(integers) <= level).all():  # also what is not a number
            message = f"a weight is stored as {np.abs(integers).max():g}, above {level}"
            yield Finding(_name(node), "level", message)

    def _bias(
        self,
        node: onnx.NodeProto,
        activation: list[onnx.NodeProto],
        weight: list[onnx.NodeProto],
    ) -> Iterator[Finding]:
        """Of a quantized convolution, which may have none."""
        if len(node.input) < 3 or not node.input[2]:
            return
        chain = self._view.quantizers(node.input[2])
        bias = self._view.constants.get(self._source(node.input[2]))
        if bias is None:
            yield Finding(_name(node), "constant", "its bias is no initializer")
            return
        stored = [each.op_type for each in chain], bias.dtype
        integers = self._scheme.bias == "s32"
        floats: list[str] = []
        wanted = (["DequantizeLinear"], np.dtype(np.int32)) if integers else (floats, np.float32)
        if stored != wanted:
            message = f"its bias is {bias.dtype}, the scheme's are {self._scheme.bias}"
            yield Finding(_name(node), "bias", message)
        elif chain:
            found = [*self._per_channel(chain, np.int32, len(bias))]
            yield from found or self._bias_steps(chain[0], activation, weight)

    def _bias_steps(
        self,
        node: onnx.NodeProto,
        activation: list[onnx.NodeProto],
        weight: list[onnx.NodeProto],
    ) -> Iterator[Finding]:
        """Products are added to the bias as they are: both count in the same steps."""
        if not activation or not weight:
            return  # found already
        scales = [self._view.constants.get(chain[0].input[1]) for chain in (activation, weight)]
        if scales[0] is None or scales[1] is None:
            return
        with np.errstate(all="ignore"):
            steps = np.asarray(scales[0] * scales[1])
        own = self._view.constants[node.input[1]]
        if own.shape != steps.shape or not np.allclose(own, steps, rtol=1e-6, atol=0):
            yield Finding(_name(node), "bias", "its steps are not input scale times weight scale")

    def _branches(self, add: onnx.NodeProto) -> tuple[int, int] | None:
        """(main, identity) of a residual sum as it was before quantization; None for any other."""
        from onnx import helper

        if not quantizable(add.name):
            return None
        inputs = [self._source(name) for name in add.input]
        return residual_branches(self._view, helper.make_node("Add", inputs, add.output, add.name))

    def _residual(self, add: onnx.NodeProto, main: int, identity: int) -> Iterator[Finding]:
        convolution = self._view.makers[self._source(add.input[main])]
        wanted: set[int] = set()
        if self._is_convolution_work(convolution) and not self._stays_in_float(convolution):
            wanted = {main, identity} if self._scheme.residual == "both" else {identity}
        for index, what in ((main, "convolution"), (identity, "identity")):
            if bool(self._rounding(add.input[index])) != (index in wanted):
                is_not = "is not quantized" if index in wanted else "is quantized, but must not be"
                yield Finding(_name(add), "residual", f"its {what} branch {is_not}")

    def _pool(self, node: onnx.NodeProto) -> Iterator[Finding]:
        chain, readers = self._rounding(node.input[0]), self._readers(node)
        again = [reader for reader in readers if reader.op_type == "QuantizeLinear"]
        if not chain and again and len(again) == len(readers):
            yield Finding(_name(node), "pool", "its result is quantized, its input is not")
        elif chain and self._scheme.pool == "before" and again:
            yield Finding(_name(node), "pool", "its result is quantized once more")
        elif chain and self._scheme.pool == "around":
            same = [reader for reader in again if self._same_numbers(chain[0], reader)]
            if len(same) < len(readers):
                yield Finding(_name(node), "pool", "its result is not quantized like its input")

    def _float_part(self, node: onnx.NodeProto) -> Iterator[Finding]:
        if any(self._rounding(name) for name in node.input):
            yield Finding(_name(node), "float-part", f"{node.op_type} reads a dequantized tensor")
