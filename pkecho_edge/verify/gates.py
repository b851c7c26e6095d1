"""Limits on drift, agreement and speed, and what follows from them.

A gate passes only on a number that was measured and holds the limit. What could not be measured
is null, whatever the limit; what came out as nan or infinite never passes. The verdict is the
worst gate: any false one is "fail", else any null one "incomplete", else "pass".
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeGuard

from pkecho_edge.errors import (
    AccuracyGateFailed,
    PkechoEdgeError,
    SpeedGateFailed,
    UsageError,
    VerificationIncomplete,
)
from pkecho_edge.verify.accuracy import AccuracyResult, Summary
from pkecho_edge.verify.live import LiveResult
from pkecho_edge.verify.speed import SpeedResult

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["AGAINST_LIMITS", "AT_LEAST", "DEFAULT_LIMITS", "LIVE_GATES", "MIN_PATIENTS"]
__all__ += ["OPTIONAL_LIMITS", "UNITS", "Gate", "Verdict", "check_gates", "evaluate_gates"]
__all__ += ["exit_code", "limits_of_mode", "load_gates", "verdict"]

Verdict: TypeAlias = Literal["pass", "fail", "incomplete"]

DEFAULT_LIMITS: Mapping[str, float] = {
    "dsc_drift": 0.5,
    "dsc_drift_worst_clip": 2.0,
    "hd95_drift": 1.0,
    "ef_drift": 1.0,
    "speedup": 1.0,
}
"""Gate -> limit: DSC and EF in points and HD95 in pixels, at most; speedup as a factor, at least.

Overlap, border and volume fail in different ways: a stray speck costs no DSC, a ventricle cut short
no HD95 to speak of, and both may leave EF alone. So none stands for the others.
"""

AGAINST_LIMITS: Mapping[str, float] = {**DEFAULT_LIMITS, "speedup": 0.9}
"""Where another bundle stands for the baseline: two engines may well be equally fast, and a tenth
is what a quiet machine may be off."""

OPTIONAL_LIMITS = ("agreement_dsc", "pixel_disagreement", "flicker", "ed_es_shift")
"""Gates that exist only where a gates file names them, each on a mean: DSC of the engine against
the baseline in percent, at least; pixels that differ, flicker and shift of ED and ES, at most."""

LIVE_GATES = frozenset({"flicker", "ed_es_shift"})
"""Gates of consecutive frames: a recorded clip has none, so they are of mode "stream" alone."""

UNITS: Mapping[str, str] = {
    "dsc_drift": "points",
    "dsc_drift_worst_clip": "points",
    "hd95_drift": "px",
    "ef_drift": "points",
    "speedup": "x",
    "agreement_dsc": "%",
    "pixel_disagreement": "% of pixels",
    "flicker": "% of pixels",
    "ed_es_shift": "frames",
}
"""Gate -> unit of its limit and its value; px are pixels at the network's size."""

MIN_PATIENTS = 4
"""Fewest patients for a gate on an interval. With three, all three draws of a resample hit the
worst patient in 1/27 = 3.7 % of cases, more than the 2.5 % beyond the interval's end: the "95 %
interval" would just be the range of the data."""

_SETTINGS = ("compile", "prune", "tune")
"""Tables of a settings file, which may hold the gates beside them."""

_NO_TRUTH = "no clip with ground truth"
_SPEED_GATES = frozenset({"speedup"})
AT_LEAST = frozenset({"speedup", "agreement_dsc"})
"""Gates whose value must not be below the limit; of all others it must not be above."""


@dataclass(frozen=True)
class Gate:
    """One limit and what came of it.

    Attributes:
        name: "finite_logits", or one of DEFAULT_LIMITS and OPTIONAL_LIMITS.
        mode: "clip" or "stream".
        limit, value, unit: the value is None where it could not be measured.
        passed: True, False, or None where it could not be measured; "pass" in the report.
        reason: why it is None, or why it is False without a value; else "".

    Raises:
        ValueError: a gate that passes without a finite value.
    """

    name: str
    mode: str
    limit: float
    value: float | None
    unit: str
    passed: bool | None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.passed and (self.value is None or not math.isfinite(self.value)):
            raise ValueError(f"gate {self.name} cannot pass on the value {self.value}")

    @property
    def is_speed(self) -> bool:
        return self.name in _SPEED_GATES

    @property
    def relation(self) -> str:
        """How a passing value stands to the limit: "<=" or ">="."""
        return ">=" if self.name in AT_LEAST else "<="

    def to_dict(self) -> dict[str, object]:
        """The report's entry: `name`, `mode`, `limit`, `value`, `unit`, `pass`, `reason`."""
        return {
            "name": self.name,
            "mode": self.mode,
            "limit": self.limit,
            "value": self.value,
            "unit": self.unit,
            "pass": self.passed,
            "reason": self.reason,
        }

    def __str__(self) -> str:
        """For example "dsc_drift (clip) 0.82 points, limit <= 0.5"."""
        value = "not measured" if self.value is None else f"{self.value:.3g} {self.unit}"
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.name} ({self.mode}) {value}, limit {self.relation} {self.limit:g}{reason}"


