"""Verification: each mode's accuracy and speed against the baseline, its gates, the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pkecho_edge import targets
from pkecho_edge.building import engine_size
from pkecho_edge.bundle.manifest import Postprocessing
from pkecho_edge.bundle.reader import Bundle
from pkecho_edge.calibration.calibration_set import CalibrationSet
from pkecho_edge.data.clip import Clip
from pkecho_edge.data.sources import ClipSource
from pkecho_edge.errors import CalibrationError, MissingDependency, UsageError
from pkecho_edge.runtime import Engine
from pkecho_edge.runtime.stream import Stream
from pkecho_edge.runtime.window import open_window, stream_runner, stream_stepper
from pkecho_edge.stages import Observer
from pkecho_edge.targets.base import Engine as CompiledEngine
from pkecho_edge.targets.base import Session
from pkecho_edge.verify.accuracy import measure_accuracy
from pkecho_edge.verify.gallery import Gallery
from pkecho_edge.verify.gates import Gate
from pkecho_edge.verify.html import write_html
from pkecho_edge.verify.live import (
    LiveResult,
    LiveRow,
    StepFrames,
    follow_sequence,
    measure_live,
    summarize_live,
)
from pkecho_edge.verify.machine import machine_facts
from pkecho_edge.verify.report import ModeResult, Report, build_report, write_report
from pkecho_edge.verify.speed import SpeedResult, measure_speed

if TYPE_CHECKING:
    from pkecho_edge.model.network import PKEchoNet

__all__ = ["Reference", "Side", "VerifyResult", "comparable_sides"]
__all__ += ["engine_reference", "loaded_sides", "measure", "network_reference", "opened_sides"]
__all__ += ["verify_scale", "write_reports"]

SegmentFrames: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""u8 [N, 1, H, W] -> logits f32 [N, 1, H, W]."""

ON_DEVICE = "to be measured on the device"
_GRAPH_ALONE = (
    "accuracy: measured on the Q/DQ graph in ONNX Runtime, node by node; speed: not measured, "
    f"{ON_DEVICE}"
)
_UNLIMITED = 1_000_000


