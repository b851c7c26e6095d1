"""The ranges of one quantized graph for another graph with the same parts.

The clip graph is the one that is calibrated: it sees whole clips. The stream graph has the same
encoder and the same affinity estimators under the same names, so it takes over every scale, every
INT8 weight and every bias that quantization corrected. Were the two calibrated apart, they would
disagree on the same frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pkecho_edge.calibration.graph import QUANTIZERS, GraphView, quantizable
from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.files import write_atomically

if TYPE_CHECKING:
    import onnx

__all__ = ["transfer_quantization"]


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
    view = GraphView(source.graph)
    here = {node.name: node for node in model.graph.node}
    quantizers: dict[str, onnx.NodeProto] = {}  # by output
    taken: set[str] = set()
    count = 0
    for node in source.graph.node:
        chains = [view.quantizers(name) for name in node.input]
        # also a convolution that stays in float: equalisation may have rescaled its weights
        shared = any(chains) or (node.op_type == "Conv" and quantizable(node.name))
        if node.op_type in QUANTIZERS or not shared:
            continue
        if node.name not in here:
            raise PkechoEdgeError(
                f"node {node.name} is quantized, but the other graph has none of that name",
                path=graph,
                remedy="Report it with both graphs attached",
            )
        for index, chain in enumerate(chains):
            name = node.input[index]
            if chain or name in view.constants:  # a bias that quantization corrected
                here[node.name].input[index] = name
                quantizers |= {each.output[0]: each for each in chain}
                taken |= {name, *(n for each in chain for n in each.input)}
            count += bool(chain)
    _insert(model.graph, quantizers)
    _take_constants(model.graph, source.graph, taken)
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString(deterministic=True))
    return count


def _insert(graph: onnx.GraphProto, quantizers: dict[str, onnx.NodeProto]) -> None:
    """Put each quantizer before its first reader; the nodes read their outputs already."""
    ordered: list[onnx.NodeProto] = []

    def insert(name: str) -> None:
        if (quantizer := quantizers.pop(name, None)) is not None:
            for read in quantizer.input:
                insert(read)
            ordered.append(quantizer)

    for node in list(graph.node):
        for name in node.input:
            insert(name)
        ordered.append(node)
    del graph.node[:]
    graph.node.extend(ordered)


def _take_constants(graph: onnx.GraphProto, source: onnx.GraphProto, taken: set[str]) -> None:
    """The constants that nodes read: the source's where they were taken over, else their own."""
    read = {name for node in graph.node for name in node.input}
    own = {tensor.name: tensor for tensor in graph.initializer}
    theirs = {tensor.name: tensor for tensor in source.initializer if tensor.name in taken}
    del graph.initializer[:]
    graph.initializer.extend(t for name, t in {**own, **theirs}.items() if name in read)