def evaluate_gates(
    mode: str,
    accuracy: AccuracyResult | None,
    speed: SpeedResult | None,
    limits: Mapping[str, float] = DEFAULT_LIMITS,
    live: LiveResult | None = None,
    not_timed: str = "not timed",
) -> tuple[Gate, ...]:
    """Every gate of one mode, in a fixed order; none is left out because it was not measured.

    Args:
        mode: "clip" or "stream".
        accuracy, speed, live: what was measured; None gives null gates.
        limits: gate -> limit, as DEFAULT_LIMITS or `load_gates`.
        not_timed: the reason where there is no speed.

    Raises:
        UsageError: a name that is no gate, or a limit that is not a number >= 0.
    """
    check_limits(limits)
    gates = []
    for name, limit in limits_of_mode(mode, {**DEFAULT_LIMITS, **limits}).items():
        gate = _gate(name, mode, limit, *_measured(name, accuracy, speed, live, not_timed))
        gates.append(_fail_lost(gate, accuracy, live))
    return (_finite_logits_gate(mode, accuracy), *gates)


def limits_of_mode(mode: str, limits: Mapping[str, float]) -> dict[str, float]:
    """The limits that a mode is held to, in the same order."""
    return {
        name: limit for name, limit in limits.items() if mode == "stream" or name not in LIVE_GATES
    }


def _gate(name: str, mode: str, limit: float, value: float, reason: str) -> Gate:
    unit = UNITS[name]
    if reason or not math.isfinite(value):
        return Gate(name, mode, limit, None, unit, None, reason or "the value is not a number")
    passed = value >= limit if name in AT_LEAST else value <= limit
    return Gate(name, mode, limit, value, unit, passed)


def _measured(
    name: str,
    accuracy: AccuracyResult | None,
    speed: SpeedResult | None,
    live: LiveResult | None,
    not_timed: str,
) -> tuple[float, str]:
    """A gate's value and, where there is no value, the reason."""
    if name == "speedup":
        return (math.nan, not_timed) if speed is None else (speed.speedup, "")
    if name in LIVE_GATES:
        if live is None:
            return math.nan, "live behaviour was not measured"
        if name == "flicker":
            return _mean(live.flicker, "no sequence of two frames")
        return _mean(live.ed_es_shift, "no sequence in which both sides have an ED and an ES")
    if accuracy is None:
        return math.nan, "accuracy was not measured"
    drift, agreement = accuracy.drift, accuracy.agreement
    if name == "agreement_dsc":
        return _mean(agreement.dsc, "no clips")
    if name == "pixel_disagreement":
        return _mean(agreement.pixel_disagreement, "no clips")
    if name == "ef_drift":
        return _worse_end(drift.ef, drift.ef.high, "no clip with an EF on both sides")
    if name == "hd95_drift":
        return _worse_end(
            drift.hd95_px, drift.hd95_px_worse_end, "no frame with an HD95 on both sides"
        )
    if name == "dsc_drift_worst_clip":
        return drift.dsc.worst, "" if drift.dsc.n_clips else _NO_TRUTH
    return _worse_end(drift.dsc, drift.dsc.high, _NO_TRUTH)


def _mean(summary: Summary, none: str) -> tuple[float, str]:
    """The mean, or why there is none."""
    return summary.mean, "" if summary.n_clips else none


def _worse_end(summary: Summary, end: float, none: str) -> tuple[float, str]:
    """The end of an interval at which the engine is worse, or why there is none."""
    if not summary.n_clips:
        return math.nan, none
    if summary.n_patients < MIN_PATIENTS:
        return math.nan, f"{summary.n_patients} patients, an interval needs {MIN_PATIENTS}"
    return end, ""


def _fail_lost(gate: Gate, accuracy: AccuracyResult | None, live: LiveResult | None) -> Gate:
    """What only the engine cannot give is a loss, not a missing measurement."""
    reason = ""
    if gate.name == "ef_drift" and accuracy is not None and accuracy.n_ef_lost:
        reason = f"the engine gives no EF on {accuracy.n_ef_lost} clips where the baseline does"
    if gate.name == "ed_es_shift" and live is not None and live.n_beats_lost:
        reason = f"the engine has no ED and ES in {live.n_beats_lost} beats of the baseline"
    return replace(gate, passed=False, reason=reason) if reason else gate


