"""Which range rule a network is quantized by: the one whose engine drifts least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.calibration.rule import RULES, RangeRule
from pkecho_edge.errors import UsageError
from pkecho_edge.stages import Observer
from pkecho_edge.tuning.restore import RestoreReport, all_layers, quantized_layers, restore
from pkecho_edge.tuning.workbench import Trial, Workbench

__all__ = ["AUTO", "ChosenPlan", "QuantizationOrder", "check_layers", "choose_plan"]
__all__ += ["choose_rule", "rules_of"]

AUTO = "auto"


@dataclass(frozen=True)
class QuantizationOrder:
    """What is asked of quantization.

    Attributes:
        scheme: its name; None for the target's.
        rules: to choose from by measured drift; with one there is nothing to choose.
        restore: whether layers return to float where an accuracy gate fails.
        float_layers: layers that stay in float in any case.
    """

    scheme: str | None = None
    rules: tuple[RangeRule, ...] = RULES
    restore: bool = True
    float_layers: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "scheme": self.scheme,
            "rules": [rule.name for rule in self.rules],
            "restore": self.restore,
            "float_layers": sorted(self.float_layers),
        }


@dataclass(frozen=True)
class ChosenPlan:
    """How a network is quantized, and what led to it.

    Attributes:
        plan: the choice.
        trials: of the rules, the best first; empty where there was nothing to choose.
        restoring: what was restored; None where it was not asked for.
        clips: how many clips that was measured on.
    """

    plan: QuantizationPlan
    trials: tuple[Trial, ...]
    restoring: RestoreReport | None
    clips: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **self.plan.as_dict(),
            "trial_clips": self.clips,
            "trials": [trial.as_dict() for trial in self.trials],
            "restoring": None if self.restoring is None else self.restoring.as_dict(),
        }

    def note(self) -> str:
        """One line for people."""
        parts = [f"rule {self.plan.rule.name}"]
        if self.trials:
            best = self.trials[0].pixel_disagreement
            parts.append(f"best of {len(self.trials)}, {best:.3f} % of pixels differ")
        if self.restoring is not None and self.restoring.restored:
            names = ", ".join(layer.layer for layer in self.restoring.restored)
            parts.append(f"back to float: {names}")
        if self.restoring is not None and self.restoring.failed_after:
            parts.append("gates still fail")
        return "; ".join(parts)


def choose_plan(
    bench: Workbench,
    scheme: str,
    order: QuantizationOrder,
    limits: Mapping[str, float],
    observer: Observer,
) -> ChosenPlan:
    """The rule with the least drift, then layers back to float until the accuracy gates pass.

    Args:
        bench: with the clips to measure on.
        scheme: of the target, where the order names none.
        order: what is asked.
        limits: of the gates.
        observer: hears about each measurement.

    Raises:
        UsageError: a layer to keep in float that there is not, or nothing left to quantize.
    """
    plan = QuantizationPlan(order.scheme or scheme, order.rules[0], order.float_layers)
    check_layers(bench, order.float_layers)
    if not quantized_layers(bench, plan):
        raise UsageError("every layer is kept in float", remedy="Leave one to quantize")
    trials: tuple[Trial, ...] = ()
    if len(order.rules) > 1:
        trials = choose_rule(bench, plan, order.rules, observer)
        plan = trials[0].plan
    restoring = restore(bench, plan, limits, observer) if order.restore else None
    return ChosenPlan(
        plan if restoring is None else restoring.plan, trials, restoring, len(bench.clips)
    )


def check_layers(bench: Workbench, names: Sequence[str]) -> None:
    """Raise UsageError on a layer that there is not."""
    known = all_layers(bench)
    for name in names:
        if name not in known:
            raise UsageError(f"there is no layer {name!r}", remedy=f"Use one of {', '.join(known)}")


def rules_of(name: str) -> tuple[RangeRule, ...]:
    """The rules to choose from: all of RULES for "auto", else the one of that name.

    Raises:
        UsageError: it is no rule.
    """
    return RULES if name == AUTO else (RangeRule.parse(name),)


def choose_rule(
    bench: Workbench,
    plan: QuantizationPlan,
    rules: Sequence[RangeRule],
    observer: Observer,
) -> tuple[Trial, ...]:
    """Try each rule on the compiled engine.

    Args:
        bench: with the clips to measure on.
        plan: whose scheme and float layers hold for all.
        rules: to try, at least one.
        observer: hears about each trial.

    Returns:
        the trials, the best first; of equals the earlier rule.

    Raises:
        UsageError: no rules.
    """
    if not rules:
        raise UsageError("no range rule to choose from", remedy="Name one, or auto")
    trials = []
    for rule in rules:
        trials.append(bench.trial(replace(plan, rule=rule)))
        observer.advance()
    return tuple(sorted(trials, key=lambda trial: trial.badness))
