"""How many calibration clips are enough: drift against the size of the set.

Each size is drawn several times from the same clips; each draw sets its own ranges, and its engine
is compared with the float one on clips that no draw holds. The sufficient size is the smallest
whose mean lies within the noise of the best mean: what is larger costs time, and with ranges that
grow with every clip may even cost accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pkecho_edge.calibration.activations import ClipActivations, merge_activations, observe
from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.errors import CalibrationError
from pkecho_edge.stages import Observer
from pkecho_edge.tuning.workbench import FloatGraph, Workbench

__all__ = ["Curve", "CurvePoint", "curve_sizes", "measure_curve"]


@dataclass(frozen=True)
class CurvePoint:
    """One size of the calibration set.

    Attributes:
        clips: how many.
        pixel_disagreement: percent of pixels that differ, one per draw.
    """

    clips: int
    pixel_disagreement: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the draws."""
        return float(np.mean(self.pixel_disagreement))

    @property
    def spread(self) -> float:
        """Sample standard deviation over the draws; 0 for one draw."""
        return float(np.std(self.pixel_disagreement, ddof=len(self.pixel_disagreement) > 1))


@dataclass(frozen=True)
class Curve:
    """Drift against size.

    Attributes:
        plan: by which every draw was quantized.
        points: the smallest set first.
        trial_clips: on how many clips drift was measured.
        draws: of each size but the largest, of which there is only one.
    """

    plan: QuantizationPlan
    points: tuple[CurvePoint, ...]
    trial_clips: int
    draws: int

    @property
    def noise(self) -> float:
        """What two draws of one size differ by: their standard deviations, root mean square."""
        spreads = [p.spread for p in self.points if len(p.pixel_disagreement) > 1]
        # small sets differ by what they lack, not by chance: the upper half of the sizes tells
        upper = spreads[len(spreads) // 2 :]
        return float(np.sqrt(np.mean(np.square(upper)))) if upper else 0.0

    @property
    def sufficient(self) -> int:
        """The smallest size whose mean lies above the best by no more than the noise."""
        limit = min(point.mean for point in self.points) + self.noise
        return next(point.clips for point in self.points if point.mean <= limit)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "schema": "pkecho-edge/calibration-curve/1",
            "plan": self.plan.as_dict(),
            "trial_clips": self.trial_clips,
            "draws": self.draws,
            "noise": self.noise,
            "sufficient": self.sufficient,
            "points": [{**asdict(p), "mean": p.mean, "spread": p.spread} for p in self.points],
        }


def curve_sizes(clips: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to `clips`, which is the last.

    Raises:
        CalibrationError: fewer than two clips: there is nothing to compare.
    """
    if clips < 2:
        raise CalibrationError(
            f"{clips} clips make no curve", remedy="Name a folder with more recordings"
        )
    sizes = [2**power for power in range(math.ceil(math.log2(clips)))]
    return (*sizes, clips)


def measure_curve(
    bench: Workbench,
    plan: QuantizationPlan,
    *,
    draws: int = 5,
    seed: int = 0,
    observer: Observer,
) -> Curve:
    """Drift of sets of 1, 2, 4, ... of the bench's calibration clips.

    Args:
        bench: its calibration clips are drawn from, its trial clips measured on.
        plan: scheme, rule and float layers of every draw. With smoothing all draws share the
            channel factors of the whole set.
        draws: of each size; at least one.
        seed: of the draws.
        observer: hears about each.

    Raises:
        CalibrationError: fewer than two clips.
    """
    sizes = curve_sizes(len(bench.calibration))
    graph = bench.smoothed(plan.rule.smoothing)
    observed = list(observe(graph, bench.calibration))
    observer.start("drift against size", draws * (len(sizes) - 1) + 1)
    points = []
    for size in sizes:
        found = []
        for chosen in _draws(observed, size, draws, seed):
            statistics = FloatGraph(graph, merge_activations(chosen))
            found.append(bench.with_statistics(plan.rule.smoothing, statistics).trial(plan))
            observer.advance()
        points.append(CurvePoint(size, tuple(trial.pixel_disagreement for trial in found)))
    curve = Curve(plan, tuple(points), len(bench.clips), draws)
    observer.done(f"{curve.sufficient} clips are enough")
    return curve


def _draws(
    observed: Sequence[ClipActivations], size: int, draws: int, seed: int
) -> Iterator[list[ClipActivations]]:
    """Different sets of one size; one for all clips."""
    for draw in range(draws if size < len(observed) else 1):
        chosen = np.random.default_rng((seed, size, draw)).permutation(len(observed))[:size]
        yield [observed[i] for i in sorted(chosen)]
