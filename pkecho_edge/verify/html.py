"""report.html: the document of report.json as one page, with charts and pictures.

Every figure on it comes from the document, so the two cannot disagree; only the pictures of the
worst clips come from beside it. The page loads nothing and runs nothing: no script, no font, no
address. Text that came with the data (identifiers, qualities, paths) is escaped by Jinja2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkecho_edge.errors import MissingDependency
from pkecho_edge.verify import accuracy_charts as of_accuracy
from pkecho_edge.verify import time_charts, words
from pkecho_edge.verify.gallery import Gallery
from pkecho_edge.verify.live import SLOPE_FRAMES
from pkecho_edge.verify.making import making_words
from pkecho_edge.verify.pictures import picture
from pkecho_edge.verify.report import Report, write_whole
from pkecho_edge.verify.speed import CV_LIMIT
from pkecho_edge.verify.words import Document

if TYPE_CHECKING:
    import jinja2

__all__ = ["INSTALL", "render_html", "write_html"]

INSTALL = "pip install 'pkecho-edge[report]'"

_GATES = {
    "finite_logits": "Clips on which the engine returns nan or infinity",
    "dsc_drift": "Mean DSC drift, upper end of its 95 % interval",
    "dsc_drift_worst_clip": "DSC drift of the worst clip",
    "hd95_drift": "HD95 lost to the baseline, upper end of its 95 % interval",
    "ef_drift": "Mean absolute EF drift, upper end of its 95 % interval",
    "agreement_dsc": "DSC against the baseline, mean",
    "pixel_disagreement": "Pixels that differ from the baseline, mean",
    "flicker": "Flicker that the baseline does not have, mean",
    "ed_es_shift": "Shift of ED and ES against the baseline, mean",
    "speedup": "Speedup, ratio of median latencies",
}
"""What each gate's value is."""

_VERDICTS = {"pass": "Pass", "fail": "Fail", "incomplete": "Incomplete"}
_RESULTS = {True: "pass", False: "fail", None: "not measured"}
_MODES = {"clip": "Recorded clips", "stream": "Live stream"}
_LIVE_PARTS = {"live": "over time", "live_long": "over time, long sequences"}
_PERIODS = {"warming_up": "warming up", "next_window": "the next window", "later": "later"}
_LIVE_ROWS = {
    "slope": f"Slope, % of pixels per {SLOPE_FRAMES} frames",
    "quarter_change": "Last less first quarter, % of pixels",
    "flicker": "Flicker, % of pixels",
    "jitter": "Jitter of the area beside the baseline's, points",
    "area_change_baseline": "Change of area per frame, baseline, points",
    "area_change_engine": "the same, engine",
}
_SUBGROUPS = {
    "quality": "Image quality",
    "phase": "Phase",
    "view": "View",
    "ef": "Ejection fraction",
}
_CONVENTIONS = {
    "dsc": "DSC",
    "hd95": "HD95",
    "hd95_drift": "HD95 drift",
    "asd": "ASD",
    "ef": "EF",
    "ef_drift": "EF drift",
    "ef_agreement": "EF agreement",
    "ed_es_shift": "ED and ES shift",
    "fps": "Frames per second",
    "ef_categories": "EF categories",
    "non_inferiority": "Non-inferiority",
}


def write_html(report: Report, galleries: Mapping[str, Gallery], path: Path) -> None:
    """Write report.html into a folder that exists, whole or not at all.

    Args:
        report: what report.json holds.
        galleries: mode -> its worst clips; a mode without one has no pictures.
        path: of the page.

    Raises:
        MissingDependency: jinja2 or matplotlib is not installed; nothing is written.
        UsageError: the file cannot be written there.
    """
    page = render_html(report.to_dict(), galleries)
    write_whole(path, page.encode("utf-8", "backslashreplace"))  # file names need not be UTF-8


def render_html(document: Document, galleries: Mapping[str, Gallery]) -> str:
    """The page of one report; the same document and pictures give the same text.

    Args:
        document: as `Report.to_dict` gives it.
        galleries: mode -> its worst clips.

    Raises:
        MissingDependency: jinja2 or matplotlib is not installed.
    """
    _require()
    gates = document["gates"]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=document,
            verdict=_VERDICTS[document["verdict"]],
            counts={result: _count(gates, passed) for passed, result in _RESULTS.items()},
            synthetic=_is_synthetic(document),
            modes=[_mode(document, name, galleries.get(name, ())) for name in document["modes"]],
            answers=words.answers(document),
            short_machine=words.short_machine_words(document["machine"]),
            made=making_words(document["lineage"]),
            machine=list(_facts(document["machine"])),
            lineage=list(_facts(document["lineage"])),
            gate_words=_GATES,
            results=_RESULTS,
            cv_limit=CV_LIMIT,
            mode_words=_MODES,
            convention_words=_CONVENTIONS,
            metric_words=words.METRICS,
            shown_words=words.SHOWN,
            subgroup_words=_SUBGROUPS,
        )
    )


def _require() -> None:
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "report.html needs jinja2 and matplotlib", remedy=f"Run: {INSTALL}"
        ) from error


