"""How the stream engine behaves over time beside the baseline: agreement, flicker, beats.

A clip is judged whole; a live image is looked at frame after frame. So every sequence is followed
frame by frame, both sides in step, and only its row of figures stays: a sequence may be of any
length. Nothing here needs truth. Figures over sequences carry the same interval over patients as
every other (`accuracy.Summary`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, tee
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.sequence import LongSequence
from pkecho_edge.errors import UnusableInput
from pkecho_edge.metrics.area_curve import find_ed_es, split_beats
from pkecho_edge.metrics.flicker import flicker, jitter
from pkecho_edge.metrics.overlap import dice, disagreement
from pkecho_edge.metrics.trend import linear_slope
from pkecho_edge.verify.accuracy import Summary, summarize

__all__ = ["CURVE_POINTS", "SLOPE_FRAMES", "SLOPE_RULE", "CurvePoint", "LiveResult", "LiveRow"]
__all__ += ["MarkedBeat", "Period", "follow_sequence", "measure_live", "summarize_live"]

Mask: TypeAlias = NDArray[np.bool_]
Values: TypeAlias = NDArray[np.float64]
Worst: TypeAlias = Literal["lowest", "highest"]
StepFrames: TypeAlias = Callable[[Iterable[NDArray[np.uint8]]], Iterator[NDArray[np.float32]]]
"""Frames u8 [H, W] of a stream from its start -> logits f32 [H, W] of each, as they come."""

SLOPE_FRAMES = 1000
"""A slope is the change over so many frames."""

SLOPE_RULE = (
    f"least squares of the pixel disagreement behind the warming-up frames, per {SLOPE_FRAMES} "
    "frames; only sequences with another window's frames behind them have one"
)

CURVE_POINTS = 60
"""Points of the curve behind the warming-up frames, at most; each is a mean over as many frames."""

_PIXELS, _POINTS = "% of pixels", "points of area"


@dataclass(frozen=True)
class MarkedBeat:
    """Frame numbers (ED, ES) of one beat on either side; the engine's may be lost."""

    baseline: tuple[int, int]
    engine: tuple[int, int] | None

    @property
    def shift(self) -> tuple[int, int] | None:
        """How many frames the engine's ED and ES are away; None where they are lost."""
        if self.engine is None:
            return None
        (ed, es), (its_ed, its_es) = self.baseline, self.engine
        return abs(its_ed - ed), abs(its_es - es)


@dataclass(frozen=True, eq=False)
class LiveRow:
    """What one sequence gave. nan: not measured or not defined.

    Attributes:
        identifier, patient, source: of the sequence.
        n_frames: of the sequence. length: T, frames of a window.
        pixel_disagreement: percent of pixels on which engine and baseline differ, per frame.
        agreement_dsc: percent, per frame.
        areas_baseline, areas_engine: pixels of each side's mask, per frame.
        beats: those in which the baseline's area has an ED and an ES.
        slope: of pixel_disagreement behind the warming-up frames, percent of pixels per
            SLOPE_FRAMES frames. first_quarter, last_quarter: its mean over the first and the last
            quarter of them. All nan where fewer than T such frames are there.
        flicker: percent of pixels, mean over frame pairs; nan for one frame.
        jitter, area_change_baseline, area_change_engine: points of the baseline's mean area, as
            `metrics.flicker.jitter`.
        ed_shift, es_shift: mean of the absolute shifts of the other beats, in frames.
    """

    identifier: str
    patient: str
    source: str
    n_frames: int
    length: int
    pixel_disagreement: Values
    agreement_dsc: Values
    areas_baseline: Values
    areas_engine: Values
    beats: tuple[MarkedBeat, ...]
    slope: float
    first_quarter: float
    last_quarter: float
    flicker: float
    jitter: float
    area_change_baseline: float
    area_change_engine: float
    ed_shift: float
    es_shift: float

    @property
    def n_beats(self) -> int:
        """In which the baseline's area has an ED and an ES."""
        return len(self.beats)

    @property
    def n_beats_lost(self) -> int:
        """Of these, in which the engine's has none."""
        return sum(beat.engine is None for beat in self.beats)

    @property
    def quarter_change(self) -> float:
        """Last minus first quarter, percent of pixels: above 0 the sides have drifted apart."""
        return self.last_quarter - self.first_quarter

    @property
    def ed_es_shift(self) -> float:
        """Mean of both shifts, in frames."""
        return (self.ed_shift + self.es_shift) / 2


@dataclass(frozen=True)
class Period:
    """Agreement over a part of every sequence; one that has no such frames does not count."""

    pixel_disagreement: Summary
    agreement_dsc: Summary


