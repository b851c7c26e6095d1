"""What the float graph's tensors hold, clip by clip: the one set of statistics of every scheme.

The graph itself computes extrema and means of whole tensors, so that only those leave ONNX Runtime;
of the values themselves a fixed lattice does, for the histograms. Every clip is run by one thread,
so a clip's figures do not depend on how many run side by side.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.calibration.graph import GraphView, quantizable
from pkecho_edge.calibration.histogram import Histogram
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CalibrationError, MissingDependency
from pkecho_edge.processors import allowed_cores

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = ["ClipActivations", "TensorActivations", "channel_ranges", "merge_activations"]
__all__ += ["observe", "observed_tensors"]

SAMPLES_PER_CLIP = 1 << 18
"""About how many values of one tensor enter its histogram, per clip."""


@dataclass(frozen=True)
class TensorActivations:
    """One tensor of one clip, or of several after `merged`.

    Attributes:
        minimum, maximum: f32 [C], over every value.
        mean: f32 or f64 [C, H, W], over frames and clips.
        histogram: of a lattice of its values.
        clips: how many.
    """

    minimum: NDArray[np.float32]
    maximum: NDArray[np.float32]
    mean: NDArray[np.floating]
    histogram: Histogram
    clips: int = 1

    @classmethod
    def merged(cls, parts: Sequence[TensorActivations]) -> TensorActivations:
        """Of all clips together; the order of the parts is that of the sums.

        Raises:
            ValueError: no parts.
        """
        clips = sum(part.clips for part in parts)
        total = np.sum([part.mean * np.float64(part.clips) for part in parts], axis=0)
        return cls(
            np.min([part.minimum for part in parts], axis=0),
            np.max([part.maximum for part in parts], axis=0),
            total / clips,
            Histogram.merged([part.histogram for part in parts]),
            clips,
        )


ClipActivations = dict[str, TensorActivations]
"""Tensor -> what it held."""


def observed_tensors(graph: onnx.GraphProto) -> list[str]:
    """What a scheme may want to quantize: inputs of convolutions and of residual sums."""
    view = GraphView(graph)
    names: dict[str, None] = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Add") and quantizable(node.name):
            inputs = node.input[:1] if node.op_type == "Conv" else node.input
            names |= dict.fromkeys(name for name in inputs if name in view.makers)
    return list(names)


def observe(graph: Path, clips: Iterable[Clip], threads: int = 0) -> Iterator[ClipActivations]:
    """Run the float graph on each clip and tell what its tensors held, in the clips' order.

    Args:
        graph: lowered FP32 ONNX with the input `frames`.
        clips: of the graph's size.
        threads: clips side by side; 0 for one per usable core. It changes no figure.

    Raises:
        MissingDependency: onnx or onnxruntime is not installed.
        CalibrationError: a value is not finite.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401  # what `_session` needs, asked for before the work
    except ImportError as error:
        raise MissingDependency(
            f"{error.name} is not installed", remedy="Run: pip install 'pkecho-edge[compile]'"
        ) from error
    model = onnx.load(graph)
    names = observed_tensors(model.graph)
    session = _session(_instrumented(model, names))

    def run(clip: Clip) -> ClipActivations:
        frames = np.ascontiguousarray(clip.frames)
        outputs = iter(session.run(None, {"frames": frames})[1:])
        found = {name: _activations(*islice(outputs, 4)) for name in names}
        for name, tensor in found.items():
            if not np.isfinite(tensor.mean).all():
                raise CalibrationError(
                    f"clip {clip.identifier!r} gives values that are not finite in {name}",
                    path=graph,
                    remedy="Check the checkpoint: its FP32 network overflows on this clip",
                )
        return found

    workers = threads or allowed_cores()
    running: deque[Future[ClipActivations]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        # no more at a time than there are workers: a large set must not lie in memory
        for clip in clips:
            running.append(pool.submit(run, clip))
            if len(running) == workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def merge_activations(clips: Iterable[ClipActivations]) -> ClipActivations:
    """What the tensors held on all clips together; one clip at a time lies in memory.

    Raises:
        CalibrationError: no clips.
    """
    merged: ClipActivations | None = None
    for clip in clips:
        merged = {
            name: tensor if merged is None else TensorActivations.merged([merged[name], tensor])
            for name, tensor in clip.items()
        }
    if merged is None:
        raise CalibrationError(
            "there are no calibration clips", remedy="INT8 ranges need clips: name some"
        )
    return merged


def channel_ranges(graph: Path, clips: Sequence[Clip]) -> NDArray[np.float32]:
    """Each channel's smallest and largest value in each clip: what coverage is measured on.

    Returns:
        f32 [clips, channels of all observed tensors, 2].

    Raises:
        As `observe`.
    """
    rows = [
        np.concatenate([np.stack([t.minimum, t.maximum], axis=-1) for t in found.values()])
        for found in observe(graph, clips)
    ]
    return np.stack(rows) if rows else np.empty((0, 0, 2), dtype=np.float32)


def _activations(
    minimum: NDArray[np.float32],
    maximum: NDArray[np.float32],
    mean: NDArray[np.float32],
    sample: NDArray[np.float32],
) -> TensorActivations:
    bound = float(max(abs(minimum.min()), abs(maximum.max())))
    finite = math.isfinite(bound) and np.isfinite(mean).all()  # extrema may pass over a nan
    histogram = Histogram.of(sample, bound) if finite else Histogram.of(sample[:0], 1)
    return TensorActivations(minimum, maximum, mean, histogram)


def _instrumented(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """The graph with four outputs more per tensor: extrema, mean over frames, a lattice."""
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    watched = copy.deepcopy(model)
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in shape_inference.infer_shapes(model).graph.value_info
    }
    graph = watched.graph
    for number, name in enumerate(names):
        step = math.ceil(math.sqrt(math.prod(shapes[name]) / SAMPLES_PER_CLIP))
        outputs = [f"observed_{number}_{what}" for what in ("minimum", "maximum", "mean", "sample")]
        constants = {
            "starts": [0, 0],
            "ends": shapes[name][2:],
            "axes": [2, 3],
            "steps": [step] * 2,
        }
        for what, values in constants.items():
            array = np.asarray(values, dtype=np.int64)
            graph.initializer.append(numpy_helper.from_array(array, f"observed_{number}_{what}"))
        slicing = [name, *(f"observed_{number}_{what}" for what in constants)]
        axes = [0, 2, 3]
        graph.node.extend(
            [
                helper.make_node("ReduceMin", [name], outputs[:1], axes=axes, keepdims=0),
                helper.make_node("ReduceMax", [name], outputs[1:2], axes=axes, keepdims=0),
                helper.make_node("ReduceMean", [name], outputs[2:3], axes=[0], keepdims=0),
                helper.make_node("Slice", slicing, outputs[3:]),
            ]
        )
        for output in outputs:
            info = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
            graph.output.append(info)
    serialized: bytes = watched.SerializeToString()
    return serialized


def _session(model: bytes) -> onnxruntime.InferenceSession:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
