"""How figures are written, the same on the terminal and on the page.

A figure that was not measured is a dash, never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pkecho_edge.verify.gates import AT_LEAST

__all__ = ["METRICS", "NONE", "SHOWN", "Document", "answers", "beat_words", "call_words"]
__all__ += ["category_words", "data_words", "fine", "fine_interval", "gate_limit", "gate_value"]
__all__ += ["interval", "live_words", "machine_words", "margin_words", "memory_words", "number"]
__all__ += ["percentage", "short_machine_words", "signed"]

Document: TypeAlias = Mapping[str, Any]
"""Part of a report.json."""

NONE = "-"


def number(value: float | None, digits: int = 2) -> str:
    """For example "96.16"."""
    return NONE if value is None else f"{value:.{digits}f}"


def fine(value: float | None) -> str:
    """Small percentages: three significant digits, plainly, for example "0.00231"."""
    if value is None:
        return NONE
    digits = 2 if abs(value) >= 1 or not value else min(6, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, digits) + 0.0:.{digits}f}"


def fine_interval(summary: Document) -> str:
    """For example "0.0201..0.0360"."""
    if summary["low"] is None or summary["high"] is None:
        return NONE
    return f"{fine(summary['low'])}..{fine(summary['high'])}"


def signed(metric: str, value: float | None) -> str:
    """For example "+0.02"; EF drift is an absolute difference and has no sign."""
    if value is None or metric == "ef":
        return number(value)
    return f"{round(value, 2) + 0.0:+.2f}"  # never -0.00


def interval(metric: str, summary: Document) -> str:
    """For example "-0.01..+0.06"."""
    if summary["low"] is None or summary["high"] is None:
        return NONE
    return f"{signed(metric, summary['low'])}..{signed(metric, summary['high'])}"


def percentage(share: float | None) -> str:
    """0.126 -> "12.6", without the sign."""
    return number(None if share is None else 100 * share, 1)


def gate_limit(gate: Document) -> str:
    """For example "<= 0.5"."""
    return f"{'>=' if gate['name'] in AT_LEAST else '<='} {gate['limit']:g}"


def gate_value(gate: Document) -> str:
    """For example "0.0281 points"; "" where there is no value."""
    return "" if gate["value"] is None else f"{gate['value']:.3g} {gate['unit']}"


def data_words(mode: str, data: Document) -> str:
    """For example "12 clips of 6 patients (phantom, 320x320)"; a stream's are sequences."""
    sizes = [f"{height}x{width}" for height, width in data["image_sizes"]]
    details = ", ".join([*data["sources"], *sizes])
    what = "sequences" if mode == "stream" else "clips"
    words = f"{data['n_clips']} {what} of {data['n_patients']} patients"
    return f"{words} ({details})" if details else words


def call_words(mode: str, speed: Document, lineage: Document) -> str:
    """What is timed, for example "10 frames per call"; another bundle's stream is pushed, too."""
    if mode == "stream":
        whole = "" if "against" in lineage else " (baseline: whole window)"
        return f"one result per new frame{whole}"
    return f"{speed['frames_per_call']} frames per call"


def memory_words(speed: Document) -> str:
    """Sizes on disk and in memory, with what the latter counts."""
    size, peak = speed.get("engine_size_mb"), speed.get("peak_memory_mb")
    return (
        f"engine {number(size, 1)} MB on disk; peak memory {number(peak, 0)} MB "
        "(whole process, both sides)"
    )


def live_words(live: Document) -> str:
    """For example "8 sequences of 8 patients, 8000 frames"."""
    return (
        f"{live['n_sequences']} sequences of {live['n_patients']} patients, "
        f"{live['n_frames']} frames"
    )


def beat_words(live: Document) -> str:
    """How far ED and ES move, over what, and what was left out."""
    if live["ed_es_shift"]["mean"] is None:
        measured = "not measured"
    else:
        measured = (
            f"ED {number(live['ed_shift']['mean'])}, ES {number(live['es_shift']['mean'])} frames "
            f"on average, none in {number(live['unshifted'], 0)} % of sequences"
        )
    return (
        f"{measured} ({live['n_beats']} beats, {live['n_beats_lost']} lost by the engine; "
        f"{live['n_without_beat']} sequences without a beat)"
    )


