"""The picture of a search: speed against drift, every candidate, the front, the budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pkecho_edge.figures import empty_figure
from pkecho_edge.tuning.search import Budget, Candidate, Scored, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

__all__ = ["draw_pareto"]

_FAR = 8.0
"""Times the limit: where a drift is beyond it, the axis is logarithmic above the limit."""

_DPI = 144
_SIDES = {"left": 0.0, "center": 0.5, "right": 1.0}
"""Alignment -> share of a label that lies left of where it is put."""

_INSIDE, _OUTSIDE, _FRONT = "tab:blue", "0.55", "0.7"


def draw_pareto(
    scored: Sequence[Scored], budget: Budget, chosen: Candidate | None, path: Path
) -> None:
    """Frames per second against the upper end of the DSC drift, as PNG or SVG by the name's ending.

    Filled points are inside the budget, hollow ones outside, crossed ones were ruled out by
    verification; candidates that could not be measured are not shown. Of none, the budget alone.

    Args:
        scored: what was measured.
        budget: its limits, shaded.
        chosen: the candidate to mark; None for none.
        path: of the picture.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure = empty_figure(8.0, 5.0)
    figure.set_dpi(_DPI)  # labels are placed in its pixels
    axis = figure.subplots()
    measured = [s for s in scored if s.measured]
    front = pareto_front(measured)
    axis.plot(
        [_place(s)[0] for s in front],
        [_place(s)[1] for s in front],
        color=_FRONT,
        lw=1.2,
        zorder=1,
        label="Pareto front" if front else None,
    )
    for each in measured:
        _draw_point(axis, each, each.candidate == chosen)
    _scale(axis, measured, budget)
    _shade(axis, budget)
    axis.set_xlabel("frames/s, all engines timed in turns")
    axis.set_ylabel("DSC drift against the baseline, upper end of 95 %, points")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(f"budget: {budget}", loc="left", fontsize=9)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    _label(figure, axis, measured, chosen)
    figure.savefig(path, dpi=_DPI)


def _draw_point(axis: Axes, each: Scored, is_chosen: bool) -> None:
    """The point, with a legend of its kind where it is the first of it."""
    x, y = _place(each)
    if is_chosen:
        axis.plot(x, y, "o", ms=15, mfc="none", mec="tab:green", mew=2)
    kind, marker, face, edge = (
        ("ruled out by verification", "X", "tab:red", "tab:red")
        if each.ruled_out
        else ("inside the budget", "o", _INSIDE, _INSIDE)
        if each.inside
        else ("outside", "o", "white", _OUTSIDE)
    )
    told = {str(line.get_label()) for line in axis.lines}
    label = f"_{kind}" if kind in told else kind
    axis.plot(x, y, marker, ms=6, mfc=face, mec=edge, zorder=3, label=label)


def _place(each: Scored) -> tuple[float, float]:
    """A measured candidate's speed and drift."""
    return each.fps or 0.0, each.dsc_drift_high


def _scale(axis: Axes, measured: Sequence[Scored], budget: Budget) -> None:
    """Room around the points and the limits; far drifts on a logarithmic axis."""
    drifts = [0.0, budget.max_dsc_drop, *(s.dsc_drift_high for s in measured)]
    speeds = [s.fps or 0.0 for s in measured] + ([budget.min_fps] if budget.min_fps else [])
    low, high = min(drifts), max(drifts)
    if high > _FAR * budget.max_dsc_drop:
        axis.set_yscale("symlog", linthresh=budget.max_dsc_drop)
        axis.set_ylim(low * 1.5 - 0.2 * budget.max_dsc_drop, high * 2)
    else:
        axis.set_ylim(low - 0.12 * (high - low), high + 0.12 * (high - low))
    if speeds:
        room = 0.12 * (max(speeds) - min(speeds)) or 0.1 * max(speeds)
        axis.set_xlim(max(0.0, min(speeds) - room), max(speeds) + 1.6 * room)


def _shade(axis: Axes, budget: Budget) -> None:
    """What the budget forbids."""
    left, right = axis.get_xlim()
    bottom, top = axis.get_ylim()
    axis.axhspan(budget.max_dsc_drop, top, color="tab:red", alpha=0.08, lw=0, label="out of budget")
    axis.axhline(budget.max_dsc_drop, color="tab:red", lw=0.8, ls="--")
    if budget.min_fps is not None:
        axis.axvspan(left, budget.min_fps, color="tab:red", alpha=0.08, lw=0)
        axis.axvline(budget.min_fps, color="tab:red", lw=0.8, ls="--")
    axis.set_xlim(left, right)
    axis.set_ylim(bottom, top)


def _label(
    figure: Figure, axis: Axes, measured: Sequence[Scored], chosen: Candidate | None
) -> None:
    """A label beside each point, the chosen one's first, where no other one is yet."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # settles the layout: from here on places on the page hold
    figure.set_layout_engine("none")
    transform = axis.transData.transform
    places = [tuple(float(v) for v in transform(_place(s))) for s in measured]
    reach = 5 * figure.dpi / 72
    taken = [Bbox.from_extents(x - reach, y - reach, x + reach, y + reach) for x, y in places]
    order = sorted(
        range(len(measured)),
        key=lambda i: (measured[i].candidate != chosen, not measured[i].inside, -places[i][0]),
    )
    for index in order:
        each = measured[index]
        text = axis.annotate(
            each.candidate.label,
            _place(each),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=7.5,
            va="center",
            color="0.1" if each.inside else "0.4",
            weight="bold" if each.candidate == chosen else "normal",
            arrowprops={"arrowstyle": "-", "color": "0.7", "lw": 0.5, "shrinkA": 0, "shrinkB": 4},
        )
        taken.append(_settle(text, places[index], taken, axis.bbox))


def _settle(text: Annotation, point: Sequence[float], taken: Sequence[Bbox], frame: Bbox) -> Bbox:
    """Move a label to the nearest place that overlaps least, and say what it takes there."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    size = Text.get_window_extent(text).padded(3)  # an annotation's own extent holds its arrow, too
    best: tuple[float, tuple[float, float], str, Bbox] | None = None
    for (x, y), side in _offsets():
        left = point[0] + x * _DPI / 72 - _SIDES[side] * size.width
        middle = point[1] + y * _DPI / 72
        box = Bbox.from_bounds(left, middle - size.height / 2, size.width, size.height)
        overlap = sum(_common(box, other) for other in taken) + _outside(box, frame)
        if best is None or overlap < best[0]:
            best = overlap, (x, y), side, box
        if not overlap:
            break
    assert best is not None
    text.set(position=best[1], ha=best[2])
    return best[3]


def _offsets() -> Iterator[tuple[tuple[float, float], str]]:
    """Where a label may lie, in points from its point, the nearest first."""
    for away in (0, 10, 20, 32, 46, 62, 80):
        for y in (away, -away) if away else (0,):
            yield (9.0 + away / 4, float(y)), "left"
            yield (-9.0 - away / 4, float(y)), "right"
            if away:
                yield (0.0, float(y)), "center"


def _common(one: Bbox, other: Bbox) -> float:
    """The area that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(0.0, width) * max(0.0, height))


def _outside(box: Bbox, frame: Bbox) -> float:
    """The area of a box beyond a frame."""
    return float(box.width * box.height - _common(box, frame))
