"""How the charts of report.html are drawn: by matplotlib, as inline SVG.

Colours are placeholders that become CSS variables of the page, so one drawing serves light, dark
and paper. No text that came with the data is drawn except image qualities, in plain ASCII.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

__all__ = ["BASELINE", "ENGINE", "INK", "LIMIT", "MAX_POINTS", "MUTED", "SIDES", "chart"]
__all__ += ["farthest", "nice", "plain_label", "whole_numbers"]

MAX_POINTS = 1000
"""Clips drawn as dots in one chart; of more, those farthest from zero."""

INK, MUTED, BASELINE, ENGINE, LIMIT = "#010101", "#010102", "#010103", "#010104", "#010105"

_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    BASELINE: "var(--baseline)",
    ENGINE: "var(--engine)",
    LIMIT: "var(--limit)",
}

_WIDTH, _HEIGHT = 4.6, 3.0  # inches of 72 points: a chart fills a phone's width at its own size
_PAD = 0.08  # inches around what is drawn

SIDES = {"baseline": (BASELINE, "o"), "engine": (ENGINE, "s")}
"""Side -> its colour and its marker."""

_STYLE: dict[Any, Any] = {  # matplotlib types its keys one by one
    "svg.fonttype": "none",  # text stays text: searchable, in the page's font
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "grid.color": MUTED,
    "grid.alpha": 0.25,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign is a dollar sign
    "axes.unicode_minus": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def chart(name: str, alt: str, draw: Callable[[Axes], None]) -> str:
    """An svg element with an alternative text; the same input gives the same text."""
    from matplotlib.figure import Figure

    with _style(name):
        figure = Figure(figsize=(_WIDTH, _HEIGHT))
        axis = figure.subplots()
        axis.grid(visible=True)
        axis.set_axisbelow(True)
        draw(axis)
        handles, labels = axis.get_legend_handles_labels()
        legend = None
        if handles:
            columns = 2 if max(map(len, labels)) > 12 else len(labels)
            legend = figure.legend(
                handles, labels, loc="upper left", ncols=columns, borderaxespad=0, borderpad=0
            )
        _fit(figure, axis, legend)
        return _svg(figure, name, alt)


def _fit(figure: Figure, axis: Axes, legend: Legend | None) -> None:
    """Give the axis the room that its labels and the legend above it leave.

    matplotlib's constrained layout does so, too, but draws everything twice and took most of the
    time of a report.
    """
    width, height = figure.bbox.size
    pad = _PAD * figure.dpi
    above = 0.0 if legend is None else legend.get_window_extent().height + pad
    top = 1 - (above + pad) / height
    figure.subplots_adjust(left=0.15, right=0.95, bottom=0.15, top=top)
    beside, below = axis.yaxis.get_tightbbox(), axis.xaxis.get_tightbbox()
    inside = axis.bbox
    left = inside.x0 - min(box.x0 for box in (inside, beside, below) if box is not None)
    right = max(box.x1 for box in (inside, below) if box is not None) - inside.x1
    bottom = inside.y0 - min(box.y0 for box in (inside, beside, below) if box is not None)
    figure.subplots_adjust(
        left=(left + pad) / width, right=1 - (right + pad) / width, bottom=(bottom + pad) / height
    )
    if legend is not None:
        legend.set_bbox_to_anchor((pad / width, pad / height, 1, 1 - 2 * pad / height))


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


def nice(width: float) -> float:
    """The next of 1, 2, 5 times a power of ten; 0.01 for nothing."""
    if width <= 0:
        return 0.01
    power = 10.0 ** np.floor(np.log10(width))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= width * 0.999))


def farthest(values: np.ndarray[Any, np.dtype[np.float64]]) -> slice | list[int]:
    """All, or the MAX_POINTS farthest from zero."""
    if values.size <= MAX_POINTS:
        return slice(None)
    return sorted(np.argsort(-np.abs(values), kind="stable")[:MAX_POINTS].tolist())


def plain_label(text: str) -> str:
    """Printable ASCII, short: what any font has and no drawing trips over."""
    return re.sub(r"[^ -~]", "?", text)[:16]


def whole_numbers(axis: Axis) -> None:
    """Counts have no halves."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))
