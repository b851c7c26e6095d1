"""Where a scheme puts its quantizers: decided on the float graph, before any number is known."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pkecho_edge.calibration.graph import GraphView, layer_of, quantizable
from pkecho_edge.calibration.scheme import Scheme

if TYPE_CHECKING:
    import onnx

__all__ = ["Placement", "layers", "place", "residual_branches"]

Reader = tuple[str, int]
"""A node's name and which of its inputs."""


@dataclass(frozen=True)
class Placement:
    """What is quantized.

    Attributes:
        activations: tensor -> who reads it quantized.
        ranges_of: tensor -> the one whose range it takes, where that is another: a max-pool's
            input takes its output's.
        convolutions: names of those whose inputs and weights are quantized.
    """

    activations: dict[str, list[Reader]] = field(default_factory=dict)
    ranges_of: dict[str, str] = field(default_factory=dict)
    convolutions: list[str] = field(default_factory=list)

    def _add(self, tensor: str, reader: Reader) -> None:
        self.activations.setdefault(tensor, []).append(reader)


def layers(graph: onnx.GraphProto) -> list[str]:
    """Every layer that can be quantized, in the graph's order."""
    convolutions = GraphView(graph).convolutions()
    names = [layer_of(node.name) for node in convolutions if quantizable(node.name)]
    return list(dict.fromkeys(names))


def place(graph: onnx.GraphProto, scheme: Scheme, float_layers: Collection[str] = ()) -> Placement:
    """The quantizers of a scheme.

    Args:
        graph: lowered, in float.
        scheme: of the target.
        float_layers: layers that stay in float beside the scheme's own.
    """
    view = GraphView(graph)
    placement = Placement()
    for node in view.convolutions():
        layer = layer_of(node.name)
        if (
            quantizable(node.name)
            and layer not in float_layers
            and not scheme.keeps_in_float(layer)
        ):
            placement.convolutions.append(node.name)
            placement._add(node.input[0], (node.name, 0))
    for node in graph.node:
        if node.op_type == "Add" and quantizable(node.name):
            for index in _residual_inputs(view, node, scheme, placement):
                placement._add(node.input[index], (node.name, index))
    _move_before_pools(view, scheme, placement)
    return placement


def residual_branches(view: GraphView, add: onnx.NodeProto) -> tuple[int, int] | None:
    """(main, identity): the input from the block's last convolution, and the other one.

    None where no input comes straight from a convolution: it is no residual sum.
    """

    def of(index: int) -> str:
        maker = view.makers.get(add.input[index])
        return maker.name if maker is not None and maker.op_type == "Conv" else ""

    if not of(0) and not of(1):
        return None
    main = 0 if of(0) and "downsample" not in of(0) else 1
    return main, 1 - main


def _residual_inputs(
    view: GraphView, add: onnx.NodeProto, scheme: Scheme, placement: Placement
) -> Iterator[int]:
    """Which inputs of a sum are quantized: none where its convolution runs in float."""
    if (branches := residual_branches(view, add)) is None:
        return
    main, identity = branches
    if view.makers[add.input[main]].name not in placement.convolutions:
        return
    if scheme.residual == "both":
        yield main
    yield identity


def _move_before_pools(view: GraphView, scheme: Scheme, placement: Placement) -> None:
    """A max-pool picks among integers as well as among floats, and reads a quarter of the bytes.

    Only where all of its readers take integers: one in float must not get them rounded.
    """
    for name, readers in list(placement.activations.items()):
        pool = view.makers.get(name)
        if pool is None or pool.op_type != "MaxPool":
            continue
        if len(readers) == len(view.readers[name]):
            placement._add(pool.input[0], (pool.name, 0))
            placement.ranges_of[pool.input[0]] = name
            if scheme.pool == "before":
                del placement.activations[name]
