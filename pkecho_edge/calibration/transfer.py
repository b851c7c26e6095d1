"""The ranges of one quantized graph for another graph with the same parts.

The clip graph is the one that is calibrated: it sees whole clips. The stream graph has the same
encoder and the same affinity estimators under the same names, so it takes over every scale, every
INT8 weight and every bias that quantization corrected. Were the two calibrated apart, they would
disagree on the same frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.files import write_atomically

if TYPE_CHECKING:
    import onnx

__all__ = ["transfer_quantization"]

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def transfer_quantization(quantized: Path, graph: Path, path: Path) -> int:
    """Quantize `graph` exactly as `quantized` is, and write it to `path`, whole or not at all.

    Args:
        quantized: Q/DQ ONNX.
        graph: FP32 ONNX in which every node that reads a quantized tensor there has its namesake.
        path: of the result.

    Returns:
        how many inputs of nodes are quantized.

    Raises:
        PkechoEdgeError: a node that is quantized there is missing here.
    """
    import onnx

    source, model = onnx.load(quantized), onnx.load(graph)
    made_by = {name: node for node in source.graph.node for name in node.output}
    here = {node.name: node for node in model.graph.node}
    quantizers: dict[str, onnx.NodeProto] = {}  # by output
    corrected: set[str] = set()
    count = 0
    for node in source.graph.node:
        chains = [_chain(name, made_by) for name in node.input]
        if node.op_type in _QUANTIZERS or not any(chains):
            continue
        if node.name not in here:
            raise PkechoEdgeError(
                f"node {node.name} is quantized, but the other graph has none of that name",
                path=graph,
                remedy="Report it with both graphs attached",
            )
        for index, chain in enumerate(chains):
            if chain:
                here[node.name].input[index] = node.input[index]
                quantizers |= {each.output[0]: each for each in chain}
                count += 1
            else:
                corrected.add(node.input[index])
    _insert(model.graph, quantizers)
    _take_constants(model.graph, source.graph, corrected)
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString(deterministic=True))
    return count


def _chain(name: str, made_by: Mapping[str, onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The quantizers that a tensor comes out of, the last one first; empty for a float tensor."""
    chain = []
    while (maker := made_by.get(name)) is not None and maker.op_type in _QUANTIZERS:
        chain.append(maker)
        name = maker.input[0]
    return chain


def _insert(graph: onnx.GraphProto, quantizers: dict[str, onnx.NodeProto]) -> None:
    """Put each quantizer before its first reader; the nodes read their outputs already."""
    waiting = dict(quantizers)
    ordered: list[onnx.NodeProto] = []
    for node in graph.node:
        for name in node.input:
            chain = _chain(name, waiting)
            for each in reversed(chain):
                ordered.append(waiting.pop(each.output[0]))
        ordered.append(node)
    del graph.node[:]
    graph.node.extend(ordered)


def _take_constants(graph: onnx.GraphProto, source: onnx.GraphProto, corrected: set[str]) -> None:
    """The constants that the nodes read: the source's where they are new or were corrected."""
    read = {name for node in graph.node for name in node.input}
    theirs = {tensor.name: tensor for tensor in source.initializer}
    own = {tensor.name: tensor for tensor in graph.initializer}
    constants = {**theirs, **own, **{name: theirs[name] for name in corrected & theirs.keys()}}
    del graph.initializer[:]
    graph.initializer.extend(tensor for name, tensor in constants.items() if name in read)
