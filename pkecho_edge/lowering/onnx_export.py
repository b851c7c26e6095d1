"""The lowered graphs as ONNX opset 17, checked where it is written."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pkecho_edge.files import write_atomically
from pkecho_edge.lowering.clip_graph import ClipGraph
from pkecho_edge.lowering.parity import PARITY_LIMIT, checked_parity, network_logits
from pkecho_edge.lowering.stream_graph import StreamGraph
from pkecho_edge.model.network import PKEchoNet

__all__ = ["OPSET", "PARITY_LIMIT", "ExportReport", "export_clip_onnx", "export_stream_onnx"]

OPSET = 17
"""What JetPack 5's TensorRT 8.5 reads; every newer toolchain does too."""


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: the ONNX file.
        opset: its operator set.
        nodes: number of operators.
        parity: max |graph - network| / max |logit| on the probe clip, in PyTorch.
    """

    path: Path
    opset: int
    nodes: int
    parity: float


def export_clip_onnx(
    network: PKEchoNet, size: tuple[int, int], path: Path, probe: NDArray[np.uint8]
) -> ExportReport:
    """Lower to the clip graph, compare with the network on a probe clip, and write `path`.

    Args:
        network: trained.
        size: (H, W) in pixels.
        path: written whole or not at all.
        probe: u8 [T, 1, H, W], a real clip.

    Raises:
        UsageError: an impossible size.
        PkechoEdgeError: the graph does not compute what the network does.
    """
    graph = ClipGraph(network, size)
    clip = torch.from_numpy(probe)
    with torch.inference_mode():
        logits = graph(clip)
    parity = checked_parity(logits, network_logits(network, clip))
    nodes = _write(graph, (clip,), ("frames",), ("logits",), "pkecho_clip", path)
    return ExportReport(path, OPSET, nodes, parity)


def export_stream_onnx(
    network: PKEchoNet, size: tuple[int, int], path: Path, probe: NDArray[np.uint8]
) -> ExportReport:
    """Lower to the stream graph and write `path`; arguments and errors as `export_clip_onnx`.

    The probe's frames are pushed one by one; after the last the graph must give what the network
    gives for the last frame of the whole clip.
    """
    graph = StreamGraph(network, size)
    clip = torch.from_numpy(probe)
    history = torch.zeros(graph.history_shape)
    with torch.inference_mode():
        for frame in clip:
            logits, history = graph(frame[None], history)
    parity = checked_parity(logits, network_logits(network, clip)[-1:])
    nodes = _write(
        graph,
        (clip[:1], torch.zeros(graph.history_shape)),
        ("frame", "history"),
        ("logits", "history_out"),
        "pkecho_stream",
        path,
    )
    return ExportReport(path, OPSET, nodes, parity)


def _write(
    graph: nn.Module,
    probe: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str,
    path: Path,
) -> int:
    """Export, check, write whole or not at all; returns the number of operators."""
    model = onnx.load_from_string(_exported(graph, probe, inputs, outputs))
    model.producer_name, model.producer_version, model.doc_string = "pkecho-edge", "", ""
    model.graph.name = name
    _inline_shared_weights(model.graph)
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString(deterministic=True))
    return len(model.graph.node)


def _exported(
    graph: nn.Module, probe: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str]
) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # the TorchScript exporter is deprecated, but it writes opset 17 as it is; the newer one
        # writes 18 and converts down, leaving operators of 18 behind
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            probe,
            buffer,  # type: ignore[arg-type]  # the TorchScript exporter writes to any file object
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            do_constant_folding=True,
            dynamo=False,
        )
    return buffer.getvalue()


def _inline_shared_weights(graph: onnx.GraphProto) -> None:
    """Drop Identity nodes: the exporter puts them before weights that happen to be equal.

    Quantizers look for a weight right at its consumer and miss it behind an Identity.
    """
    renamed = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity"}
    kept = [node for node in graph.node if node.op_type != "Identity"]
    for node in kept:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)
