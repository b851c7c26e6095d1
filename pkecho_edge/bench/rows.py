"""A benchmark's rows: the keys that outside tools may rely on, whatever the command."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pkecho_edge.verify.speed import CV_LIMIT, summarize_latency

__all__ = ["EAGER", "OURS", "BenchRow", "make_row", "noisy"]

EAGER = "PyTorch eager"
OURS = "pkecho-edge, cpu"
"""The engines that more than one benchmark has."""


@dataclass(frozen=True)
class BenchRow:
    """One engine's figures in one use.

    Attributes:
        engine: whose, in words.
        mode: "clip", whole clips one after the other; "stream", one push per new frame; "sliding",
            a clip engine that segments the last T frames anew for every new frame.
        backbone: for example "resnet18".
        size: (H, W).
        precision: "f32", "bf16", "int8 + f32" (layers that stay in float), ...
        fps: frames of a clip per second; for "stream" and "sliding" results per second.
        latency_ms_p50, latency_ms_p99: per call, in milliseconds.
        cv: standard deviation / mean of the calls; nan for one call.
        ratio_to_eager: fps over PyTorch eager's on clips in FP32; None where that was not timed.
    """

    engine: str
    mode: str
    backbone: str
    size: tuple[int, int]
    precision: str
    fps: float
    latency_ms_p50: float
    latency_ms_p99: float
    cv: float
    ratio_to_eager: float | None

    def to_dict(self) -> dict[str, object]:
        """JSON-ready: the cv of a single call is None."""
        return {**asdict(self), "cv": None if math.isnan(self.cv) else self.cv}


def make_row(
    engine: str,
    mode: str,
    backbone: str,
    size: tuple[int, int],
    precision: str,
    latencies: list[int],
    results_per_call: int,
    eager_fps: float | None = None,
) -> BenchRow:
    """A row from the nanoseconds of an engine's calls.

    Args:
        results_per_call: T for "clip", 1 for "stream" and "sliding".
        eager_fps: of PyTorch eager on clips.
    """
    timing = summarize_latency(latencies, results_per_call)
    return BenchRow(
        engine=engine,
        mode=mode,
        backbone=backbone,
        size=size,
        precision=precision,
        fps=timing.fps,
        latency_ms_p50=timing.latency_ms_p50,
        latency_ms_p99=timing.latency_ms_p99,
        cv=timing.cv,
        ratio_to_eager=None if eager_fps is None else timing.fps / eager_fps,
    )


def noisy(rows: Sequence[BenchRow]) -> list[BenchRow]:
    """Those whose timing varies by more than CV_LIMIT, or of which nobody knows."""
    return [row for row in rows if not row.cv <= CV_LIMIT]
