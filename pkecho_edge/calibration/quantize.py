"""Post-training INT8 quantization of the lowered graph into Q/DQ ONNX.

One set of statistics, one graph per scheme: the scheme says where quantizers stand and of what type
they are (placement.py), the rule turns statistics into ranges (ranges.py). Nothing here depends on
time, threads or the order of a dictionary, so the same inputs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.calibration.activations import TensorActivations, merge_activations, observe
from pkecho_edge.calibration.graph import GraphView
from pkecho_edge.calibration.lint import require_scheme
from pkecho_edge.calibration.placement import Placement, place
from pkecho_edge.calibration.ranges import activation_range, weight_scales
from pkecho_edge.calibration.rule import DEFAULT_RULE, RangeRule
from pkecho_edge.calibration.scheme import Scheme, load_scheme
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.files import write_atomically

if TYPE_CHECKING:
    import onnx

__all__ = ["QuantizationReport", "mean_output", "quantize_graph", "quantize_onnx"]


@dataclass(frozen=True)
class QuantizationReport:
    """What was written.

    Attributes:
        path: the Q/DQ ONNX file.
        scheme, rule: by which it was quantized.
        quantized, left_in_float: number of convolutions of each kind.
        dead: quantized tensors that never left zero on the calibration clips.
    """

    path: Path
    scheme: str
    rule: str
    quantized: int
    left_in_float: int
    dead: tuple[str, ...]


def quantize_onnx(
    graph: Path,
    clips: Sequence[Clip],
    path: Path,
    scheme: str = "cpu",
    rule: RangeRule = DEFAULT_RULE,
) -> QuantizationReport:
    """Observe the clips and quantize in one go; arguments as `quantize_graph`.

    Raises:
        MissingDependency: onnx or onnxruntime is not installed.
        PkechoEdgeError: there are no clips, or nothing was quantized.
    """
    statistics = merge_activations(observe(graph, clips))
    return quantize_graph(graph, statistics, load_scheme(scheme), rule, path)


def quantize_graph(
    graph: Path,
    statistics: Mapping[str, TensorActivations],
    scheme: Scheme,
    rule: RangeRule,
    path: Path,
    float_layers: Collection[str] = (),
) -> QuantizationReport:
    """Quantize `graph` into `path`, written whole or not at all.

    Args:
        graph: lowered FP32 ONNX.
        statistics: tensor -> what it held on the calibration clips.
        scheme: of the target.
        rule: how ranges are chosen.
        path: of the result.
        float_layers: layers that stay in float beside the scheme's own.

    Raises:
        PkechoEdgeError: nothing was quantized, or not as the scheme says.
    """
    import onnx

    model = onnx.load(graph)
    placement = place(model.graph, scheme, float_layers)
    if not placement.convolutions:
        raise PkechoEdgeError(
            "no convolution was quantized",
            path=graph,
            remedy="Leave fewer layers in float, or compile for FP32",
        )
    view = GraphView(model.graph)
    total = len(view.convolutions())
    dead = _Writer(view, statistics, scheme, rule).write(placement)
    require_scheme(model, scheme, float_layers, path)
    write_atomically(path, model.SerializeToString(deterministic=True))
    count = len(placement.convolutions)
    return QuantizationReport(path, scheme.name, rule.name, count, total - count, tuple(dead))


@dataclass(frozen=True)
class _Quantizer:
    """How a tensor is stored: value = scale * (integer - zero point)."""

    scale: NDArray[np.float32]
    zero_point: NDArray[Any]

    @classmethod
    def of(cls, scale: float, zero_point: float, dtype: type[Any]) -> _Quantizer:
        """Per tensor; the scale is at least the smallest normal number."""
        smallest = np.finfo(np.float32).tiny  # what is smaller may be flushed to zero
        return cls(np.asarray(max(scale, smallest), np.float32), np.asarray(zero_point, dtype))


class _Writer:
    """Rewrites one graph in place; good for one `write`."""

    def __init__(
        self,
        view: GraphView,
        statistics: Mapping[str, TensorActivations],
        scheme: Scheme,
        rule: RangeRule,
    ) -> None:
        self._view, self._statistics, self._scheme, self._rule = view, statistics, scheme, rule
        self._nodes: list[onnx.NodeProto] = []  # of the quantized graph so far
        self._constants: dict[str, NDArray[Any]] = {}  # new ones

    def write(self, placement: Placement) -> list[str]:
        """Put in every quantizer; returns the tensors that never left zero."""
        ranges_of = placement.ranges_of
        quantizers = {
            tensor: self._activation(tensor, ranges_of.get(tensor, tensor))
            for tensor in placement.activations
        }
        # a convolution behind a pool reads what was quantized before it
        before = {ranges_of[name]: quantizers[name] for name in ranges_of}
        convolutions = set(placement.convolutions)
        for node in list(self._view.graph.node):
            if node.name in convolutions:
                source = node.input[0]
                self._quantize_convolution(node, {**before, **quantizers}[source])
            self._nodes.append(node)
            for tensor in quantizers.keys() & set(node.output):
                self._append_pair(tensor, tensor, quantizers[tensor])
        for tensor, readers in placement.activations.items():
            for name, index in readers:
                self._view.nodes[name].input[index] = f"{tensor}_dequantized"
        self._finish()
        return [name for name in quantizers if not self._ever_moves(ranges_of.get(name, name))]

    def _activation(self, tensor: str, ranges_of: str) -> _Quantizer:
        """Scale and zero point of an activation."""
        lowest, highest = self._scheme.activation_levels
        dtype = self._scheme.activation_type
        if self._view.makers[tensor].op_type == "Cast" and lowest == 0:
            return _Quantizer.of(1, 0, dtype)  # 8-bit frames as they are: exact
        statistics = self._statistics[ranges_of]
        low, high = activation_range(
            statistics, self._rule.activations, highest - lowest + 1, symmetric=lowest < 0
        )
        if low == high:
            return _Quantizer.of(1, 0, dtype)
        if lowest < 0:
            return _Quantizer.of(max(-low, high) / highest, 0, dtype)
        scale = (high - low) / highest
        return _Quantizer.of(scale, np.clip(np.rint(-low / scale), lowest, highest), dtype)

    def _ever_moves(self, tensor: str) -> bool:
        statistics = self._statistics[tensor]
        return bool(statistics.minimum.any() or statistics.maximum.any())

    def _quantize_convolution(self, node: onnx.NodeProto, activation: _Quantizer) -> None:
        """Per output channel and symmetric; the bias takes up what rounding shifts on average."""
        weight = self._view.constants[node.input[1]]
        level = self._scheme.weight_level
        scales = weight_scales(weight, self._rule.weights, level)
        bias = self._bias(node)
        if self._scheme.bias == "s32":  # a channel of next to no weights must not cut its bias off
            smallest = np.abs(bias) / (float(activation.scale) * 2**30)
            scales = np.maximum(scales, smallest).astype(np.float32)
        steps = scales.reshape(-1, *[1] * (weight.ndim - 1))
        integers = np.clip(np.rint(weight / steps), -level, level).astype(np.int8)
        if self._rule.bias_correction:
            mean = self._statistics[node.input[0]].mean.astype(np.float64)
            bias = bias + mean_output(node, mean, weight - integers * steps)
        stored = _Quantizer(scales, np.zeros(len(scales), dtype=np.int8))
        name = f"{node.name}/weight"
        if self._scheme.weights == "integer":
            self._append_dequantize(name, integers, stored)
        else:
            self._constants[name] = (integers * steps).astype(np.float32)
            self._append_pair(name, name, stored, axis=0)
        inputs = [node.input[0], f"{name}_dequantized", f"{node.name}/bias"]
        if self._scheme.bias == "s32":
            steps = (activation.scale * scales).astype(np.float32)
            integers = np.clip(np.rint(bias / steps), -(2**31), 2**31 - 1).astype(np.int32)
            stored = _Quantizer(steps, np.zeros(len(steps), dtype=np.int32))
            self._append_dequantize(inputs[2], integers, stored)
            inputs[2] += "_dequantized"
        else:
            self._constants[inputs[2]] = bias.astype(np.float32)
        node.input[:] = inputs

    def _bias(self, node: onnx.NodeProto) -> NDArray[np.float64]:
        """f64 [out]; zeros where the convolution has none."""
        if len(node.input) > 2 and node.input[2]:
            return self._view.constants[node.input[2]].astype(np.float64)
        return np.zeros(len(self._view.constants[node.input[1]]))

    def _append_pair(
        self, name: str, tensor: str, stored: _Quantizer, axis: int | None = None
    ) -> None:
        """QuantizeLinear and DequantizeLinear of a tensor."""
        from onnx import helper

        inputs = [tensor, *self._store(name, stored)]
        node = helper.make_node(
            "QuantizeLinear", inputs, [f"{name}_quantized"], f"{name}/quantize", axis=axis
        )
        self._nodes.append(node)
        self._append_node(name, [f"{name}_quantized", *inputs[1:]], axis)

    def _append_dequantize(self, name: str, integers: NDArray[Any], stored: _Quantizer) -> None:
        """DequantizeLinear of integers along their first axis."""
        self._constants[f"{name}_quantized"] = integers
        self._append_node(name, [f"{name}_quantized", *self._store(name, stored)], axis=0)

    def _append_node(self, name: str, inputs: list[str], axis: int | None) -> None:
        from onnx import helper

        node = helper.make_node(
            "DequantizeLinear", inputs, [f"{name}_dequantized"], f"{name}/dequantize", axis=axis
        )
        self._nodes.append(node)

    def _store(self, name: str, stored: _Quantizer) -> list[str]:
        """The names of its scale and zero point, as new constants."""
        self._constants[f"{name}_scale"] = np.asarray(stored.scale, dtype=np.float32)
        self._constants[f"{name}_zero_point"] = np.asarray(stored.zero_point)
        return [f"{name}_scale", f"{name}_zero_point"]

    def _finish(self) -> None:
        """Put the nodes in, add the new constants, and drop those that nothing reads any more."""
        from onnx import numpy_helper

        graph = self._view.graph
        del graph.node[:]
        graph.node.extend(self._nodes)
        read = {name for node in graph.node for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        new = [numpy_helper.from_array(array, name) for name, array in self._constants.items()]
        del graph.initializer[:]
        graph.initializer.extend([*kept, *new])


def mean_output(
    node: onnx.NodeProto, mean: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What a convolution gives on average, without its bias: exact, for it is linear.

    Args:
        node: its strides, pads and groups; dilations are 1.
        mean: f64 [C, H, W], its input's mean over frames.
        weight: f64 [out, C / groups, kh, kw].

    Returns:
        f64 [out], over all output positions.
    """
    from onnx import helper

    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    down, across = attributes.get("strides", (1, 1))
    padded = np.pad(mean, ((0, 0), (top, bottom), (left, right)))
    out, per_group, height, width = weight.shape
    rows, columns = padded.shape[1] - height + 1, padded.shape[2] - width + 1
    taps = np.stack(
        [
            padded[:, y : y + rows : down, x : x + columns : across].mean(axis=(1, 2))
            for y in range(height)
            for x in range(width)
        ],
        axis=1,
    )  # [C, kh * kw]
    groups = len(mean) // per_group
    kernels = weight.reshape(groups, out // groups, per_group, height * width)
    found: NDArray[np.float64] = np.einsum(
        "gock,gck->go", kernels, taps.reshape(groups, per_group, -1)
    )
    return found.reshape(out)
