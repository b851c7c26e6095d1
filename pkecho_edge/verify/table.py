"""A report's document as tables for a terminal: fits 80 columns, readable without colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from rich import box
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

__all__ = ["WIDTH", "document_table"]

Document: TypeAlias = Mapping[str, Any]
"""Part of a report.json."""

WIDTH = 100

_RESULTS = {True: ("pass", "green"), False: ("FAIL", "bold red"), None: ("not measured", "yellow")}
_VERDICTS = {"pass": "bold green", "fail": "bold red", "incomplete": "bold yellow"}
_NONE = "-"


def document_table(document: Document) -> RenderableType:
    """Accuracy and speed of each mode, gates that did not pass, warnings, machine, verdict.

    Args:
        document: of a report.json.
    """
    parts: list[RenderableType] = []
    for name, mode in document["modes"].items():
        gates = {gate["name"]: gate for gate in document["gates"] if gate["mode"] == name}
        if mode["accuracy"] is not None:
            parts += [_accuracy_table(name, mode, gates), *_accuracy_lines(mode)]
        if mode["speed"] is not None:
            parts.append(_speed_table(name, mode["speed"], gates.get("speedup")))
            parts.append(Text(_memory_line(mode["speed"]), style="dim"))
    parts += [_gate_line(gate) for gate in document["gates"] if gate["pass"] is not True]
    parts += [Text(f"warning: {warning}", style="yellow") for warning in document["warnings"]]
    parts += [Text(_machine_line(document["machine"]), style="dim"), _verdict_line(document)]
    return Constrain(Group(*parts), WIDTH)


def _accuracy_table(name: str, mode: Document, gates: Document) -> Table:
    """Columns DSC, HD95, ASD, EF; rows baseline, engine, drift with interval, worst clip, gates."""
    accuracy = mode["accuracy"]
    drift, sides = accuracy["drift"], (accuracy["baseline"], accuracy["engine"])
    metrics = ("dsc", "hd95", "asd", "ef")
    distance = drift["hd95"]["unit"]
    table = _table(f"{name}: accuracy on {_data_words(mode['data'])}")
    table.add_column("", no_wrap=True)
    for header in ("DSC (%)", f"HD95 ({distance})", f"ASD ({distance})", "EF error (pt)"):
        table.add_column(header, justify="right", no_wrap=True)
    for label, side in zip(("baseline", "engine"), sides, strict=True):
        columns = (side["dsc"], side["hd95"], side["asd"], side["ef_error"])
        table.add_row(label, *(_number(column["mean"]) for column in columns))
    table.add_section()
    table.add_row("drift", *(_signed(metric, drift[metric]["mean"]) for metric in metrics))
    table.add_row("95 % interval", *(_interval(metric, drift[metric]) for metric in metrics))
    by_mean = (_limit(gates.get("dsc_drift")), _NONE, _NONE, _limit(gates.get("ef_drift")))
    table.add_row("  gate", *by_mean)
    table.add_row("worst clip", *(_signed(metric, drift[metric]["worst"]) for metric in metrics))
    table.add_row("  gate", _limit(gates.get("dsc_drift_worst_clip")), _NONE, _NONE, _NONE)
    return table


def _accuracy_lines(mode: Document) -> Iterator[Text]:
    """How to read the table, agreement, empty masks, and the worst clip by name."""
    accuracy, empty = mode["accuracy"], mode["data"]["empty_masks"]
    agreement = accuracy["agreement"]
    yield Text(
        "drift = baseline - engine (EF: absolute); the DSC gate is on the interval's upper end",
        style="dim",
    )
    yield Text(
        f"agreement: DSC {_number(agreement['dsc']['mean'])} %, "
        f"{_number(agreement['pixel_disagreement']['mean'], 3)} % of pixels differ; empty masks: "
        f"truth {empty['truth_labelled_frames']}, baseline {empty['baseline_frames']}, "
        f"engine {empty['engine_frames']}"
    )
    worst = accuracy["drift"]["dsc"]["worst_clip"]
    if worst is not None:
        yield Text(f"worst clip: {worst}")


def _speed_table(name: str, speed: Document, gate: Document | None) -> Table:
    """Rows baseline and engine, then the speedup and its gate."""
    table = _table(f"{name}: speed, {speed['frames_per_call']} frames per call")
    table.add_column("", no_wrap=True)
    for header in ("frames/s", "p50 (ms)", "p95 (ms)", "p99 (ms)", "cv (%)", "calls"):
        table.add_column(header, justify="right", no_wrap=True)
    for label in ("baseline", "engine"):
        side = speed[label]
        latencies = (_number(side[f"latency_ms_p{p}"]) for p in (50, 95, 99))
        cv = None if side["cv"] is None else 100 * side["cv"]
        table.add_row(label, _number(side["fps"], 1), *latencies, _number(cv, 1), str(side["n"]))
    table.add_section()
    factor = _NONE if speed["speedup"] is None else f"{speed['speedup']:.2f} x"
    table.add_row("speedup", factor, _limit(gate))
    return table


def _memory_line(speed: Document) -> str:
    """Sizes on disk and in memory, with what the latter counts."""
    size, peak = speed.get("engine_size_mb"), speed.get("peak_memory_mb")
    return (
        f"engine {_number(size, 1)} MB on disk; peak memory {_number(peak, 0)} MB "
        "(whole process, both sides)"
    )


def _gate_line(gate: Document) -> Text:
    """One gate that did not pass, and why."""
    word, style = _RESULTS[gate["pass"]]
    value = "" if gate["value"] is None else f" {gate['value']:.3g} {gate['unit']}"
    reason = f": {gate['reason']}" if gate["reason"] else ""
    limit = f"limit {_relation(gate)} {gate['limit']:g}"
    return Text(f"{word}: {gate['name']} ({gate['mode']}){value}, {limit}{reason}", style=style)


def _verdict_line(document: Document) -> Text:
    gates = document["gates"]
    passed = sum(gate["pass"] is True for gate in gates)
    word = str(document["verdict"])
    text = f"verdict: {word.upper()} ({passed} of {len(gates)} gates passed)"
    return Text(text, style=_VERDICTS.get(word, ""))


def _machine_line(machine: Document) -> str:
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
    return "machine: " + (", ".join(str(fact) for fact in facts if fact) or "unknown")


def _data_words(data: Document) -> str:
    """For example "12 clips of 6 patients (phantom, 320x320)"."""
    sizes = [f"{height}x{width}" for height, width in data["image_sizes"]]
    details = ", ".join([*data["sources"], *sizes])
    words = f"{data['n_clips']} clips of {data['n_patients']} patients"
    return f"{words} ({details})" if details else words


def _table(title: str) -> Table:
    return Table(
        title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE, padding=(0, 1)
    )


def _limit(gate: Document | None) -> Text:
    """For example "<= 0.5 pass"."""
    if gate is None:
        return Text(_NONE)
    word, style = _RESULTS[gate["pass"]]
    return Text(f"{_relation(gate)} {gate['limit']:g} {word}", style=style)


def _relation(gate: Document) -> str:
    return ">=" if gate["name"] == "speedup" else "<="


def _number(value: float | None, digits: int = 2) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def _signed(metric: str, value: float | None) -> str:
    """EF drift is an absolute difference and has no sign."""
    if value is None or metric == "ef":
        return _number(value)
    return f"{round(value, 2) + 0.0:+.2f}"  # never -0.00


def _interval(metric: str, summary: Document) -> str:
    """For example "-0.01..+0.06"."""
    if summary["low"] is None or summary["high"] is None:
        return _NONE
    return f"{_signed(metric, summary['low'])}..{_signed(metric, summary['high'])}"