@dataclass(frozen=True)
class CurvePoint:
    """Pixel disagreement at one place in the sequences, in percent.

    Attributes:
        first, last: frame numbers from 0, both of them in it.
        mean, low, high: over sequences, with the 95 % interval over patients; nan as in Summary.
        n_sequences: that are long enough.
    """

    first: int
    last: int
    mean: float
    low: float
    high: float
    n_sequences: int


@dataclass(frozen=True, eq=False)
class LiveResult:
    """Rows, one per sequence in the order given, and what they say together.

    Attributes:
        length: T, frames of a window.
        warming_up: frames 0 to T - 2, whose window repeats the first frame. next_window: the T
            frames after them. later: all others.
        slope, first_quarter, last_quarter, quarter_change, flicker, jitter, area_change_baseline,
            area_change_engine, ed_shift, es_shift, ed_es_shift: of the rows.
        curve: by place in the sequence: each warming-up frame, then CURVE_POINTS at most.
    """

    rows: tuple[LiveRow, ...]
    length: int
    warming_up: Period
    next_window: Period
    later: Period
    slope: Summary
    first_quarter: Summary
    last_quarter: Summary
    quarter_change: Summary
    flicker: Summary
    jitter: Summary
    area_change_baseline: Summary
    area_change_engine: Summary
    ed_shift: Summary
    es_shift: Summary
    ed_es_shift: Summary
    curve: tuple[CurvePoint, ...]

    @property
    def n_sequences(self) -> int:
        return len(self.rows)

    @property
    def n_patients(self) -> int:
        return len({(row.source, row.patient) for row in self.rows})

    @property
    def n_frames(self) -> int:
        """Of all sequences."""
        return sum(row.n_frames for row in self.rows)

    @property
    def n_beats(self) -> int:
        """In which the baseline has an ED and an ES."""
        return sum(row.n_beats for row in self.rows)

    @property
    def n_beats_lost(self) -> int:
        """Of these, in which the engine has none."""
        return sum(row.n_beats_lost for row in self.rows)

    @property
    def n_without_beat(self) -> int:
        """Sequences in which the baseline's area has no ED and ES: they have no shift."""
        return sum(row.n_beats == 0 for row in self.rows)

    @property
    def unshifted(self) -> float:
        """Percent of the sequences with a shift to measure in which ED and ES never move."""
        shifts = [row.ed_es_shift for row in self.rows if not math.isnan(row.ed_es_shift)]
        return 100 * float(np.mean(np.equal(shifts, 0))) if shifts else math.nan


def measure_live(
    baseline: StepFrames,
    engine: StepFrames,
    sequences: Iterable[LongSequence],
    length: int,
    progress: Callable[[], None] | None = None,
) -> LiveResult:
    """Run both, in step, on every sequence; at most a few frames are held at a time.

    Args:
        baseline, engine: give a stream's logits frame by frame.
        sequences: none: every figure is nan and every count 0.
        length: T, frames of a window.
        progress: called after each frame.

    Raises:
        UnusableInput: the baseline's logits are not finite. The engine's may be: nan is background.
    """
    rows = []
    for sequence in sequences:
        ours, theirs = tee(sequence.frames())
        logits = zip(baseline(ours), engine(theirs), strict=True)
        pairs = _masks(logits, sequence.identifier, progress)
        identity = sequence.identifier, sequence.patient, sequence.source
        rows.append(follow_sequence(*identity, pairs, length))
    return summarize_live(rows, length)


def _masks(
    logits: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]],
    name: str,
    progress: Callable[[], None] | None,
) -> Iterator[tuple[Mask, Mask]]:
    """Masks (baseline, engine) of each pair of logits f32 [H, W]."""
    for ours, theirs in logits:
        if not np.isfinite(ours).all():
            raise UnusableInput(
                f"the baseline returns nan or infinite logits on sequence {name!r}",
                remedy="Check the baseline checkpoint: nothing can be compared with it",
            )
        yield ours > 0, theirs > 0
        if progress is not None:
            progress()