def _environment() -> jinja2.Environment:
    """Escapes everything; a name that the template misspells is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pkecho_edge.verify"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sentence"] = _sentence
    environment.globals.update(
        number=words.number,
        signed=words.signed,
        interval=words.interval,
        percentage=words.percentage,
        gate_limit=words.gate_limit,
        gate_value=words.gate_value,
        memory_words=words.memory_words,
        machine_words=words.machine_words,
        call_words=words.call_words,
        data_words=words.data_words,
        live_words=words.live_words,
        beat_words=words.beat_words,
        fine=words.fine,
        fine_interval=words.fine_interval,
    )
    return environment


def _mode(document: Document, name: str, shown: Gallery | tuple[()]) -> dict[str, Any]:
    """One mode's part of the document, its gates by name, its charts and its pictures."""
    mode = document["modes"][name]
    gates = {gate["name"]: gate for gate in document["gates"] if gate["mode"] == name}
    rows = {} if mode["accuracy"] is None else _rows_by_identifier(mode["accuracy"])
    return {
        "name": name,
        **mode,
        "gates": gates,
        "live_parts": list(_live_parts(name, mode)),
        "charts": dict(_charts(name, mode, gates)),
        "area_charts": list(_area_charts(name, mode)),
        "worst": [
            {"shown": worst, "row": rows[worst.identifier], "picture": picture(worst)}
            for worst in shown
            if worst.identifier in rows
        ],
    }


def _live_parts(name: str, mode: Document) -> Iterator[dict[str, Any]]:
    """What was measured over time, of the sequences and of the long ones."""
    from markupsafe import Markup

    for key, title in _LIVE_PARTS.items():
        live = mode.get(key)  # absent from the report of an earlier version
        if live is None:
            continue
        svg = time_charts.disagreement_by_frame(f"{name}-{key}", live)
        yield {
            "key": key,
            "title": title,
            "live": live,
            "periods": [(label, live[period]) for period, label in _PERIODS.items()],
            "rows": [(label, live[figure]) for figure, label in _LIVE_ROWS.items()],
            "chart": Markup(svg),
        }


def _charts(name: str, mode: Document, gates: Document) -> Iterator[tuple[str, Any]]:
    """Chart's name -> svg element; "" where there is nothing to draw."""
    from markupsafe import Markup

    drawn: dict[str, str] = {}
    if (accuracy := mode["accuracy"]) is not None:
        clips = accuracy["clips"]
        for metric in ("dsc", "hd95", "asd"):
            drift = accuracy["drift"][metric]
            drawn[f"drift_{metric}"] = of_accuracy.drift_histogram(
                name, metric, clips, drift, gates
            )
        drawn["pairs"] = of_accuracy.paired_scores(name, clips)
        drawn["ef_truth"] = of_accuracy.ef_against_truth(name, clips, accuracy)
        drawn["ef_bias"] = of_accuracy.ef_bias(name, clips, accuracy)
        drawn["ef"] = of_accuracy.ef_agreement(
            name, clips, accuracy["ef_agreement"], gates.get("ef_drift")
        )
        # absent from the report of an earlier version
        qualities = accuracy.get("subgroups", {}).get("quality", {})
        drawn["quality"] = of_accuracy.drift_by_quality(name, clips, qualities)
    if (speed := mode["speed"]) is not None:
        drawn["latency"] = time_charts.latency_distribution(name, speed)
        drawn["rounds"] = time_charts.latency_by_round(name, speed)
    for key, svg in drawn.items():
        yield key, Markup(svg)


def _area_charts(name: str, mode: Document) -> Iterator[dict[str, Any]]:
    """The areas over time of the worst sequences; none in a report of an earlier version."""
    from markupsafe import Markup

    for index, curve in enumerate(mode.get("area_curves", [])):
        if svg := time_charts.area_curve(f"{name}-area-{index}", curve):
            yield {**curve, "chart": Markup(svg)}


def _sentence(text: str) -> str:
    """A rule as a sentence: "one EF per patient" -> "One EF per patient."."""
    return f"{text[:1].upper()}{text[1:]}."


def _rows_by_identifier(accuracy: Document) -> dict[str, Document]:
    return {row["identifier"]: row for row in accuracy["clips"]}


def _count(gates: list[Document], passed: bool | None) -> int:
    return sum(gate["pass"] is passed for gate in gates)


def _is_synthetic(document: Document) -> bool:
    """Whether any clip was drawn by a computer."""
    data = [mode["data"] for mode in document["modes"].values() if mode["data"] is not None]
    return any("phantom" in part["sources"] for part in data)


def _facts(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested mapping as (name, text); a table of flags becomes the list of those that are set."""
    for key, value in mapping.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping) and value and all(_is_flag(v) for v in value.values()):
            yield name, ", ".join(k for k, flag in value.items() if flag) or words.NONE
        elif isinstance(value, Mapping):
            yield from _facts(value, f"{name} ")
        elif isinstance(value, list):
            yield name, ", ".join(map(str, value))
        else:
            yield name, words.NONE if value is None else str(value)


def _is_flag(value: object) -> bool:
    return value is None or isinstance(value, bool)
