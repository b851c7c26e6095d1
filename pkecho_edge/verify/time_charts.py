"""Charts of what happens over time: a sequence's frames, and calls that were timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkecho_edge.verify.drawing import BASELINE, ENGINE, LIMIT, MUTED, SIDES, chart, whole_numbers
from pkecho_edge.verify.words import Document, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["area_curve", "disagreement_by_frame", "latency_by_round", "latency_distribution"]

_LOG_FROM = 3.0
"""Ratio of the slowest to the fastest call from which latency gets a logarithmic axis."""


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
            axis.fill_between(where, low, high, color=ENGINE, alpha=0.2, lw=0, label=label)
        dots = "o-" if len(curve) == 1 else "-"
        axis.plot(middle, mean, dots, ms=3, color=ENGINE, lw=1.4, label="mean over sequences")
        if middle[-1] >= live["length"] - 1:
            axis.axvline(live["length"] - 1, color=LIMIT, lw=1.2, ls="--", label="window is full")
        axis.set_xlabel("frame of the sequence, from 0")
        axis.set_ylabel("pixels that differ, %")
        axis.set_ylim(bottom=0)
        whole_numbers(axis.xaxis)

    alt = (
        f"Pixels that differ from the baseline by frame, {live['n_sequences']} sequences of up to "
        f"{curve[-1]['last'] + 1} frames: {number(mean[0], 4)} % at the first, "
        f"{number(mean[-1], 4)} % at the last place."
    )
    return chart(f"{name}-curve", alt, draw)


def area_curve(name: str, curve: Document) -> str:
    """Area of both sides over a sequence, with ED and ES of each beat marked.

    Args:
        name: part of the element's names.
        curve: one of a mode's `area_curves`.

    Returns:
        An svg element; "" without a frame.
    """
    areas = {side: curve[f"areas_{side}"] for side in SIDES}
    if not areas["baseline"]:
        return ""

    def draw(axis: Axes) -> None:
        for side, style in (("baseline", "-"), ("engine", "--")):
            color, _ = SIDES[side]
            axis.plot(areas[side], style, color=color, lw=1.4, label=side)
            for phase, marker in enumerate(("^", "v")):
                frames = [beat[side][phase] for beat in curve["beats"] if beat[side] is not None]
                axis.plot(frames, [areas[side][f] for f in frames], marker, ms=5, color=color)
        for marker, label in (("^", "ED"), ("v", "ES")):
            axis.plot([], [], marker, ms=5, color=MUTED, label=label)
        axis.set_xlabel("frame of the sequence, from 0")
        axis.set_ylabel("area, pixels")
        axis.set_ylim(bottom=0)
        whole_numbers(axis.xaxis)

    alt = (
        f"Area of the ventricle over {len(areas['baseline'])} frames, baseline "
        f"{min(areas['baseline']):.0f} to {max(areas['baseline']):.0f} pixels, engine "
        f"{min(areas['engine']):.0f} to {max(areas['engine']):.0f}; {len(curve['beats'])} beats."
    )
    return chart(name, alt, draw)


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
        for name, color, style in (("baseline", BASELINE, "-"), ("engine", ENGINE, "--")):
            side = speed[name]
            axis.ecdf(side["latency_ms"], color=color, ls=style, lw=1.6, label=name)
            for percent, marker in ((50, "o"), (95, "s"), (99, "^")):
                value = side[f"latency_ms_p{percent}"]
                axis.plot(value, percent / 100, marker, ms=4.5, color=color)
        for percent, marker in ((50, "o"), (95, "s"), (99, "^")):
            axis.plot([], [], marker, ms=4.5, color=MUTED, label=f"p{percent}")
        axis.set_xlabel("latency of a call, ms")
        axis.set_ylabel("share of calls")
        _latency_axis(axis, "x", speed)

    return chart(
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
        for name, color, style in (("baseline", BASELINE, "o-"), ("engine", ENGINE, "s--")):
            latency = speed[name]["latency_ms"]
            dots = 3 if len(latency) <= 200 else 0
            rounds = range(1, len(latency) + 1)
            axis.plot(rounds, latency, style, ms=dots, lw=1, color=color, label=name)
        axis.set_xlabel("round (one call of each side)")
        axis.set_ylabel("latency of a call, ms")
        whole_numbers(axis.xaxis)
        _latency_axis(axis, "y", speed)

    alt = f"Latency of each of {speed['engine']['n']} interleaved rounds: {_latency_alt(speed)}"
    return chart(f"{mode}-rounds", alt, draw)


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
