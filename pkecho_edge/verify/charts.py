"""The charts of report.html: parts of a report's document, drawn by matplotlib as inline SVG.

Colours are placeholders that become CSS variables of the page, so one drawing serves light, dark
and paper. No text that came with the data is drawn except image qualities, in plain ASCII.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from pkecho_edge.verify.words import Document, gate_limit, interval, number, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["MAX_POINTS", "disagreement_by_frame", "drift_by_quality", "drift_histogram"]
__all__ += ["ef_agreement", "latency_by_round", "latency_distribution"]

MAX_POINTS = 2000
"""Clips drawn as dots in one chart; of more, those farthest from zero."""

MAX_QUALITIES = 8
"""Qualities drawn in one chart; of more, those with most clips."""

_INK, _MUTED, _BASELINE, _ENGINE, _LIMIT = "#010101", "#010102", "#010103", "#010104", "#010105"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _BASELINE: "var(--baseline)",
    _ENGINE: "var(--engine)",
    _LIMIT: "var(--limit)",
}
_WIDTH, _HEIGHT = 4.6, 3.0  # inches of 72 points: a chart fills a phone's width at its own size
_LOG_FROM = 3.0
"""Ratio of the slowest to the fastest call from which latency gets a logarithmic axis."""

_STYLE: dict[Any, Any] = {  # matplotlib types its keys one by one
    "svg.fonttype": "none",  # text stays text: searchable, in the page's font
    "font.size": 9,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "grid.color": _MUTED,
    "grid.alpha": 0.25,
    "text.color": _INK,
    "text.parse_math": False,  # a dollar sign is a dollar sign
    "axes.unicode_minus": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def drift_histogram(
    mode: str, clips: Sequence[Document], summary: Document, gates: Document
) -> str:
    """How many clips drift by how much DSC, with the mean, its interval and the gates' limits.

    Args:
        mode: "clip" or "stream", part of the element's names.
        clips: the rows of the mode; those without truth do not count.
        summary: `drift.dsc` of the mode.
        gates: name -> entry, of the mode.

    Returns:
        An svg element; "" where no clip has truth.
    """
    values = np.array([clip["dsc_drift"] for clip in clips if clip["dsc_drift"] is not None])
    if not values.size:
        return ""
    limits = [gates[name] for name in ("dsc_drift", "dsc_drift_worst_clip") if name in gates]
    ends = [0.0, *values, *(gate["limit"] for gate in limits)]
    width = _nice((max(ends) - min(ends)) / 50)
    low, high = (int(np.floor(min(ends) / width)) - 1, int(np.ceil(max(ends) / width)) + 1)
    edges = (np.arange(low, high + 1) - 0.5) * width  # one bin is centred on no drift at all

    def draw(axis: Axes) -> None:
        axis.hist(values, bins=edges.tolist(), color=_ENGINE, alpha=0.75, label="clips")
        axis.axvline(summary["mean"], color=_INK, lw=1.2, label="mean with 95 % interval")
        if summary["low"] is not None and summary["high"] is not None:
            axis.axvspan(summary["low"], summary["high"], color=_INK, alpha=0.2, lw=0)
        words = ("gate on the interval", "gate on the worst clip")
        for gate, style, text in zip(limits, (":", "--"), words, strict=False):
            label = f"{text}, {gate_limit(gate)}"
            axis.axvline(gate["limit"], color=_LIMIT, lw=1.4, ls=style, label=label)
        axis.set_xlabel("DSC drift of a clip, points (right: engine worse)")
        axis.set_ylabel("clips")
        _whole_numbers(axis.yaxis)

    alt = (
        f"Histogram of the DSC drift of {values.size} clips: from {values.min():+.2f} to "
        f"{values.max():+.2f} points, mean {signed('dsc', summary['mean'])}, 95 % interval "
        f"{interval('dsc', summary)}."
    )
    return _chart(f"{mode}-drift", alt, draw)


def ef_agreement(
    mode: str, clips: Sequence[Document], agreement: Document, limit: Document | None
) -> str:
    """Bland-Altman chart of the engine's EF against the baseline's, a dot per clip.

    Args:
        mode: "clip" or "stream", part of the element's names.
        clips: the rows of the mode; those without an EF on both sides do not count.
        agreement: `ef_agreement` of the mode: bias and limits of agreement over patients.
        limit: the gate on EF drift.

    Returns:
        An svg element; "" where no clip has both.
    """
    pairs = [(clip["ef_baseline"], clip["ef_engine"]) for clip in clips]
    array = np.array([pair for pair in pairs if None not in pair], dtype=np.float64)
    if not array.size:
        return ""
    mean, difference = array.mean(axis=1), array[:, 1] - array[:, 0]

    def draw(axis: Axes) -> None:
        shown = _farthest(difference)
        axis.plot(mean[shown], difference[shown], "o", ms=3.2, mew=0, color=_ENGINE, alpha=0.7)
        axis.axhline(0, color=_MUTED, lw=0.8)
        axis.axhline(agreement["bias"], color=_INK, lw=1.2, label="bias")
        if agreement["low"] is not None:
            dashes = (0, (4, 3))
            axis.axhline(agreement["low"], color=_INK, lw=1, ls=dashes, label="limits of agreement")
            axis.axhline(agreement["high"], color=_INK, lw=1, ls=dashes)
        if limit is not None:
            # The gate is on the interval of the mean absolute difference: a clip may lie outside.
            label = f"gate on the mean |difference|, {gate_limit(limit)}"
            axis.axhline(limit["limit"], color=_LIMIT, lw=1.2, ls=":", label=label)
            axis.axhline(-limit["limit"], color=_LIMIT, lw=1.2, ls=":")
        axis.set_xlabel("mean of both EFs, %")
        axis.set_ylabel("engine - baseline, points")

    alt = (
        f"Bland-Altman chart of ejection fraction on {len(array)} clips: bias "
        f"{number(agreement['bias'])} points, limits of agreement {number(agreement['low'])} to "
        f"{number(agreement['high'])}, largest difference {np.abs(difference).max():.2f} points."
    )
    return _chart(f"{mode}-ef", alt, draw)


def drift_by_quality(mode: str, clips: Sequence[Document], by_quality: Document) -> str:
    """DSC drift of each clip, one line per image quality, with mean and interval.

    Args:
        mode: "clip" or "stream", part of the element's names.
        clips: the rows of the mode.
        by_quality: of the mode.

    Returns:
        An svg element; "" where no clip has truth.
    """
    drifts = {name: group["drift"]["dsc"] for name, group in by_quality.items()}
    names = [name for name in drifts if drifts[name]["n_clips"]]
    names.sort(key=lambda name: -drifts[name]["n_clips"])
    names = sorted(names[:MAX_QUALITIES])
    if not names:
        return ""

    def draw(axis: Axes) -> None:
        for row, name in enumerate(names):
            rows = [clip for clip in clips if (clip["quality"] or "unknown") == name]
            values = np.array([c["dsc_drift"] for c in rows if c["dsc_drift"] is not None])
            values = values[_farthest(values)]
            spread = row + 0.15 + 0.25 * (np.arange(values.size) * 0.618 % 1)
            axis.plot(values, spread, "o", ms=3, mew=0, color=_ENGINE, alpha=0.6)
            drift = drifts[name]
            axis.plot(drift["mean"], row - 0.15, "D", ms=4.5, mew=0, color=_INK)
            if drift["low"] is not None:
                axis.plot([drift["low"], drift["high"]], [row - 0.15] * 2, color=_INK, lw=1.6)
        axis.axvline(0, color=_MUTED, lw=0.8)
        labels = [f"{_plain(name)} ({drifts[name]['n_clips']})" for name in names]
        axis.set_yticks(range(len(names)), labels)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_xlabel("DSC drift of a clip, points (right: engine worse)")

    said = (
        f"{_plain(name)} {signed('dsc', drifts[name]['mean'])} ({interval('dsc', drifts[name])})"
        for name in names
    )
    alt = f"DSC drift by image quality, mean and 95 % interval in points: {'; '.join(said)}."
    return _chart(f"{mode}-quality", alt, draw)


def disagreement_by_frame(name: str, live: Document) -> str:
    """Pixels that differ by place in the sequence, with the interval over patients.

    Args:
        name: part of the element's names.
        live: a mode's `live` or `live_long`.

    Returns:
        An svg element; "" without a frame.
    """
    curve = live["curve"]
    if not curve:
        return ""
    middle = [(point["first"] + point["last"]) / 2 for point in curve]
    mean = [point["mean"] for point in curve]
    ends = [
        (m, p["low"], p["high"]) for m, p in zip(middle, curve, strict=True) if p["n_sequences"]
    ]
    known = [(m, low, high) for m, low, high in ends if low is not None and high is not None]

    def draw(axis: Axes) -> None:
        if known:
            where, low, high = zip(*known, strict=True)
            label = "95 % interval over patients"
            axis.fill_between(where, low, high, color=_ENGINE, alpha=0.2, lw=0, label=label)
        dots = "o-" if len(curve) == 1 else "-"
        axis.plot(middle, mean, dots, ms=3, color=_ENGINE, lw=1.4, label="mean over sequences")
        if middle[-1] >= live["length"] - 1:
            axis.axvline(live["length"] - 1, color=_LIMIT, lw=1.2, ls="--", label="window is full")
        axis.set_xlabel("frame of the sequence, from 0")
        axis.set_ylabel("pixels that differ, %")
        axis.set_ylim(bottom=0)
        _whole_numbers(axis.xaxis)

    alt = (
        f"Pixels that differ from the baseline by frame, {live['n_sequences']} sequences of up to "
        f"{curve[-1]['last'] + 1} frames: {number(mean[0], 4)} % at the first, "
        f"{number(mean[-1], 4)} % at the last place."
    )
    return _chart(f"{name}-curve", alt, draw)


def latency_distribution(mode: str, speed: Document) -> str:
    """Share of calls that took at most so long, both sides, with p50, p95 and p99.

    Args:
        mode: "clip" or "stream", part of the element's names.
        speed: of the mode.

    Returns:
        An svg element; "" where the calls were not kept.
    """
    if not (speed["baseline"]["latency_ms"] and speed["engine"]["latency_ms"]):
        return ""

    def draw(axis: Axes) -> None:
        for name, color, style in (("baseline", _BASELINE, "-"), ("engine", _ENGINE, "--")):
            side = speed[name]
            axis.ecdf(side["latency_ms"], color=color, ls=style, lw=1.6, label=name)
            for percent, marker in ((50, "o"), (95, "s"), (99, "^")):
                value = side[f"latency_ms_p{percent}"]
                axis.plot(value, percent / 100, marker, ms=4.5, color=color)
        for percent, marker in ((50, "o"), (95, "s"), (99, "^")):
            axis.plot([], [], marker, ms=4.5, color=_MUTED, label=f"p{percent}")
        axis.set_xlabel("latency of a call, ms")
        axis.set_ylabel("share of calls")
        _latency_axis(axis, "x", speed)

    return _chart(
        f"{mode}-latency", f"Distribution of latency per call: {_latency_alt(speed)}", draw
    )


def latency_by_round(mode: str, speed: Document) -> str:
    """Latency of every timed call in the order they were made: drift and outliers of the machine.

    Args:
        mode: "clip" or "stream", part of the element's names.
        speed: of the mode.

    Returns:
        An svg element; "" where the calls were not kept.
    """
    if not (speed["baseline"]["latency_ms"] and speed["engine"]["latency_ms"]):
        return ""

    def draw(axis: Axes) -> None:
        for name, color, style in (("baseline", _BASELINE, "o-"), ("engine", _ENGINE, "s--")):
            latency = speed[name]["latency_ms"]
            dots = 3 if len(latency) <= 200 else 0
            rounds = range(1, len(latency) + 1)
            axis.plot(rounds, latency, style, ms=dots, lw=1, color=color, label=name)
        axis.set_xlabel("round (one call of each side)")
        axis.set_ylabel("latency of a call, ms")
        _whole_numbers(axis.xaxis)
        _latency_axis(axis, "y", speed)

    alt = f"Latency of each of {speed['engine']['n']} interleaved rounds: {_latency_alt(speed)}"
    return _chart(f"{mode}-rounds", alt, draw)


def _latency_alt(speed: Document) -> str:
    said = (
        f"{name} p50 {number(speed[name]['latency_ms_p50'])} ms, "
        f"p99 {number(speed[name]['latency_ms_p99'])} ms"
        for name in ("baseline", "engine")
    )
    return "; ".join(said) + "."


def _latency_axis(axis: Axes, which: str, speed: Document) -> None:
    """Logarithmic, with plain numbers, where the sides lie far apart; else from zero."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = [*speed["baseline"]["latency_ms"], *speed["engine"]["latency_ms"]]
    low, high = min(values), max(values)
    scale, limits, ticks = (
        (axis.set_xscale, axis.set_xlim, axis.xaxis)
        if which == "x"
        else (axis.set_yscale, axis.set_ylim, axis.yaxis)
    )
    if low > 0 and high / low > _LOG_FROM:
        scale("log")
        ticks.set_label_text(f"{ticks.get_label_text()} (logarithmic)")
        limits(low / 1.3, high * 1.3)
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ticks.set_minor_formatter(NullFormatter())
    else:
        limits(0, high * 1.1 or 1)


