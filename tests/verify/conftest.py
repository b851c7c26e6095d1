"""Clips and networks whose every figure is known on paper.

A clip shows a bright square on black, and its truth is that square. The baseline segments it
exactly; an engine that erodes it by one pixel turns a side of n into n - 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pkecho_edge.data.clip import Clip
from pkecho_edge.verify.accuracy import AccuracyResult, measure_accuracy
from pkecho_edge.verify.speed import SpeedResult, measure_speed

ED_SIDE, ES_SIDE, SIZE, LENGTH = 42, 30, 64, 4

Frames = NDArray[np.uint8]
Network = Callable[[Frames], NDArray[np.float32]]
MakeClip = Callable[..., Clip]


def square(side: int) -> NDArray[np.bool_]:
    """bool [SIZE, SIZE], a centred square of even side."""
    mask = np.zeros((SIZE, SIZE), dtype=np.bool_)
    edge = (SIZE - side) // 2
    mask[edge : edge + side, edge : edge + side] = True
    return mask


def build_clip(
    patient: str = "p0",
    name: str = "clip",
    *,
    sides: Sequence[int] = (ED_SIDE, 38, 34, ES_SIDE),
    truth: bool = True,
    spacing_mm: tuple[float, float] | None = None,
    source: str = "camus",
) -> Clip:
    """Squares shrinking from ED (first frame) to ES (last), both labelled."""
    masks = np.stack([square(side) for side in sides])
    n = len(sides)
    labelled = tuple(truth and index in (0, n - 1) for index in range(n))
    return Clip(
        identifier=f"{patient}-{name}@0-{n - 1}",
        recording=f"{patient}-{name}",
        patient=patient,
        source=source,
        frames=np.where(masks, 200, 0).astype(np.uint8)[:, None],
        frame_indices=tuple(range(n)),
        truth=masks & np.asarray(labelled)[:, None, None] if truth else None,
        labelled=labelled,
        ed_index=0,
        es_index=n - 1,
        spacing_mm=spacing_mm,
        quality="good",
    )


def exact(frames: Frames) -> NDArray[np.float32]:
    """Logits of +-5 along the square's true border."""
    return np.where(frames > 128, 5, -5).astype(np.float32)


def eroded(frames: Frames) -> NDArray[np.float32]:
    """The exact answer less one pixel all around."""
    masks = ndimage.binary_erosion(frames[:, 0] > 128, structure=np.ones((1, 3, 3)))
    return np.where(masks, 5, -5).astype(np.float32)[:, None]


class Clock:
    """Nanoseconds that pass only when a fake network says so."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def network(self, *latencies_ms: float) -> Callable[[Frames], None]:
        """A network that takes these latencies in turn, over and over."""
        calls = iter(range(1_000_000))

        def run(frames: Frames) -> None:
            self.now += int(latencies_ms[next(calls) % len(latencies_ms)] * 1e6)

        return run


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    return build_clip


@pytest.fixture(scope="session")
def baseline() -> Network:
    return exact


@pytest.fixture(scope="session")
def eroding_engine() -> Network:
    return eroded


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def five_clips() -> list[Clip]:
    """One clip of each of five patients."""
    return [build_clip(f"p{index}") for index in range(5)]


@pytest.fixture(scope="session")
def unchanged(five_clips: list[Clip]) -> AccuracyResult:
    """Of an engine identical to the baseline."""
    return measure_accuracy(exact, exact, five_clips)


@pytest.fixture(scope="session")
def degraded(five_clips: list[Clip]) -> AccuracyResult:
    """Of an engine that erodes."""
    return measure_accuracy(exact, eroded, five_clips)


@pytest.fixture(scope="session")
def time_sides() -> Callable[[float, float], SpeedResult]:
    """Baseline and engine latency in ms -> their timing."""

    def measure(baseline_ms: float, engine_ms: float) -> SpeedResult:
        clock = Clock()
        return measure_speed(
            clock.network(baseline_ms),
            clock.network(engine_ms),
            np.zeros((10, 1, 32, 32), dtype=np.uint8),
            min_seconds=0.0,
            clock=clock,
        )

    return measure
