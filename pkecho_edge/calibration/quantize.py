"""Post-training INT8 quantization of the lowered graph into Q/DQ ONNX, with NNCF.

Convolutions of the encoder, the reduction and the affinity estimators become INT8: unsigned
activations after ReLU, asymmetric where they may be negative, weights signed and per channel. The
kernel head (ten tokens) and the affinity arithmetic stay in float: they cost little and carry the
mask's border.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import MissingDependency, PkechoEdgeError
from pkecho_edge.files import write_atomically

if TYPE_CHECKING:
    import onnx

__all__ = ["QuantizationReport", "quantize_onnx"]


@dataclass(frozen=True)
class QuantizationReport:
    """What was written.

    Attributes:
        path: the Q/DQ ONNX file.
        scheme: name of the quantization scheme.
        clips: how many set the ranges.
        quantized, left_in_float: number of convolutions of each kind.
    """

    path: Path
    scheme: str
    clips: int
    quantized: int
    left_in_float: int


def quantize_onnx(graph: Path, clips: Sequence[Clip], path: Path) -> QuantizationReport:
    """Quantize `graph` into `path`, written whole or not at all.

    Args:
        graph: the lowered FP32 ONNX with input `frames`.
        clips: the calibration clips, of the graph's size; at least one.

    Raises:
        MissingDependency: nncf or onnx is not installed.
        PkechoEdgeError: nothing was quantized.
    """
    try:
        import nncf
        import onnx
    except ImportError as error:
        raise MissingDependency(
            f"{error.name} is not installed", remedy="Run: pip install 'pkecho-edge[compile]'"
        ) from error
    model = onnx.load(graph)
    feeds = [{"frames": np.ascontiguousarray(clip.frames)} for clip in clips]
    with _quiet():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(feeds),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(feeds),
            ignored_scope=nncf.IgnoredScope(names=_float_nodes(model)),
        )
    scales = {node.output[0] for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in quantized.graph.node if node.op_type == "Conv"]
    integer = sum(set(node.input[:2]) <= scales for node in convolutions)
    if not integer:
        raise PkechoEdgeError(
            "no convolution was quantized", path=graph, remedy="Report it with the graph attached"
        )
    write_atomically(path, quantized.SerializeToString(deterministic=True))
    return QuantizationReport(path, "cpu", len(feeds), integer, len(convolutions) - integer)


def _float_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that stay in float, by the part of the lowered graph they belong to."""

    def stays(name: str) -> bool:
        part, *inner = name.lstrip("/").split("/")
        if part == "head":
            return True
        # of an upsampler only the estimator (depthwise, its ReLU, scores) is convolution work
        estimator = inner[:1] == ["Relu"] or not {"depthwise", "scores"}.isdisjoint(inner)
        return part.startswith("upsamplers") and not estimator

    return [node.name for node in model.graph.node if stays(node.name)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF draws progress bars and logs to stdout and stderr; ours is the one that speaks."""
    import logging

    import nncf

    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
