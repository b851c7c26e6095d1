"""Which range rule a network is quantized by: the one whose engine drifts least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pkecho_edge.calibration.plan import QuantizationPlan
from pkecho_edge.calibration.rule import RULES, RangeRule
from pkecho_edge.errors import UsageError
from pkecho_edge.stages import Observer
from pkecho_edge.tuning.workbench import Trial, Workbench

__all__ = ["choose_rule", "rules_of"]

AUTO = "auto"


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
