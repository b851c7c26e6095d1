"""Synthetic apical four-chamber recordings with exact ground truth, deterministic by seed.

For building, testing and demonstrating the tool where no patient data may be shipped. Dice on
phantoms is not clinical Dice: say so wherever a number is printed.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.clip import CLIP_LENGTH
from pkecho_edge.data.phantom_anatomy import Anatomy, contraction, draw_anatomy
from pkecho_edge.data.phantom_imaging import Acquisition, Scanner, draw_acquisition
from pkecho_edge.data.recording import Recording
from pkecho_edge.errors import UsageError

__all__ = [
    "QUALITIES",
    "PhantomSpec",
    "draw_spec",
    "phantom_clip_recording",
    "phantom_frames",
    "phantom_recording",
    "phantom_recordings",
    "rendered",
    "rendered_phases",
]

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

QUALITIES = ("good", "medium", "poor")
_QUALITY_SHARES = (0.4, 0.4, 0.2)


@dataclass(frozen=True)
class PhantomSpec:
    """All that determines a phantom recording apart from its size in pixels."""

    seed: int
    quality: str
    anatomy: Anatomy
    acquisition: Acquisition
    start_phase: float

    @property
    def identifier(self) -> str:
        """Unique by seed; every phantom is a patient of its own."""
        return f"phantom-{self.seed:07d}"


def draw_spec(seed: int, quality: str | None = None) -> PhantomSpec:
    """Draw a phantom.

    Args:
        seed: 0 or more; the same seed and quality give the same phantom.
        quality: one of QUALITIES; None draws good/medium/poor with 40/40/20 %.

    Raises:
        UsageError: a negative seed, or an unknown quality.
    """
    if seed < 0 or quality not in (None, *QUALITIES):
        raise UsageError(
            f"there is no phantom of seed {seed} and quality {quality!r}",
            remedy=f"Use a seed of 0 or more and one of {', '.join(QUALITIES)}",
        )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    drawn = str(rng.choice(QUALITIES, p=_QUALITY_SHARES))
    return PhantomSpec(
        seed=seed,
        quality=quality or drawn,
        anatomy=draw_anatomy(rng),
        acquisition=draw_acquisition(rng, quality or drawn),
        start_phase=float(rng.uniform(0.55, 0.98)),
    )


def phantom_recording(spec: PhantomSpec, *, size: tuple[int, int] = (128, 128)) -> Recording:
    """A whole recording: starts in diastole, holds one ED, the ES after it and the refilling.

    Returns:
        a Recording with truth on every frame, spacing and frame rate; ED before ES.
    """
    step = _cycles_per_frame(spec)
    count = int(np.ceil((1.9 - spec.start_phase) / step))
    phases = spec.start_phase + step * np.arange(count)
    ed = int(np.argmin(np.abs(phases - 1.0)))
    es = int(np.argmin(np.abs(phases - 1.0 - spec.anatomy.systole_share)))
    return rendered_phases(spec, phases, size, ed, es)


def phantom_frames(
    spec: PhantomSpec, count: int, *, size: tuple[int, int] = (128, 128)
) -> Iterator[NDArray[np.uint8]]:
    """The first `count` frames u8 [H, W] of a heart that goes on beating, made one at a time.

    They begin as `phantom_recording` does, with the same bytes, and no frame is shown twice:
    contraction is periodic, the blood flows on and the noise is drawn anew, so nothing jumps.
    """
    scanner = Scanner(spec.anatomy, spec.acquisition, size, spec.seed)
    for index in range(count):
        phase = spec.start_phase + _cycles_per_frame(spec) * index
        contracted = float(contraction(spec.anatomy, phase))
        yield scanner.frame(contracted, phase * 60 / spec.anatomy.heart_rate_bpm)


def _cycles_per_frame(spec: PhantomSpec) -> float:
    return spec.anatomy.heart_rate_bpm / 60 / spec.acquisition.frame_rate_hz


def phantom_clip_recording(
    spec: PhantomSpec, *, length: int = CLIP_LENGTH, size: tuple[int, int] = (128, 128)
) -> Recording:
    """Only the `length` frames equidistant from ED (frame 0) to ES (the last): cheap to render."""
    phases = np.linspace(0.0, spec.anatomy.systole_share, length)
    return rendered_phases(spec, phases, size, 0, length - 1)


def rendered_phases(
    spec: PhantomSpec, phases: np.ndarray, size: tuple[int, int], ed: int, es: int
) -> Recording:
    """The frames at these phases, f64 [N], shares of the cycle since an ED; ED and ES are named."""
    scanner = Scanner(spec.anatomy, spec.acquisition, size, spec.seed)
    contracted = contraction(spec.anatomy, phases)
    seconds = phases * 60 / spec.anatomy.heart_rate_bpm
    frames = [scanner.frame(float(c), float(t)) for c, t in zip(contracted, seconds, strict=True)]
    return Recording(
        identifier=spec.identifier,
        patient=spec.identifier,
        source="phantom",
        frames=np.stack(frames),
        frame_rate_hz=spec.acquisition.frame_rate_hz,
        spacing_mm=scanner.spacing_mm,
        ed_index=ed,
        es_index=es,
        labelled=tuple(range(len(frames))),
        masks=np.stack([scanner.mask(float(c)) for c in contracted]),
        quality=spec.quality,
    )


def phantom_recordings(
    specs: Sequence[PhantomSpec], *, size: tuple[int, int], workers: int = 1
) -> Iterator[Recording]:
    """Whole recordings in the order of `specs`, the same bytes for any number of workers.

    Args:
        specs: may be empty.
        size: (H, W) in pixels.
        workers: processes that render; 1 renders in this one.
    """
    return rendered(partial(phantom_recording, size=size), specs, workers)


def rendered(
    render: Callable[[_Item], _Made], items: Sequence[_Item], workers: int
) -> Iterator[_Made]:
    """`render` of each item in order, by so many processes; few items are not worth any.

    No more than a few are made ahead of whoever takes them, so memory does not grow with their
    number.
    """
    if workers <= 1 or len(items) < 4:
        yield from map(render, items)
        return
    # spawn: forking a process whose libraries run threads can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting: deque[Future[_Made]] = deque()
        for item in items:
            waiting.append(pool.submit(render, item))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