def follow_sequence(
    identifier: str,
    patient: str,
    source: str,
    pairs: Iterable[tuple[Mask, Mask]],
    length: int,
) -> LiveRow:
    """The figures of one sequence.

    Args:
        identifier, patient, source: of the sequence.
        pairs: masks (baseline, engine) bool [H, W] of each frame in time order; drawn one by one,
            two are held.
        length: T, frames of a window, at least 1.

    Returns:
        LiveRow. Without any frame all figures are nan and all counts 0.
    """
    differ, overlap, flickers = list[float](), list[float](), list[float]()
    areas: tuple[list[float], list[float]] = [], []
    before: tuple[Mask, Mask] | None = None
    for pair in pairs:
        differ.append(100 * float(disagreement(*pair)))
        overlap.append(100 * float(dice(*pair)))
        for side, mask in zip(areas, pair, strict=True):
            side.append(float(np.count_nonzero(mask)))
        if before is not None:
            two = [np.stack(masks) for masks in zip(before, pair, strict=True)]
            flickers.append(100 * float(flicker(*two)[0]))
        before = pair
    spread, settled, beats = jitter(*areas), np.array(differ[length - 1 :]), _beats(*areas)
    shifts = [beat.shift for beat in beats if beat.shift is not None]
    steady = settled.size >= length  # too few frames say nothing about a trend
    quarter = max(1, settled.size // 4)
    return LiveRow(
        identifier=identifier,
        patient=patient,
        source=source,
        n_frames=len(differ),
        length=length,
        pixel_disagreement=np.array(differ),
        agreement_dsc=np.array(overlap),
        areas_baseline=np.array(areas[0]),
        areas_engine=np.array(areas[1]),
        beats=beats,
        slope=SLOPE_FRAMES * linear_slope(settled) if steady else math.nan,
        first_quarter=_mean(settled[:quarter]) if steady else math.nan,
        last_quarter=_mean(settled[-quarter:]) if steady else math.nan,
        flicker=_mean(flickers),
        jitter=100 * spread.difference,
        area_change_baseline=100 * spread.reference,
        area_change_engine=100 * spread.other,
        ed_shift=_mean([shift[0] for shift in shifts]),
        es_shift=_mean([shift[1] for shift in shifts]),
    )


def _beats(reference: Sequence[float], other: Sequence[float]) -> tuple[MarkedBeat, ...]:
    """ED and ES on both sides of each of the reference's beats that has them. Areas [N] each."""
    marked = []
    for beat in split_beats(reference) if reference else []:
        ours, theirs = (_placed(find_ed_es(side[beat]), beat.start) for side in (reference, other))
        if ours is not None:
            marked.append(MarkedBeat(ours, theirs))
    return tuple(marked)


def _placed(found: tuple[int, int] | None, start: int) -> tuple[int, int] | None:
    """Frame numbers of the sequence, of numbers in a beat that starts there."""
    return found and (found[0] + start, found[1] + start)


def summarize_live(rows: Sequence[LiveRow], length: int) -> LiveResult:
    """What the rows say together.

    Args:
        rows: of sequences with windows of the same length; none: all figures nan, counts 0.
        length: T, frames of a window.
    """

    def over_rows(name: str, unit: str, worst: Worst = "highest") -> Summary:
        return summarize(rows, [float(getattr(row, name)) for row in rows], unit, worst)

    slope_unit = f"{_PIXELS} per {SLOPE_FRAMES} frames"
    return LiveResult(
        rows=tuple(rows),
        length=length,
        warming_up=_period(rows, slice(0, length - 1)),
        next_window=_period(rows, slice(length - 1, 2 * length - 1)),
        later=_period(rows, slice(2 * length - 1, None)),
        slope=over_rows("slope", slope_unit),
        first_quarter=over_rows("first_quarter", _PIXELS),
        last_quarter=over_rows("last_quarter", _PIXELS),
        quarter_change=over_rows("quarter_change", _PIXELS),
        flicker=over_rows("flicker", _PIXELS),
        jitter=over_rows("jitter", _POINTS),
        area_change_baseline=over_rows("area_change_baseline", _POINTS),
        area_change_engine=over_rows("area_change_engine", _POINTS),
        ed_shift=over_rows("ed_shift", "frames"),
        es_shift=over_rows("es_shift", "frames"),
        ed_es_shift=over_rows("ed_es_shift", "frames"),
        curve=_curve(rows, length),
    )


def _period(rows: Sequence[LiveRow], frames: slice) -> Period:
    """Of a sequence's frames in this part, each sequence with the same weight."""
    return Period(
        summarize(
            rows, [_mean(row.pixel_disagreement[frames]) for row in rows], _PIXELS, "highest"
        ),
        summarize(rows, [_mean(row.agreement_dsc[frames]) for row in rows], "%", "lowest"),
    )


def _curve(rows: Sequence[LiveRow], length: int) -> tuple[CurvePoint, ...]:
    """Points of equal width behind the warming-up frames; the last one may be narrower."""
    longest = max((row.n_frames for row in rows), default=0)
    warm = min(length - 1, longest)
    width = max(1, math.ceil((longest - warm) / CURVE_POINTS))
    starts = [*range(warm), *range(warm, longest, width)]
    points = []
    for start, end in pairwise([*starts, longest]):
        values = [_mean(row.pixel_disagreement[start:end]) for row in rows]
        found = summarize(rows, values, _PIXELS, "highest")
        points.append(CurvePoint(start, end - 1, found.mean, found.low, found.high, found.n_clips))
    return tuple(points)


def _mean(values: Sequence[float] | Values) -> float:
    """nan for none."""
    return float(np.mean(values)) if len(values) else math.nan
