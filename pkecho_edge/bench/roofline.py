"""How near our engines come to what the machine can do: its convolution peak, in the same run."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pkecho_edge.bench.engines import bench_clips, build_graphs, compile_graphs, load_timed
from pkecho_edge.bench.macs import count_graph_gmacs
from pkecho_edge.bench.networks import BenchNetwork
from pkecho_edge.bench.rows import OURS, BenchRow, make_row
from pkecho_edge.bench.turns import take_turns
from pkecho_edge.model.network import count_gmacs
from pkecho_edge.stages import Observer
from pkecho_edge.targets.openvino_profile import compile_model

__all__ = ["PEAK_SHAPES", "Peak", "RooflineResult", "RooflineRow", "measure_roofline"]

PEAK_SHAPES = ((512, 20), (256, 20), (128, 40))
"""(channels, side) of the 3x3 convolutions whose best is the peak."""

_BATCH, _CHAIN = 10, 16


@dataclass(frozen=True)
class Peak:
    """The fastest convolution of a precision.

    Attributes:
        precision: "int8", "bf16" or "f32".
        gmacs_per_s: 10^9 multiply-accumulates per second, at the median.
        channels, side: of the convolution that reached it.
    """

    precision: str
    gmacs_per_s: float
    channels: int
    side: int


@dataclass(frozen=True)
class RooflineRow(BenchRow):
    """One of our engines.

    Attributes:
        network_gmacs: per result, as the network counts them: all refinements, upsampled.
        graph_gmacs: per result, what the lowered graph really computes.
        network_gmacs_per_s, graph_gmacs_per_s: the same per second.
        network_fraction, graph_fraction: of the INT8 peak.
    """

    network_gmacs: float
    graph_gmacs: float
    network_gmacs_per_s: float
    graph_gmacs_per_s: float
    network_fraction: float
    graph_fraction: float


@dataclass(frozen=True)
class RooflineResult:
    """Peaks, INT8 first, and our engines."""

    peaks: tuple[Peak, ...]
    rows: tuple[RooflineRow, ...]

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "peaks": [asdict(peak) for peak in self.peaks],
            "rows": [row.to_dict() for row in self.rows],
        }


def measure_roofline(
    chosen: BenchNetwork, size: tuple[int, int], threads: int, rounds: int, observer: Observer
) -> RooflineResult:
    """Time convolutions of every precision and our clip and stream engines turn by turn.

    Args:
        chosen: the network.
        size: (H, W) of the engines; the convolutions' sizes are fixed.
        threads: for everything alike; 0 for every core.
        rounds: turns of each.
        observer: hears about progress.
    """
    clips = bench_clips(size, chosen.network.config.frames)
    length = len(clips[0].frames)
    per_frame = count_gmacs(chosen.network, size) / length
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        observer.start("build the engines", None)
        graphs = build_graphs(chosen.network, clips, root)
        counted = {mode: count_graph_gmacs(path) for mode, path in graphs.of("f32").items()}
        counted["clip"] /= length
        calls: dict[tuple[str, str], Callable[[], object]] = {}
        for floats in ("f32", "bf16"):
            folder = root / floats
            for mode, engine in compile_graphs(
                graphs.of("int8"), "cpu", floats, threads, folder
            ).items():
                loaded = load_timed(engine, clips[0].frames, stack, loads=1)
                calls[mode, f"int8 + {floats}"] = loaded.call
        observer.done(f"{len(calls)} engines")
        convolutions = {
            (precision, *shape): _convolution_call(precision, *shape, threads)
            for precision in ("int8", "bf16", "f32")
            for shape in PEAK_SHAPES
        }
        observer.start("time turn by turn", rounds)
        taken = take_turns(
            [*calls.values(), *convolutions.values()], rounds, advance=observer.advance
        )
        observer.done(f"{rounds} rounds")
    peaks = _peaks(dict(zip(convolutions, taken[len(calls) :], strict=True)))
    rows = []
    for (mode, precision), latencies in zip(calls, taken[: len(calls)], strict=True):
        row = make_row(
            OURS,
            mode,
            chosen.backbone,
            size,
            precision,
            latencies,
            length if mode == "clip" else 1,
        )
        rows.append(_against_peak(row, per_frame, counted[mode], peaks[0].gmacs_per_s))
    return RooflineResult(peaks, tuple(rows))


def _against_peak(
    row: BenchRow, network_gmacs: float, graph_gmacs: float, peak: float
) -> RooflineRow:
    return RooflineRow(
        **vars(row),
        network_gmacs=network_gmacs,
        graph_gmacs=graph_gmacs,
        network_gmacs_per_s=network_gmacs * row.fps,
        graph_gmacs_per_s=graph_gmacs * row.fps,
        network_fraction=network_gmacs * row.fps / peak,
        graph_fraction=graph_gmacs * row.fps / peak,
    )


def _peaks(taken: Mapping[tuple[str, int, int], list[int]]) -> tuple[Peak, ...]:
    """The best shape of each precision, by the median."""
    best: dict[str, Peak] = {}
    for (precision, channels, side), latencies in taken.items():
        macs = _BATCH * _CHAIN * 9 * channels**2 * side**2
        peak = Peak(precision, macs / statistics.median(latencies), channels, side)
        if precision not in best or peak.gmacs_per_s > best[precision].gmacs_per_s:
            best[precision] = peak
    return tuple(best.values())


def _convolution_call(
    precision: str, channels: int, side: int, threads: int
) -> Callable[[], object]:
    """A chain of 3x3 convolutions with ReLU, long enough that what stands at both its ends, a
    quantization, a reorder and a maximum, takes a few percent of the time."""
    model = _chain_model(precision == "int8", channels, side)
    floats = "bf16" if precision == "bf16" else "f32"
    request = compile_model(model, floats, threads).create_infer_request()
    data = np.random.default_rng(0).standard_normal((_BATCH, channels, side, side))
    inputs = {0: data.astype(np.float32)}
    return lambda: request.infer(inputs, share_inputs=True, share_outputs=True)


def _chain_model(int8: bool, channels: int, side: int) -> Any:
    """[10, C, S, S] -> one number, so that no large output is written."""
    import openvino as ov
    import openvino.opset13 as op

    def quantized(node: Any, low: float, high: float, levels: int) -> Any:
        if not int8:
            return node
        bounds = (np.float32(low), np.float32(high)) * 2
        return op.fake_quantize(node, *bounds, levels)

    weights = np.random.default_rng(1).standard_normal((channels, channels, 3, 3))
    kernel = quantized(op.constant(weights.astype(np.float32)), -3, 3, 255)
    data = op.parameter([_BATCH, channels, side, side], np.float32)
    node = data
    for _ in range(_CHAIN):
        node = op.convolution(quantized(node, 0, 6, 256), kernel, [1, 1], [1, 1], [1, 1], [1, 1])
        node = op.relu(node)
    return ov.Model([op.reduce_max(node, [0, 1, 2, 3])], [data])