def _chart(name: str, alt: str, draw: Callable[[Axes], None]) -> str:
    """An svg element with an alternative text; the same input gives the same text."""
    from matplotlib.figure import Figure

    with _style(name):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        axis = figure.subplots()
        axis.grid(visible=True)
        axis.set_axisbelow(True)
        draw(axis)
        handles, labels = axis.get_legend_handles_labels()
        if handles:
            columns = 2 if max(map(len, labels)) > 12 else len(labels)
            figure.legend(handles, labels, loc="outside upper left", ncols=columns)
        return _svg(figure, name, alt)


@contextmanager
def _style(name: str) -> Iterator[None]:
    """matplotlib's own defaults and ours, whatever the user's matplotlibrc says; put back after."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": name})
        yield


def _svg(figure: Figure, name: str, alt: str) -> str:
    """The drawing as an element for the middle of a page: no XML prologue, names of its own."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    body = text[text.index('<g id="figure_1">') : text.rindex("</svg>")]
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r"font-family: [^;\"]+; ?", "", body)  # the page's
    for placeholder, variable in _VARIABLES.items():
        body = body.replace(placeholder, variable)
    view = f"0 0 {_WIDTH * 72:g} {_HEIGHT * 72:g}"
    return f'<svg class="chart" viewBox="{view}" role="img" aria-label="{escape(alt)}">{body}</svg>'


def _nice(width: float) -> float:
    """The next of 1, 2, 5 times a power of ten; 0.01 for nothing."""
    if width <= 0:
        return 0.01
    power = 10.0 ** np.floor(np.log10(width))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= width * 0.999))


def _farthest(values: np.ndarray[Any, np.dtype[np.float64]]) -> slice | list[int]:
    """All, or the MAX_POINTS farthest from zero."""
    if values.size <= MAX_POINTS:
        return slice(None)
    return sorted(np.argsort(-np.abs(values), kind="stable")[:MAX_POINTS].tolist())


def _plain(text: str) -> str:
    """Printable ASCII, short: what any font has and no drawing trips over."""
    return re.sub(r"[^ -~]", "?", text)[:16]


def _whole_numbers(axis: Axis) -> None:
    """Counts have no halves."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))