def _finite_logits_gate(mode: str, accuracy: AccuracyResult | None) -> Gate:
    """Clips on which the engine gave a nan or an infinity; the limit is none, always."""
    name, unit = "finite_logits", "clips with nan or inf"
    if accuracy is None or not accuracy.rows:
        return Gate(name, mode, 0.0, None, unit, None, "no clips")
    bad = sum(row.nonfinite_engine > 0 for row in accuracy.rows)
    return Gate(name, mode, 0.0, float(bad), unit, bad == 0)


def verdict(gates: Iterable[Gate]) -> Verdict:
    """Any false gate: "fail"; else any null one, or no gate at all: "incomplete"; else "pass"."""
    results = [gate.passed for gate in gates]
    if any(passed is False for passed in results):
        return "fail"
    return "pass" if results and all(results) else "incomplete"


def exit_code(gates: Iterable[Gate]) -> int:
    """0 passed, 3 an accuracy gate failed, 4 only speed gates failed, 8 incomplete."""
    error = _error(tuple(gates))
    return 0 if error is None else error.exit_code


def check_gates(
    gates: Iterable[Gate], *, path: Path | None = None, allow_incomplete: bool = False
) -> None:
    """Return on "pass", raise on anything else.

    Args:
        gates: of every mode.
        path: the report, named in the error.
        allow_incomplete: return on null gates too, as `compile` does.

    Raises:
        AccuracyGateFailed: an accuracy gate is false, whatever the speed gates say.
        SpeedGateFailed: only speed gates are false.
        VerificationIncomplete: none is false but one is null, or there is none.
    """
    error = _error(tuple(gates), path)
    if error is None or (allow_incomplete and isinstance(error, VerificationIncomplete)):
        return
    raise error


def _error(gates: tuple[Gate, ...], path: Path | None = None) -> PkechoEdgeError | None:
    failed = [gate for gate in gates if gate.passed is False]
    what = "; ".join(str(gate) for gate in failed)
    if any(not gate.is_speed for gate in failed):
        return AccuracyGateFailed(
            f"accuracy gate failed: {what}",
            path=path,
            remedy="Calibrate on more clips, or compile without --no-restore",
        )
    if failed:
        return SpeedGateFailed(
            f"speed gate failed: {what}",
            path=path,
            remedy="Repeat on an idle machine, then choose another precision or target",
        )
    if verdict(gates) == "pass":
        return None
    missing = "; ".join(str(gate) for gate in gates if gate.passed is None) or "no gates"
    return VerificationIncomplete(
        f"verification incomplete: {missing}",
        path=path,
        remedy="Give clips with ground truth from enough patients, and time the engine",
    )


def load_gates(path: Path) -> dict[str, float]:
    """The limits of a TOML file's `[gates]` table over the default ones.

    A gate that the file does not name keeps its default limit; none can be switched off.

    Raises:
        UsageError: no such file, not TOML, no `[gates]` table, anything beside it but the tables
            of a settings file, a name that is no gate, or a limit that is not a number >= 0.
    """
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # not TOML, or too deep or long for it
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot read the gates: {reason}", path=path, remedy="Give a TOML file with [gates]"
        ) from error
    table = document.get("gates")
    if not isinstance(table, dict) or not document.keys() <= {"gates", *_SETTINGS}:
        raise UsageError(
            f"the file holds {sorted(document) or 'nothing'}, not one [gates] table",
            path=path,
            remedy="Write the limits under [gates], for example dsc_drift = 0.5",
        )
    check_limits(table, path)
    return {**DEFAULT_LIMITS, **{name: float(limit) for name, limit in table.items()}}


def check_limits(limits: Mapping[str, object], path: Path | None = None) -> None:
    """Raise UsageError on a name that is no gate or a limit that is not a number >= 0."""
    known = (*DEFAULT_LIMITS, *OPTIONAL_LIMITS)
    for name, limit in limits.items():
        if name not in known:
            raise UsageError(f"{name!r} is no gate", path=path, remedy=f"Use {', '.join(known)}")
        if not _is_number(limit) or not 0 <= limit <= sys.float_info.max:  # false for nan, too
            raise UsageError(
                f"the limit of {name} is not a finite number >= 0",
                path=path,
                remedy="Give one, for example 0.5",
            )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
