"""A report's document as tables for a terminal: fits 80 columns, readable without colour."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from pkecho_edge.verify.live import SLOPE_FRAMES
from pkecho_edge.verify.words import (
    NONE,
    Document,
    beat_words,
    call_words,
    category_words,
    data_words,
    fine,
    fine_interval,
    gate_limit,
    gate_value,
    interval,
    live_words,
    machine_words,
    margin_words,
    memory_words,
    number,
    percentage,
    signed,
)

__all__ = ["WIDTH", "document_table"]

WIDTH = 100

_RESULTS = {True: ("pass", "green"), False: ("FAIL", "bold red"), None: ("not measured", "yellow")}
_PERIODS = {
    "warming_up": "differing, warming up (%)",
    "next_window": "differing, next window (%)",
    "later": "differing, later (%)",
}
_LIVE_FIGURES = {
    "slope": f"slope (% / {SLOPE_FRAMES} frames)",
    "flicker": "flicker (%)",
    "jitter": "jitter of area (points)",
}
_VERDICTS = {"pass": "bold green", "fail": "bold red", "incomplete": "bold yellow"}


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
        for key in ("live", "live_long"):  # absent from the report of an earlier version
            if (live := mode.get(key)) is not None:
                parts.append(_live_table(name, live))
                parts.append(Text(f"ED and ES shift: {beat_words(live)}"))
        if mode["speed"] is not None:
            parts.append(_speed_table(name, mode["speed"], gates.get("speedup"), document))
            parts.append(Text(memory_words(mode["speed"]), style="dim"))
    parts += [_gate_line(gate) for gate in document["gates"] if gate["pass"] is not True]
    parts += [Text(f"warning: {warning}", style="yellow") for warning in document["warnings"]]
    parts.append(Text(f"machine: {machine_words(document['machine'])}", style="dim"))
    parts.append(_verdict_line(document))
    return Constrain(Group(*parts), WIDTH)


def _accuracy_table(name: str, mode: Document, gates: Document) -> Table:
    """Columns DSC, HD95, ASD, EF; rows baseline, engine, drift with interval, worst clip, gates."""
    accuracy = mode["accuracy"]
    drift, sides = accuracy["drift"], (accuracy["baseline"], accuracy["engine"])
    metrics = ("dsc", "hd95", "asd", "ef")
    distance = drift["hd95"]["unit"]
    table = _table(f"{name}: accuracy on {data_words(name, mode['data'])}")
    table.add_column("", no_wrap=True)
    for header in ("DSC (%)", f"HD95 ({distance})", f"ASD ({distance})", "EF err (pt)"):
        table.add_column(header, justify="right", no_wrap=True)
    for label, side in zip(("baseline", "engine"), sides, strict=True):
        columns = (side["dsc"], side["hd95"], side["asd"], side["ef_error"])
        table.add_row(label, *(number(column["mean"]) for column in columns))
    table.add_section()
    table.add_row("drift", *(signed(metric, drift[metric]["mean"]) for metric in metrics))
    table.add_row("95 % interval", *(interval(metric, drift[metric]) for metric in metrics))
    on_interval = (_limit(gates.get(f"{metric}_drift"), metric) for metric in metrics)
    table.add_row("  gate", *on_interval)
    table.add_row("worst clip", *(signed(metric, drift[metric]["worst"]) for metric in metrics))
    table.add_row("  gate", _limit(gates.get("dsc_drift_worst_clip")), NONE, NONE, NONE)
    return table


def _accuracy_lines(mode: Document) -> Iterator[Text]:
    """How to read the table, agreement, empty masks, and the worst clip by name."""
    accuracy, empty = mode["accuracy"], mode["data"]["empty_masks"]
    agreement = accuracy["agreement"]
    yield Text(
        "drift = baseline - engine (EF: absolute); a gate is on the interval's end at which the "
        "engine is worse, HD95's in pixels",
        style="dim",
    )
    yield Text(
        f"agreement: DSC {number(agreement['dsc']['mean'])} %, "
        f"{number(agreement['pixel_disagreement']['mean'], 3)} % of pixels differ; empty masks: "
        f"truth {empty['truth_labelled_frames']}, baseline {empty['baseline_frames']}, "
        f"engine {empty['engine_frames']}"
    )
    # absent from the report of an earlier version
    if "non_inferiority" in accuracy:
        yield Text(f"worse by less than the margin: {margin_words(accuracy['non_inferiority'])}")
        yield Text(f"EF on the other side: {category_words(accuracy['ef_categories'])}")
    worst = accuracy["drift"]["dsc"]["worst_clip"]
    if worst is not None:
        yield Text(f"worst clip: {worst}")


def _live_table(name: str, live: Document) -> Table:
    """Disagreement by time, whether it grows, and flicker: mean, interval, worst sequence."""
    table = _table(f"{name}: over time, {live_words(live)}")
    table.add_column("pixels, mean over sequences", no_wrap=True)
    for header in ("mean", "95 % interval", "worst"):
        table.add_column(header, justify="right", no_wrap=True)
    figures = [(label, live[key]["pixel_disagreement"]) for key, label in _PERIODS.items()]
    figures += [(label, live[key]) for key, label in _LIVE_FIGURES.items()]
    for label, found in figures:
        table.add_row(label, fine(found["mean"]), fine_interval(found), fine(found["worst"]))
    return table


def _speed_table(name: str, speed: Document, gate: Document | None, document: Document) -> Table:
    """Rows baseline and engine, then the speedup and its gate."""
    table = _table(f"{name}: speed, {call_words(name, speed, document['lineage'])}")
    table.add_column("", no_wrap=True)
    for header in ("frames/s", "p50 (ms)", "p95 (ms)", "p99 (ms)", "cv (%)", "calls"):
        table.add_column(header, justify="right", no_wrap=True)
    for label in ("baseline", "engine"):
        side = speed[label]
        latencies = [number(side[f"latency_ms_p{p}"]) for p in (50, 95, 99)]
        cells = (number(side["fps"], 1), *latencies, percentage(side["cv"]), str(side["n"]))
        table.add_row(label, *cells)
    table.add_section()
    factor = NONE if speed["speedup"] is None else f"{speed['speedup']:.2f} x"
    table.add_row("speedup", factor, _limit(gate))
    return table


def _gate_line(gate: Document) -> Text:
    """One gate that did not pass, and why."""
    word, style = _RESULTS[gate["pass"]]
    value = f" {gate_value(gate)}".rstrip()
    reason = f": {gate['reason']}" if gate["reason"] else ""
    text = f"{word}: {gate['name']} ({gate['mode']}){value}, limit {gate_limit(gate)}{reason}"
    return Text(text, style=style)


def _verdict_line(document: Document) -> Text:
    gates = document["gates"]
    passed = sum(gate["pass"] is True for gate in gates)
    word = str(document["verdict"])
    text = f"verdict: {word.upper()} ({passed} of {len(gates)} gates passed)"
    return Text(text, style=_VERDICTS.get(word, ""))


def _table(title: str) -> Table:
    return Table(
        title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE, padding=(0, 1)
    )


def _limit(gate: Document | None, metric: str = "") -> Text:
    """For example "<= 0.5 pass"; pixels are named, for the column may be in mm."""
    if gate is None:
        return Text(NONE)
    word, style = _RESULTS[gate["pass"]]
    # beside four other columns there is room for one word; the line below says why
    word = "open" if gate["pass"] is None else word
    unit = "px " if metric == "hd95" else ""
    return Text(f"{gate_limit(gate)} {unit}{word}", style=style)
