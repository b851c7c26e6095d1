"""Which engine is the best inside a budget: candidates, what they were measured at, the choice.

Nothing here measures or writes: what was measured comes in, what follows from it goes out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pkecho_edge.errors import UsageError

__all__ = ["Budget", "Candidate", "Choice", "Quantization", "Scored", "check_ratios", "choose"]
__all__ += ["closest", "judged", "pareto_front", "shortfall"]

Quantization: TypeAlias = Literal["int8", "mixed", "float"]
"""All in INT8; INT8 with layers back in float, as many as the gates want; float."""

_QUANTIZATIONS = {"int8": "INT8", "mixed": "mixed", "float": "float"}


@dataclass(frozen=True)
class Budget:
    """What an engine may cost in accuracy, and how fast it must be at least.

    Attributes:
        max_dsc_drop: DSC drift in points, held against the upper end of its 95 % interval.
        max_ef_drift: EF drift in points, held against the same end.
        min_fps: frames per second; None for any.

    Raises:
        UsageError: a limit that is not a number above 0.
    """

    max_dsc_drop: float = 0.5
    max_ef_drift: float = 1.0
    min_fps: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_dsc_drop", "max_ef_drift", "min_fps"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:  # false for NaN, too
                raise UsageError(
                    f"{name.replace('_', '-')} is {value:g}", remedy="Give a number above 0"
                )

    def __str__(self) -> str:
        """For example "DSC drift up to 0.5 and EF drift up to 1 points, 60 frames/s at least"."""
        speed = "" if self.min_fps is None else f", {self.min_fps:g} frames/s at least"
        return (
            f"DSC drift up to {self.max_dsc_drop:g} and EF drift up to {self.max_ef_drift:g} "
            f"points{speed}"
        )


@dataclass(frozen=True)
class Candidate:
    """One engine that might be built.

    Attributes:
        ratio: share of the GMACs that is pruned away first; 0 for none.
        given: a checkpoint that was pruned elsewhere, instead.
        quantization: "float" leaves the smallest layer in INT8 where a target quantizes at all,
            because a build quantizes one at least.
        float_precision: of the layers that are not INT8.
    """

    ratio: float = 0.0
    given: Path | None = None
    quantization: Quantization = "int8"
    float_precision: str = "f32"

    @property
    def network(self) -> str:
        """ "unpruned", "-80 %", or the given file's name without its ending."""
        if self.given is not None:
            return self.given.stem
        return f"-{100 * self.ratio:g} %" if self.ratio else "unpruned"

    @property
    def label(self) -> str:
        """For people, for example "-80 % INT8/bf16"."""
        return f"{self.network} {_QUANTIZATIONS[self.quantization]}/{self.float_precision}"


@dataclass(frozen=True)
class Scored:
    """A candidate and what came of it; figures are nan where there are none.

    Attributes:
        candidate: which.
        gmacs: of a clip.
        dsc_drift: points against the baseline, mean over the trial clips.
        dsc_drift_high: upper end of its 95 % interval.
        ef_drift: points, upper end of the 95 % interval of its mean.
        hd95_drift: pixels, the end of that interval at which the engine is worse.
        fps: of the latest run in which all engines took turns; None before the first.
        float_layers: that stay in float.
        faults: what no limit allows: logits that are not finite, an EF that only the engine lacks.
        failed: why there is no such engine; "" where there is one.
        ruled_out: what verification said against it; "" where nothing.
        breaks: lines of the budget that it breaks, for people; see `judged`.
    """

    candidate: Candidate
    gmacs: float = math.nan
    dsc_drift: float = math.nan
    dsc_drift_high: float = math.nan
    ef_drift: float = math.nan
    hd95_drift: float = math.nan
    fps: float | None = None
    float_layers: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    failed: str = ""
    ruled_out: str = ""
    breaks: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether it has both a speed and a drift."""
        return not self.failed and self.fps is not None and math.isfinite(self.dsc_drift_high)

    @property
    def inside(self) -> bool:
        """Whether it may be chosen."""
        return self.measured and not (self.breaks or self.ruled_out)

    @property
    def against(self) -> str:
        """All that speaks against it, for people; "" where nothing does."""
        out = f"verification: {self.ruled_out}" if self.ruled_out else ""
        return self.failed or "; ".join(filter(None, (*self.breaks, out)))

    def figures(self) -> str:
        """For people: "431 frames/s, DSC drift up to 0.21, EF drift up to 0.40 points"."""
        speed = "not timed" if self.fps is None else f"{self.fps:.0f} frames/s"
        return (
            f"{speed}, DSC drift up to {self.dsc_drift_high:.2f}, "
            f"EF drift up to {self.ef_drift:.2f} points"
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; what is no number is None."""
        candidate = self.candidate
        found = {name: value for name, value in asdict(self).items() if name != "candidate"}
        return {
            "label": candidate.label,
            "network": candidate.network,
            "ratio": None if candidate.given else candidate.ratio,
            "quantization": candidate.quantization,
            "float_precision": candidate.float_precision,
            **{
                name: list(value)
                if isinstance(value, tuple)
                else None
                if isinstance(value, float) and not math.isfinite(value)
                else value
                for name, value in found.items()
            },
        }