def answers(document: Document) -> list[str]:
    """A sentence for each mode: how much faster, how much worse, on what.

    Args:
        document: of a report.json; a mode in which nothing was measured is passed over.
    """
    said = []
    for name, mode in document["modes"].items():
        parts = [*_faster(name, mode["speed"]), *_worse(mode["accuracy"])]
        if mode["data"] is not None:
            parts.append(f"on {data_words(name, mode['data'])}")
        if parts:
            said.append(f"{_ANSWERED.get(name, name)}: {', '.join(parts)}.")
    return said


_ANSWERED = {"clip": "Recorded clips", "stream": "Live stream"}


def _faster(name: str, speed: Document | None) -> list[str]:
    if speed is None or speed["speedup"] is None:
        return ["speed not measured"]
    what = "results" if name == "stream" else "frames"
    fps = number(speed["engine"]["fps"], 0)
    return [f"{number(speed['speedup'], 1)} times as fast as the baseline ({fps} {what}/s)"]


def _worse(accuracy: Document | None) -> list[str]:
    """Drift where there is truth; else agreement alone, and that it is."""
    if accuracy is None or not accuracy["n_clips"]:
        return ["accuracy not measured"]
    dsc, ef = accuracy["drift"]["dsc"], accuracy["drift"]["ef"]
    if dsc["mean"] is None:
        agreement = number(accuracy["agreement"]["dsc"]["mean"])
        said = [f"no ground truth: agreement with the baseline alone, DSC {agreement} %"]
    else:
        side = "lower" if round(dsc["mean"], 2) > 0 else "higher"
        change = f"{side} by {abs(dsc['mean']):.2f} points" if round(dsc["mean"], 2) else "the same"
        said = [f"DSC {change} ({interval('dsc', dsc)})"]
    return said if ef["mean"] is None else [*said, f"EF off by {number(ef['mean'])} points"]


METRICS: Mapping[str, str] = {"dsc": "DSC", "hd95": "HD95", "ef_error": "EF error"}
SHOWN: Mapping[bool | None, str] = {True: "shown", False: "not shown", None: "too few patients"}


def margin_words(found: Sequence[Document]) -> str:
    """For example "DSC shown, HD95 shown, EF error not shown"."""
    return ", ".join(f"{METRICS[each['metric']]} {SHOWN[each['shown']]}" for each in found)


def category_words(found: Sequence[Document]) -> str:
    """For example "0 at 35 %, 1 at 40 %, 0 at 50 %, of 36 patients"."""
    said = [f"{each['flips']} at {each['threshold']} %" for each in found]
    return ", ".join([*said, f"of {found[0]['n_patients']} patients"]) if found else NONE


def short_machine_words(machine: Document) -> str:
    """For example "AMD EPYC, 2 cores, 23.5 GiB"; where a device ran the engine, that too."""
    cpu = machine.get("cpu") or {}
    cores, memory = cpu.get("cores_usable"), machine.get("memory_gib")
    facts = [
        cpu.get("model"),
        f"{cores} cores" if cores else None,
        f"{memory} GiB" if memory else None,
        "engine on a device, see below" if machine.get("device") else None,
    ]
    return ", ".join(str(fact) for fact in facts if fact) or "unknown"


def machine_words(machine: Document) -> str:
    """Whatever is known of processor, memory, system and versions, on one line."""
    cpu = machine.get("cpu") or {}
    flags = [flag for flag, present in (cpu.get("flags") or {}).items() if present]
    cores, memory = cpu.get("cores_usable"), machine.get("memory_gib")
    versions = [f"{name} {v}" for name, v in (machine.get("versions") or {}).items() if v]
    facts = [
        cpu.get("model"),
        f"{cores} cores" if cores else None,
        f"{memory} GiB" if memory else None,
        " ".join(flags),
        machine.get("os"),
        *versions,
    ]
    return ", ".join(str(fact) for fact in facts if fact) or "unknown"
