"""The report: what was measured, on what, by which rules, and whether it holds.

`report.json` is the report; the table shows the same document, so the two cannot disagree. Keys
that outside tools may rely on: `schema`, `verdict`, `gates[] {name, mode, limit, value, unit,
pass}`, `modes.clip` and `modes.stream`, each with `accuracy {n_clips, n_patients, baseline,
engine, drift, agreement}` and `speed {baseline, engine, speedup}`, `modes.stream.live` and
`live_long {n_sequences, n_patients, slope, flicker, ed_es_shift, curve[]}`, `machine`, `lineage`. A
mode that was not measured is absent; a value that was not measured is null.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from pkecho_edge.errors import EnvironmentMismatch, UnusableInput, UsageError
from pkecho_edge.files import write_atomically
from pkecho_edge.verify.accuracy import AccuracyResult
from pkecho_edge.verify.document import ModeResult, conventions, mode_document, strict_json
from pkecho_edge.verify.gates import DEFAULT_LIMITS, Gate, Verdict, evaluate_gates, verdict
from pkecho_edge.verify.live import LiveResult
from pkecho_edge.verify.speed import CV_LIMIT, SpeedResult
from pkecho_edge.verify.table import document_table

__all__ = ["REPORT_SCHEMA", "SYNTHETIC_NOTE", "ModeResult", "Report", "build_report"]
__all__ += ["read_report", "render_table", "write_report", "write_whole"]

REPORT_SCHEMA = "pkecho-edge/report/1"

SYNTHETIC_NOTE = "measured on synthetic clips (phantom): synthetic DSC is not clinical DSC"

SMALL_CALIBRATION_CLIPS = 30
"""300 frames, what post-training quantization toolkits take by default."""

FEW_PATIENTS = 20
"""Below it, percentile intervals over patients are somewhat too narrow."""


@dataclass(frozen=True)
class Report:
    """A finished verification.

    Attributes:
        modes: "clip" and/or "stream" -> what was measured.
        gates: of every mode.
        machine: as `machine_facts()`.
        lineage: what was verified: hashes, tool versions, configuration (JSON-ready).
        warnings: one sentence each.
        created: UTC, ISO 8601.
    """

    modes: Mapping[str, ModeResult]
    gates: tuple[Gate, ...]
    machine: Mapping[str, object]
    lineage: Mapping[str, object]
    warnings: tuple[str, ...] = ()
    created: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )

    @property
    def verdict(self) -> Verdict:
        """The worst gate."""
        return verdict(self.gates)

    def to_dict(self) -> dict[str, Any]:
        """The document of report.json: strict JSON values only, nan and infinity as None.

        Raises:
            TypeError: the machine or the lineage holds something that JSON does not know.
        """
        return deepcopy(self._document)

    @cached_property
    def _document(self) -> dict[str, Any]:
        """Made once for file, page and table: every subgroup's intervals are resampled for it."""
        document = {
            "schema": REPORT_SCHEMA,
            "created": self.created,
            "verdict": self.verdict,
            "gates": [gate.to_dict() for gate in self.gates],
            "warnings": self.warnings,
            "conventions": conventions(against="against" in self.lineage),
            "modes": {
                name: mode_document(mode, self._limits(name)) for name, mode in self.modes.items()
            },
            "machine": self.machine,
            "lineage": self.lineage,
        }
        strict: dict[str, Any] = strict_json(document)
        return strict

    def _limits(self, mode: str) -> dict[str, float]:
        """The limits of this mode's gates over the default ones."""
        held = {gate.name: gate.limit for gate in self.gates if gate.mode == mode}
        return {**DEFAULT_LIMITS, **held}

    def to_json(self) -> str:
        """`to_dict` as text, in ASCII, with a newline at the end."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"


def build_report(
    modes: Mapping[str, ModeResult],
    machine: Mapping[str, object],
    lineage: Mapping[str, object],
    *,
    limits: Mapping[str, float] = DEFAULT_LIMITS,
    calibration_clips: int | None = None,
    warnings: tuple[str, ...] = (),
) -> Report:
    """Judge what was measured and note what a reader should doubt.

    Args:
        modes: "clip" and/or "stream" -> what was measured; leave out a mode that was not.
        machine, lineage: see Report.
        limits: as `load_gates`.
        calibration_clips: how many clips set the INT8 ranges; None where none did.
        warnings: of the caller, put first.

    Raises:
        UsageError: a limit that is no gate's.
    """
    gates = tuple(
        gate
        for name, mode in modes.items()
        for gate in evaluate_gates(
            name, mode.accuracy, mode.speed, limits, mode.live, mode.not_timed
        )
    )
    found = list(warnings)
    if calibration_clips is not None and calibration_clips < SMALL_CALIBRATION_CLIPS:
        found.append(
            f"small calibration set: {calibration_clips} clips set the INT8 ranges, "
            f"{SMALL_CALIBRATION_CLIPS} or more are usual"
        )
    for name, mode in modes.items():
        if mode.accuracy is not None:
            found += [f"{name}: {text}" for text in _accuracy_warnings(mode.accuracy)]
        for live in (mode.live, mode.live_long):
            if live is not None and live.n_beats_lost:
                found.append(f"{name}: {_lost_beats_warning(live)}")
        if mode.speed is not None and mode.speed.noisy:
            found.append(f"{name}: {_noise_warning(mode.speed)}")
    return Report(modes, gates, machine, lineage, tuple(found))


def _accuracy_warnings(accuracy: AccuracyResult) -> list[str]:
    """What weakens the accuracy figures, most general first."""
    warnings = []
    rows, drift = accuracy.rows, accuracy.drift
    if any(row.source == "phantom" for row in rows):
        warnings.append(SYNTHETIC_NOTE)
    if 0 < drift.dsc.n_patients < FEW_PATIENTS:
        warnings.append(
            f"{drift.dsc.n_patients} patients with ground truth: intervals are somewhat narrow "
            f"below {FEW_PATIENTS}"
        )
    for name, summary in (("DSC", drift.dsc), ("EF", drift.ef), ("HD95 and ASD", drift.hd95)):
        if summary.n_clips < accuracy.n_clips:
            warnings.append(f"{name} drift covers {summary.n_clips} of {accuracy.n_clips} clips")
    undefined = sum(row.undefined_distances for row in rows)
    if undefined:
        warnings.append(f"{undefined} labelled frames have no HD95 and ASD: a mask is empty")
    nonfinite = sum(row.nonfinite_engine > 0 for row in rows)
    if nonfinite:
        warnings.append(f"the engine gave nan or infinite logits on {nonfinite} clips")
    return warnings


def _lost_beats_warning(live: LiveResult) -> str:
    return (
        f"the engine has no ED and ES in {live.n_beats_lost} of {live.n_beats} beats of the "
        "baseline; the others make up the mean shift"
    )


def _noise_warning(speed: SpeedResult) -> str:
    return (
        f"noisy timing: coefficient of variation {100 * speed.baseline.cv:.1f} % (baseline), "
        f"{100 * speed.engine.cv:.1f} % (engine), above {100 * CV_LIMIT:g} %; "
        "repeat on an idle machine"
    )


def write_report(report: Report, path: Path) -> None:
    """Write report.json beside its final place and rename it when whole.

    The folder must exist. On an error nothing is left behind and an older report stays.

    Raises:
        UsageError: the file cannot be written there.
        TypeError: as `Report.to_dict`.
    """
    write_whole(path, report.to_json().encode("ascii"))


def write_whole(path: Path, content: bytes) -> None:
    """Write one file of a report into a folder that exists, whole or not at all.

    Raises:
        UsageError: the file cannot be written there.
    """
    try:
        if not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        write_atomically(path, content)
    except OSError as error:
        raise UsageError(
            f"cannot write the report: {error.strerror}", path=path, remedy="Choose another --out"
        ) from error


def read_report(path: Path) -> dict[str, Any]:
    """The document of a report.json.

    Raises:
        UnusableInput: it cannot be read or is not a report.
        EnvironmentMismatch: it is a report of another schema version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableInput(
            f"cannot read the report: {error}", path=path, remedy="Run `pkecho-edge verify` again"
        ) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or not schema.startswith("pkecho-edge/report/"):
        raise UnusableInput("this is not a report", path=path, remedy="Give a report.json")
    if schema != REPORT_SCHEMA:
        raise EnvironmentMismatch(
            f"the report is {schema}, this version reads {REPORT_SCHEMA}",
            path=path,
            remedy="Run `pkecho-edge verify` again",
        )
    return dict(document)


def render_table(report: Report | Mapping[str, Any]) -> RenderableType:
    """The report as tables for a terminal, at most 100 columns wide, readable without colour.

    Args:
        report: a Report or the document of one, as `read_report` returns it.
    """
    return document_table(report.to_dict() if isinstance(report, Report) else report)
