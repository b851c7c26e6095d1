"""The paper's Table 2 here: cost, size and speed of the three backbones, beside its figures.

GMACs and parameters are properties of the network and must agree with the paper's. Speed is one of
the machine: the paper's is an RTX 3090's, ours that of PyTorch eager in FP32 wherever this runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.bench.networks import random_network
from pkecho_edge.bench.pytorch import use_threads
from pkecho_edge.bench.rows import EAGER
from pkecho_edge.bench.turns import take_turns
from pkecho_edge.data.sources import phantoms
from pkecho_edge.data.standard import TUNING_SEEDS
from pkecho_edge.model.baseline import baseline_runner
from pkecho_edge.model.network import count_gmacs, count_parameters
from pkecho_edge.stages import Observer
from pkecho_edge.verify.speed import summarize_latency

__all__ = ["PAPER", "PAPER_DEVICE", "PAPER_SIZE", "EfficiencyRow", "PaperRow", "measure_efficiency"]

PAPER_SIZE = (320, 320)
PAPER_DEVICE = "one RTX 3090"


@dataclass(frozen=True)
class PaperRow:
    """A backbone's row of the paper's Table 2, for a clip of 10 frames of PAPER_SIZE."""

    gmacs: float
    parameters_m: float
    fps: float


PAPER = {
    "resnet18": PaperRow(42, 11.7, 428),
    "resnet34": PaperRow(80, 21.8, 312),
    "resnet50": PaperRow(109, 25.7, 258),
}
"""Source: PKEcho-Net, Table 2. Its "Flops" are multiply-accumulates, as ours are."""


@dataclass(frozen=True)
class EfficiencyRow:
    """One backbone's figures here.

    Attributes:
        engine, mode, precision: always PyTorch eager on whole clips in FP32, the baseline.
        size: (H, W). threads: of PyTorch.
        gmacs: per clip of T frames, 10^9 multiply-accumulates, all refinements counted.
        parameters_m: trainable ones, in millions.
        fps: frames per second, T / median latency.
        latency_ms_p50, latency_ms_p99, cv: per clip; cv nan for a single round.
        ratio_to_eager: 1 by definition, as other benchmarks' rows have it.
        paper: its figures, whatever the size here.
    """

    backbone: str
    size: tuple[int, int]
    threads: int
    gmacs: float
    parameters_m: float
    fps: float
    latency_ms_p50: float
    latency_ms_p99: float
    cv: float
    paper: PaperRow
    engine: str = EAGER
    mode: str = "clip"
    precision: str = "f32"
    ratio_to_eager: float = 1.0

    def to_dict(self) -> dict[str, object]:
        """JSON-ready: the cv of a single round is None."""
        return {**asdict(self), "cv": None if math.isnan(self.cv) else self.cv}


def measure_efficiency(
    size: tuple[int, int], threads: int, rounds: int, observer: Observer, *, warmup: int = 3
) -> list[EfficiencyRow]:
    """Count and time the three backbones, turn by turn on one clip.

    Weights are random: neither cost nor dense FP32 speed depends on them.

    Args:
        size: (H, W) of the clip, multiples of 32.
        threads: of PyTorch; 0 leaves its own choice.
        rounds: timed calls of each backbone, at least 1.
        observer: hears about progress.
        warmup: untimed calls of each backbone first.

    Returns:
        one row per backbone, in the order of PAPER.

    Raises:
        UsageError: no round, or an impossible size.
    """
    import torch

    use_threads(threads)
    observer.start("count GMACs and parameters", None)
    frames = next(iter(phantoms(TUNING_SEEDS[:1], size))).frames  # u8 [T, 1, H, W]
    networks = {name: random_network(name) for name in PAPER}
    gmacs = {name: count_gmacs(network, size) for name, network in networks.items()}
    observer.done(", ".join(networks))
    observer.start("time turn by turn", rounds)
    calls = [_bind(baseline_runner(network), frames) for network in networks.values()]
    taken = take_turns(calls, rounds, block=1, warmup=warmup, advance=observer.advance)
    observer.done(f"{rounds} rounds")
    rows = []
    for (name, network), nanoseconds in zip(networks.items(), taken, strict=True):
        timing = summarize_latency(nanoseconds, len(frames))
        rows.append(
            EfficiencyRow(
                backbone=name,
                size=size,
                threads=torch.get_num_threads(),
                gmacs=gmacs[name],
                parameters_m=count_parameters(network) / 1e6,
                fps=timing.fps,
                latency_ms_p50=timing.latency_ms_p50,
                latency_ms_p99=timing.latency_ms_p99,
                cv=timing.cv,
                paper=PAPER[name],
            )
        )
    return rows


def _bind(
    run: Callable[[NDArray[np.uint8]], object], frames: NDArray[np.uint8]
) -> Callable[[], object]:
    return lambda: run(frames)