@dataclass(frozen=True)
class Choice:
    """The engine that is taken, and why; None where nothing meets the budget."""

    chosen: Scored | None
    reason: str


def check_ratios(ratios: Sequence[float]) -> tuple[float, ...]:
    """Pruning ratios to try, each once, in ascending order.

    Raises:
        UsageError: none, or one that is not in [0, 1).
    """
    if not ratios:
        raise UsageError("no pruning ratio to try", remedy="Give for example 0,0.5,0.8")
    for ratio in ratios:
        if not 0 <= ratio < 1:  # false for NaN, too
            raise UsageError(
                f"pruning ratio {ratio:g} is not from 0 to below 1",
                remedy="0 is unpruned, 0.5 removes half of the GMACs",
            )
    return tuple(sorted(set(ratios)))


def judged(scored: Scored, budget: Budget) -> tuple[str, ...]:
    """The lines of a budget that a candidate breaks; none where it could not be measured at all."""
    if scored.failed:
        return ()
    found = list(scored.faults)
    for name, value, limit in (
        ("DSC drift", scored.dsc_drift_high, budget.max_dsc_drop),
        ("EF drift", scored.ef_drift, budget.max_ef_drift),
    ):
        if math.isnan(value):
            found.append(f"{name} not measured")
        elif value > limit:
            found.append(f"{name} {value:.3g} > {limit:g} points")
    if scored.fps is not None and budget.min_fps is not None and scored.fps < budget.min_fps:
        found.append(f"{scored.fps:.0f} < {budget.min_fps:g} frames/s")
    return tuple(found)


def shortfall(scored: Scored, budget: Budget) -> float:
    """How far outside a candidate is: the worst line's excess over its limit, 0.1 for a tenth.

    0 on or inside all of them; infinite where it was not measured, or has a fault.
    """
    if not scored.measured or scored.fps is None or scored.faults:
        return math.inf
    excess = [
        scored.dsc_drift_high / budget.max_dsc_drop - 1,
        scored.ef_drift / budget.max_ef_drift - 1,
    ]
    if budget.min_fps is not None:
        excess.append(budget.min_fps / scored.fps - 1)
    return math.inf if any(map(math.isnan, excess)) else max(0.0, *excess)


def choose(scored: Sequence[Scored], budget: Budget) -> Choice:
    """The fastest candidate inside the budget; of equally fast ones the one that drifts less.

    The reason names the next one, the fastest that is out, and all that verification ruled out.

    Args:
        scored: timed in one run; may be empty, of which nothing is chosen.
        budget: that `breaks` was judged by.
    """
    inside = sorted((s for s in scored if s.inside), key=_fastest_first)
    if not inside:
        return Choice(None, _nothing(scored, budget))
    best, *others = inside
    reason = [
        f"{best.candidate.label} is the fastest of {len(inside)} inside the budget ({budget}): "
        f"{best.figures()}"
    ]
    if others:
        reason.append(f"the next, {others[0].candidate.label}, gives {others[0].fps:.0f} frames/s")
    faster = sorted(
        (s for s in scored if s.measured and not s.inside and (s.fps or 0) > (best.fps or 0)),
        key=_fastest_first,
    )
    reason += [
        f"{each.candidate.label} is faster but out: {each.against}"
        for each in faster
        if each is faster[0] or each.ruled_out
    ]
    return Choice(best, "; ".join(reason))


def closest(scored: Sequence[Scored], budget: Budget) -> Scored | None:
    """The measured candidate with the least `shortfall`, of equals the fastest; None for none."""
    measured = [s for s in scored if s.measured]
    if not measured:
        return None
    return min(measured, key=lambda s: (shortfall(s, budget), *_fastest_first(s)))


def pareto_front(scored: Sequence[Scored]) -> tuple[Scored, ...]:
    """The measured candidates than which none is both faster and drifts less, the slowest first.

    Of equals the first; none of an empty list.
    """
    front: list[Scored] = []
    for each in sorted((s for s in scored if s.measured), key=_fastest_first):
        if not front or each.dsc_drift_high < front[-1].dsc_drift_high:
            front.append(each)
    return tuple(reversed(front))


def _fastest_first(scored: Scored) -> tuple[float, float]:
    return -(scored.fps or 0.0), scored.dsc_drift_high


def _nothing(scored: Sequence[Scored], budget: Budget) -> str:
    best = closest(scored, budget)
    if best is None:
        return f"nothing meets the budget ({budget}): no candidate could be measured"
    return (
        f"nothing meets the budget ({budget}); closest came {best.candidate.label} with "
        f"{best.figures()}: {best.against}"
    )
