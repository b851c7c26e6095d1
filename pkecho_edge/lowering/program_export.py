"""The lowered graphs as torch.export programs (.pt2), checked where they are written.

For targets that compile with torch. Such toolchains read precision from the program's types, so
a program is written in the precision that it is to run in.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram

from pkecho_edge.errors import UsageError
from pkecho_edge.files import write_atomically
from pkecho_edge.lowering.clip_graph import ClipGraph
from pkecho_edge.lowering.half import halve
from pkecho_edge.lowering.parity import (
    HALF_PARITY_LIMIT,
    PARITY_LIMIT,
    checked_parity,
    network_logits,
)
from pkecho_edge.lowering.stream_graph import StreamGraph
from pkecho_edge.model.network import PKEchoNet

__all__ = ["PRECISIONS", "ProgramReport", "export_clip_program", "export_stream_program"]

PRECISIONS = ("f16", "f32")


@dataclass(frozen=True)
class ProgramReport:
    """What was written.

    Attributes:
        path: the .pt2 file.
        precision: of the convolutions, "f16" or "f32"; the rest is FP32 either way.
        nodes: number of operators.
        parity: max |program - network| / max |logit| on the probe clip, run by PyTorch.
    """

    path: Path
    precision: str
    nodes: int
    parity: float


def export_clip_program(
    network: PKEchoNet,
    size: tuple[int, int],
    path: Path,
    probe: NDArray[np.uint8],
    precision: str = "f32",
) -> ProgramReport:
    """Lower to the clip graph, export it, compare with the network on a probe clip, write `path`.

    Args:
        network: trained.
        size: (H, W) in pixels.
        path: a name that ends in .pt2; written whole or not at all.
        probe: u8 [T, 1, H, W], a real clip.
        precision: of the convolutions, "f16" or "f32".

    Raises:
        UsageError: an impossible size or precision.
        PkechoEdgeError: the program does not compute what the network does.
    """
    _check(precision)
    graph = ClipGraph(network, size)
    clip = torch.from_numpy(probe)
    program = _exported(graph if precision == "f32" else halve(graph), (clip,))
    with torch.no_grad():
        logits = program.module()(clip)
    return _written(program, logits, network_logits(network, clip), path, precision)


def export_stream_program(
    network: PKEchoNet,
    size: tuple[int, int],
    path: Path,
    probe: NDArray[np.uint8],
    precision: str = "f32",
) -> ProgramReport:
    """Lower to the stream graph and write `path`; arguments and errors as `export_clip_program`.

    The probe's frames are pushed one by one; after the last the program must give what the network
    gives for the last frame of the whole clip.
    """
    _check(precision)
    graph = StreamGraph(network, size)
    clip = torch.from_numpy(probe)
    history = torch.zeros(graph.history_shape)
    program = _exported(graph if precision == "f32" else halve(graph), (clip[:1], history))
    module = program.module()
    with torch.no_grad():
        for frame in clip:
            logits, history = module(frame[None], history)
    return _written(program, logits, network_logits(network, clip)[-1:], path, precision)


def _check(precision: str) -> None:
    if precision not in PRECISIONS:
        raise UsageError(
            f"a program cannot be written in {precision}", remedy=f"Use {' or '.join(PRECISIONS)}"
        )


def _exported(graph: nn.Module, probe: tuple[Tensor, ...]) -> ExportedProgram:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, about parts of itself
        return torch.export.export(graph, probe, strict=False)


def _written(
    program: ExportedProgram, logits: Tensor, expected: Tensor, path: Path, precision: str
) -> ProgramReport:
    """Check, then write whole or not at all."""
    half = precision == "f16"
    parity = (
        checked_parity(
            logits, expected, HALF_PARITY_LIMIT, "Use --float-precision f32: FP16 overflows"
        )
        if half
        else checked_parity(logits, expected, PARITY_LIMIT)
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_atomically(path, buffer.getvalue())
    nodes = sum(node.op == "call_function" for node in program.graph.nodes)
    return ProgramReport(path, precision, nodes, parity)