@dataclass(frozen=True)
class VerifyResult:
    """What was measured, and what follows.

    Attributes:
        report: with each mode's accuracy, speed and gates.
        galleries: mode -> its worst frames.
    """

    report: Report
    galleries: Mapping[str, Gallery]

    @property
    def modes(self) -> Mapping[str, ModeResult]:
        """Mode -> what was measured."""
        return self.report.modes

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Of every mode."""
        return self.report.gates


@dataclass(frozen=True)
class Side:
    """The engine of one mode.

    Attributes:
        segment: a clip, or a sequence pushed frame by frame.
        step: what is timed: a clip, or the newest frame of the window given, u8 [T, 1, H, W];
            None where an engine is timed on its device alone.
        size_bytes: of its files.
        steps: a stream of any length, frame by frame; None for the clip engine.
        timed: what was timed on the device; None where nothing was, or it is timed here.
        not_timed: why there is no speed, where there is none.
    """

    segment: SegmentFrames
    step: Callable[[NDArray[np.uint8]], object] | None
    size_bytes: int
    steps: StepFrames | None = None
    timed: SpeedResult | None = None
    not_timed: str = ON_DEVICE


@dataclass(frozen=True)
class Reference:
    """What the engines are compared with: the FP32 network, or another bundle.

    Attributes:
        segment: mode -> a clip, or a sequence pushed frame by frame.
        step: mode -> what is timed in turn with the engine's; None where it is not timed here.
        steps: a stream of any length, frame by frame; None without a stream engine.
        length: T, frames of a clip and of a window.
    """

    segment: Mapping[str, SegmentFrames]
    step: Mapping[str, Callable[[NDArray[np.uint8]], object] | None]
    steps: StepFrames | None
    length: int


def network_reference(network: PKEchoNet) -> Reference:
    """The baseline; live use of it runs the whole window for every frame, and is timed so."""
    from pkecho_edge.model.baseline import (
        baseline_runner,
        baseline_stepper,
        baseline_stream_runner,
    )

    whole = baseline_runner(network)
    return Reference(
        segment={"clip": whole, "stream": baseline_stream_runner(network)},
        step={"clip": whole, "stream": whole},
        steps=baseline_stepper(network),
        length=network.config.frames,
    )


def engine_reference(engine: Engine) -> Reference:
    """The engines of another bundle, as its users run them."""
    sides = opened_sides(engine)
    return Reference(
        segment={mode: side.segment for mode, side in sides.items()},
        step={mode: side.step for mode, side in sides.items()},
        steps=sides["stream"].steps if "stream" in sides else None,
        length=engine.bundle.manifest.window.length,
    )


def comparable_sides(
    sides: Mapping[str, Side], reference: Reference, bundle: Bundle, other: Bundle
) -> tuple[dict[str, Side], tuple[str, ...]]:
    """The engines that another bundle has a counterpart for, and a line on each other one.

    Raises:
        UsageError: sizes or windows differ, or there is no mode in common.
    """
    ours, theirs = (
        (each.manifest.preprocessing.size, each.manifest.window.length) for each in (bundle, other)
    )
    if ours != theirs:
        (height, width), length = theirs
        raise UsageError(
            f"has engines of {height}x{width} and {length} frames, not of "
            f"{ours[0][0]}x{ours[0][1]} and {ours[1]}",
            path=other.path,
            remedy="Compare bundles of one size and window",
        )
    common = {mode: side for mode, side in sides.items() if mode in reference.segment}
    if not common:
        raise UsageError(
            f"has no {' or '.join(sides)} engine to compare with",
            path=other.path,
            remedy="Compile one of the two with --mode both",
        )
    left_out = sides.keys() - common.keys()
    return common, tuple(f"{mode}: not compared, only one bundle has it" for mode in left_out)


@contextmanager
def loaded_sides(target: str, engines: Mapping[str, CompiledEngine]) -> Iterator[dict[str, Side]]:
    """The engines of a bundle that is being assembled, ready to run."""
    backend = targets.get(target)
    with ExitStack() as stack:
        sides = {}
        for mode, engine in engines.items():
            session = stack.enter_context(backend.load(engine))
            sides[mode] = (_clip_side if mode == "clip" else _stream_side)(session, engine)
        yield {mode: _timed_here(side, target) for mode, side in sides.items()}


def _timed_here(side: Side, target: str) -> Side:
    """Without the step where the engine that is loaded here is not the one of the device."""
    return replace(side, step=None) if targets.get(target).capabilities.device_kit else side


def _clip_side(session: Session, engine: CompiledEngine) -> Side:
    def segment(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return session.run({"frames": frames})["logits"].astype(np.float32, copy=False)

    return Side(segment, segment, engine_size(engine))


def _stream_side(session: Session, engine: CompiledEngine) -> Side:
    (history,) = (spec for spec in engine.inputs if spec.name == "history")
    stream = Stream(open_window(session, engine), history.shape[0] + 1, Postprocessing())
    steps = stream_stepper(session, engine)
    return Side(stream_runner(session, engine), _pushes(stream), engine_size(engine), steps)


def _pushes(stream: Stream) -> Callable[[NDArray[np.uint8]], object]:
    """A push of the newest frame of u8 [T, 1, H, W], with all that a user gets of it."""
    return lambda frames: stream.push(frames[-1, 0])


def opened_sides(engine: Engine) -> dict[str, Side]:
    """The engines of a finished bundle, as its users run them."""
    sides = {}
    for mode in engine.modes:
        size = engine_size(engine.bundle.engine(mode))
        if mode == "clip":
            sides[mode] = Side(engine.logits, engine.logits, size)
        else:
            pushes = _pushes(engine.stream())
            sides[mode] = Side(engine.stream_logits, pushes, size, engine.stream_steps)
    target = engine.bundle.manifest.target
    return {mode: _timed_here(side, target) for mode, side in sides.items()}


def measure(
    reference: Reference,
    engines: Mapping[str, Side],
    data: ClipSource,
    calibration: Sequence[CalibrationSet],
    limits: Mapping[str, float],
    lineage: Mapping[str, object],
    observer: Observer,
    warnings: Sequence[str] = (),
    device: Mapping[str, object] | None = None,
) -> VerifyResult:
    """Accuracy on every clip or sequence, then speed, then the gates; one mode after the other.

    No clip may have served any of the calibration sets. A stream's behaviour over time is measured
    on the same sequences, and on the long ones that the source is asked for. `device` says what ran
    there, where that is not this machine.

    Raises:
        CalibrationError: there is nothing to verify on, or a clip or patient also served
            calibration.
    """
    modes, galleries, left_out = {}, {}, list[str]()
    if "clip" not in engines:
        # a sequence shares no hash with a clip cut from it: look at the clips of its recordings
        for clip in replace(data, live=False):
            _check_disjoint(calibration, clip)
    for mode, engine in engines.items():
        source = replace(data, live=mode == "stream")
        modes[mode], galleries[mode] = _measure_mode(
            mode, reference, engine, source, calibration, observer
        )
        left_out += [text for text in _left_out(source) if text not in left_out]
    report = build_report(
        modes,
        {**machine_facts(), **({"device": device} if device else {})},
        {**lineage, "data": data.description},
        limits=limits,
        warnings=(*calibration[0].warnings(), *warnings, *_graph_alone(engines), *left_out),
    )
    return VerifyResult(report, galleries)


def _check_disjoint(calibration: Sequence[CalibrationSet], clip: Clip) -> None:
    """CalibrationError where a clip, or its patient, is in one of the sets."""
    for each in calibration:
        each.check_disjoint([clip])


def _graph_alone(engines: Mapping[str, Side]) -> tuple[str, ...]:
    """What a report must say where graphs stand for the engines of a device."""
    alone = all(side.step is None and side.not_timed == ON_DEVICE for side in engines.values())
    return (_GRAPH_ALONE,) if alone else ()


def verify_scale(verification: ClipSource, modes: Sequence[str]) -> str:
    """What the duration of verification depends on."""
    height, width = verification.size
    return f"{height}x{width}, {verification.description}, {' '.join(modes)}"


def write_reports(result: VerifyResult, folder: Path) -> None:
    """report.json; beside it report.html, or none at all where its packages are missing."""
    page = folder / "report.html"
    page.unlink(missing_ok=True)  # of an earlier run: the two must not disagree, killed or not
    write_report(result.report, folder / "report.json")
    with suppress(MissingDependency):
        write_html(result.report, result.galleries, page)


def _measure_mode(
    mode: str,
    reference: Reference,
    engine: Side,
    data: ClipSource,
    calibration: Sequence[CalibrationSet],
    observer: Observer,
) -> tuple[ModeResult, Gallery]:
    live, length = mode == "stream", reference.length
    last: list[Clip] = []
    rows: list[LiveRow] = []

    def checked(clips: Iterable[Clip]) -> Iterator[Clip]:
        for clip in clips:
            _check_disjoint(calibration, clip)
            last[:] = [clip]
            yield clip
            observer.advance()

    def followed(clip: Clip, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
        pairs = zip(ours[:, 0] > 0, theirs[:, 0] > 0, strict=True)
        rows.append(follow_sequence(clip.identifier, clip.patient, clip.source, pairs, length))

    observer.start(f"{mode}: accuracy", data.count if data.count < _UNLIMITED else None)
    gallery = Gallery()
    accuracy = measure_accuracy(
        reference.segment[mode],
        engine.segment,
        checked(data),
        gallery=gallery,
        watch=followed if live else None,
    )
    if not last:
        raise CalibrationError("there is nothing to verify on", remedy="Name a folder with data")
    n_frames = sum(row.n_frames for row in accuracy.rows)
    observer.done(f"{len(accuracy.rows)} {'sequences' if live else 'clips'}, {n_frames} frames")
    window = _window(last[0].frames, length)
    speed = _measure_speed(mode, reference.step[mode], engine, window, observer)
    if not live:
        return ModeResult(accuracy, speed, not_timed=engine.not_timed), gallery
    long = _measure_long(reference, engine, data, len(rows), observer)
    live_result = summarize_live(rows, length)
    return ModeResult(accuracy, speed, live_result, long, engine.not_timed), gallery


def _measure_speed(
    mode: str,
    baseline: Callable[[NDArray[np.uint8]], object] | None,
    engine: Side,
    window: NDArray[np.uint8],
    observer: Observer,
) -> SpeedResult | None:
    """None where one of the two is timed on its device alone."""
    if engine.step is None or baseline is None:
        return engine.timed
    observer.start(f"{mode}: speed", None)
    speed = measure_speed(
        baseline,
        engine.step,
        window,
        results_per_call=1 if mode == "stream" else None,
        engine_size_bytes=engine.size_bytes,
    )
    observer.done(f"{speed.engine.n} interleaved rounds")
    return speed


def _measure_long(
    reference: Reference, engine: Side, data: ClipSource, n_sequences: int, observer: Observer
) -> LiveResult | None:
    """Live behaviour on the source's long sequences; None where none are asked for.

    They are of the recordings that accuracy was measured on, the first of `n_sequences`, so none
    served calibration.
    """
    if data.long is None or engine.steps is None or reference.steps is None:
        return None
    n_frames = min(data.long.sequences, n_sequences) * data.long.frames
    observer.start("stream: long sequences", n_frames)
    live = measure_live(
        reference.steps,
        engine.steps,
        data.long_sequences(),
        reference.length,
        progress=observer.advance,
    )
    observer.done(f"{live.n_sequences} sequences, {live.n_frames} frames")
    return live


def _window(frames: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """The last `length` frames; a shorter sequence repeats its first one, as a stream does."""
    missing = max(0, length - len(frames))
    return np.ascontiguousarray(np.concatenate([frames[:1]] * missing + [frames])[-length:])


def _left_out(data: ClipSource) -> tuple[str, ...]:
    """What a report must say about recordings that could not be used."""
    if not data.skipped:
        return ()
    shown = "; ".join(data.skipped[:3]) + ("; ..." if len(data.skipped) > 3 else "")
    return (f"{len(data.skipped)} recordings were left out: {shown}",)
