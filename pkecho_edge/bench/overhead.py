"""What the runtime adds to the bare toolchain, and whether its memory stays where it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkecho_edge import targets
from pkecho_edge.bench.memory import resident_mb
from pkecho_edge.bench.rows import BenchRow, make_row
from pkecho_edge.bench.turns import take_turns
from pkecho_edge.bundle.reader import Bundle, check_bundle
from pkecho_edge.data.sources import phantoms
from pkecho_edge.data.standard import TUNING_SEEDS
from pkecho_edge.errors import UsageError
from pkecho_edge.runtime import Stream, open_window
from pkecho_edge.stages import Observer
from pkecho_edge.targets.base import Engine, Session
from pkecho_edge.targets.openvino_profile import compile_engine

__all__ = ["SETTLED", "Growth", "OverheadRow", "measure_growth", "measure_overhead"]

SETTLED = 1000
"""Frames after which a stream's memory should not grow any more."""


@dataclass(frozen=True)
class OverheadRow(BenchRow):
    """One way to run the stream engine.

    Attributes:
        p50_ratio, p99_ratio: the runtime's push over this way's, so 1 for the push itself.
    """

    p50_ratio: float
    p99_ratio: float


@dataclass(frozen=True)
class Growth:
    """Resident memory of a stream, in MB of 10^6 bytes, after SETTLED frames and after all."""

    frames: int
    settled_mb: float
    end_mb: float

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {**asdict(self), "growth_mb": self.end_mb - self.settled_mb}


def measure_overhead(bundle: Path, rounds: int, observer: Observer) -> list[OverheadRow]:
    """Time the runtime's push beside OpenVINO's own calls, turn by turn, on one stream engine.

    The push (copy in, engine, mask, area) and the bound call share one loaded engine. The plain
    call is `request.infer({...})` as OpenVINO's documents show it, on the engine loaded once more.

    Args:
        bundle: of target `cpu`, with a stream engine.
        rounds: turns of each way.
        observer: hears about progress.

    Returns:
        push, bound call, plain call.

    Raises:
        UsageError: another target, or no such folder.
        IntegrityError, EnvironmentMismatch: the bundle cannot be opened, or has no stream engine.
    """
    checked, engine = _open(bundle)
    if engine.target != "cpu":
        raise UsageError(
            f"the bundle is for target {engine.target}, not cpu",
            path=bundle,
            remedy="Give a bundle that OpenVINO runs",
        )
    frames = _frames(checked)
    with targets.get(engine.target).load(engine) as session:
        ways = {
            "runtime, push": _pushes(_stream(checked, engine, session), frames),
            "OpenVINO, bound call": session.bind(
                _inputs(engine, frames), {spec.name: spec.zeros() for spec in engine.outputs}
            ),
            "OpenVINO, infer({...})": _plain_call(engine, frames),
        }
        observer.start("time turn by turn", rounds)
        taken = take_turns(list(ways.values()), rounds, advance=observer.advance)
        observer.done(f"{rounds} rounds")
    precision = f"int8 + {engine.options.get('float_precision', 'f32')}"
    size = checked.manifest.preprocessing.size
    rows = [
        make_row(name, "stream", _backbone(checked), size, precision, latencies, 1)
        for name, latencies in zip(ways, taken, strict=True)
    ]
    return [
        OverheadRow(
            **vars(row),
            p50_ratio=rows[0].latency_ms_p50 / row.latency_ms_p50,
            p99_ratio=rows[0].latency_ms_p99 / row.latency_ms_p99,
        )
        for row in rows
    ]


def measure_growth(bundle: Path, frames: int, observer: Observer) -> Growth | None:
    """Push many frames through one stream and watch resident memory; None where it is not known.

    Args:
        bundle: with a stream engine.
        frames: more than SETTLED.
        observer: hears about progress, a step per SETTLED frames.

    Raises:
        UsageError: too few frames.
    """
    if frames <= SETTLED:
        raise UsageError(f"{frames} frames", remedy=f"Ask for more than {SETTLED}")
    checked, engine = _open(bundle)
    with targets.get(engine.target).load(engine) as session:
        push = _pushes(_stream(checked, engine, session), _frames(checked))
        observer.start("push", frames // SETTLED)
        settled: float | None = None
        for pushed in range(1, frames + 1):
            push()
            if pushed == SETTLED:
                settled = resident_mb()
            if pushed % SETTLED == 0:
                observer.advance()
        end = resident_mb()
        observer.done(f"{frames} frames")
    return None if settled is None or end is None else Growth(frames, settled, end)


def _open(bundle: Path) -> tuple[Bundle, Engine]:
    checked = check_bundle(bundle)
    return checked, checked.engine("stream")


def _backbone(bundle: Bundle) -> str:
    """As its lineage says, "unknown" where it does not."""
    network = bundle.manifest.lineage.configuration.get("network")
    return str(network.get("backbone", "unknown")) if isinstance(network, dict) else "unknown"


def _frames(bundle: Bundle) -> NDArray[np.uint8]:
    """u8 [T, 1, H, W] at the engine's size."""
    return next(iter(phantoms(TUNING_SEEDS[:1], bundle.manifest.preprocessing.size))).frames


def _stream(bundle: Bundle, engine: Engine, session: Session) -> Stream:
    manifest = bundle.manifest
    return Stream(open_window(session, engine), manifest.window.length, manifest.postprocessing)


def _pushes(stream: Stream, frames: NDArray[np.uint8]) -> Callable[[], object]:
    following = itertools.cycle(frames[:, 0])
    return lambda: stream.push(next(following))


def _plain_call(engine: Engine, frames: NDArray[np.uint8]) -> Callable[[], object]:
    request, inputs = compile_engine(engine).create_infer_request(), _inputs(engine, frames)
    return lambda: request.infer(inputs)


def _inputs(engine: Engine, frames: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    inputs = {spec.name: spec.zeros() for spec in engine.inputs}
    return {**inputs, "frame": np.ascontiguousarray(frames[:1])}
