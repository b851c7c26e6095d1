"""The recordings that a pruned network recovers on: a folder, or phantoms made on the spot.

Live use shows a network ten frames in a row from anywhere in the beat, recorded studies ten frames
from ED to ES. Lessons are of both kinds, half and half, because the network must serve both.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.clip import Clip, clip_at, clip_indices
from pkecho_edge.data.dataset import Dataset, Skipped, iterate
from pkecho_edge.data.files_below import data_files
from pkecho_edge.data.layouts import open_dataset
from pkecho_edge.data.phantom import PhantomSpec, draw_spec, rendered, rendered_phases
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.standard import TRAINING_SEEDS, TUNING_SEEDS
from pkecho_edge.errors import DatasetError, UsageError
from pkecho_edge.files import feed_digest
from pkecho_edge.processors import allowed_cores

__all__ = ["HELD_OUT", "LessonSource", "lesson_windows"]

HELD_OUT = 24
"""Clips on which recovery is watched, of each size; they are never learned from."""

_SEEDS = TRAINING_SEEDS[500_000:]  # not those that the packaged network was trained on
_HELD_SEEDS = TUNING_SEEDS[500_000:]  # not those that quantizations are tried on
_LONGEST_STEP = 3.0


@dataclass(frozen=True)
class LessonSource:
    """Where lessons come from.

    Attributes:
        root: of a dataset of any layout; labels are not needed. None for phantoms.
        phantoms: how many of them to learn from, of each size; each gives one clip.
        windows: clips of each recording of a dataset, at most.
        most: clips of a dataset, at most: of each recording as many as that leaves, and of more
            recordings than that some, whoever they are of.
        seed: of the windows.

    Raises:
        UsageError: none of them.
    """

    root: Path | None = None
    phantoms: int = 400
    windows: int = 4
    most: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.phantoms, self.windows, self.most) < 1:
            raise UsageError(
                f"{self.phantoms} phantoms, or {self.windows} windows and {self.most} clips at "
                "most, leave nothing to learn from",
                remedy="Give at least one of each",
            )

    @property
    def description(self) -> str:
        """For people."""
        return f"{self.phantoms} phantoms" if self.root is None else self.root.name

    def at_most(self, clips: int) -> LessonSource:
        """The same, with no more clips to learn from than that; as many are held out."""
        return replace(self, phantoms=min(self.phantoms, clips), most=min(self.most, clips))

    def key(self) -> dict[str, object]:
        """What the lessons depend on, JSON-ready: the recordings' content, not where they lie."""
        if self.root is None:
            return {"phantoms": self.phantoms}
        content = _content_sha256(self.root)
        given = {"windows": self.windows, "most": self.most, "seed": self.seed}
        return {**given, "content": content}

    def expected(self) -> int:
        """Clips to learn from, if all recordings can be read and are long enough.

        Raises:
            DatasetError: as `clips`.
        """
        if self.root is None:
            return self.phantoms
        recordings = sum(self._wanted(open_dataset(self.root, None), held_out=False))
        return min(self.most, recordings * self.windows)

    def clips(
        self, size: tuple[int, int], length: int, *, held_out: bool, on_skip: Callable[[str], None]
    ) -> Iterator[Clip]:
        """The clips to learn from, or those that are held out; never of the same patient.

        Args:
            size: (H, W) in pixels.
            length: T.
            held_out: of a dataset its VAL, and without one every tenth patient.
            on_skip: hears of each recording that gives no clip, and why.

        Raises:
            DatasetError: not a dataset, or only one patient to both learn from and watch on.
        """
        if self.root is not None:
            yield from self._of_dataset(self.root, size, length, held_out, on_skip)
            return
        seeds = _HELD_SEEDS[:HELD_OUT] if held_out else _SEEDS[: self.phantoms]
        render = partial(_window_recording, size=size, length=length)
        for recording in rendered(render, [draw_spec(seed) for seed in seeds], allowed_cores()):
            yield clip_at(recording, tuple(range(length)), size)

    def _of_dataset(
        self,
        root: Path,
        size: tuple[int, int],
        length: int,
        held_out: bool,
        on_skip: Callable[[str], None],
    ) -> Iterator[Clip]:
        dataset = open_dataset(root, None)
        wanted = self._wanted(dataset, held_out=held_out)
        left = HELD_OUT if held_out else self.most
        windows = self.windows if held_out else min(self.windows, max(1, left // sum(wanted)))
        for recording in _chosen(dataset, wanted, on_skip):
            rng = np.random.default_rng((self.seed, _rank(recording.identifier)))
            found = lesson_windows(recording, length, windows, rng)[:left]
            if not found:
                on_skip(f"{recording.identifier}: a single frame is no clip")
            for indices in found:
                yield clip_at(recording, indices, size)
            left -= len(found)
            if left == 0:
                return

    def _wanted(self, dataset: Dataset, *, held_out: bool) -> list[bool]:
        """Of each recording whether it is learned from, or watched on; some are True."""
        kept = _held_out_patients(dataset)
        sides = zip(dataset.patients, dataset.splits, strict=True)
        wanted = [split != "TEST" and (patient in kept) is held_out for patient, split in sides]
        if held_out or sum(wanted) <= self.most:
            return wanted
        ranked = sorted(
            (_rank(name), at) for at, name in enumerate(dataset.identifiers) if wanted[at]
        )
        chosen = {at for _, at in ranked[: self.most]}
        return [at in chosen for at in range(len(wanted))]


def _rank(identifier: str) -> int:
    """An order of recordings that has nothing to do with their names."""
    return int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8], "little")


def lesson_windows(
    recording: Recording, length: int, count: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Frame numbers of up to `count` different clips: calibration's own, then from anywhere.

    Those from anywhere are `length` frames one, two or three frames apart. A recording too short
    for even one of them gives those of `clip_indices` alone, and one of a single frame none.
    """
    frames = len(recording.frames)
    if frames < 2:
        return []
    found = clip_indices(_without_labels_at_odds(recording), length)[: max(1, count // 2)]
    for _ in range(4 * count):
        step = int(rng.integers(1, int(_LONGEST_STEP) + 1))
        room = frames - (length - 1) * step
        if len(found) >= count or frames < length:
            break
        if room >= 1:
            start = int(rng.integers(room))
            window = tuple(range(start, start + length * step, step))
            if window not in found:
                found.append(window)
    return found


def _without_labels_at_odds(recording: Recording) -> Recording:
    """ED and ES on one frame say nothing about a clip."""
    if recording.ed_index == recording.es_index:
        return replace(recording, ed_index=None, es_index=None)
    return recording


def _window_recording(spec: PhantomSpec, *, size: tuple[int, int], length: int) -> Recording:
    """Only the frames of one clip: from ED to ES of an even seed, else in a row from anywhere."""
    phases: NDArray[np.float64]
    if spec.seed % 2 == 0:
        phases = np.linspace(0.0, spec.anatomy.systole_share, length)
    else:
        rng = np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=(7,)))
        a_frame = spec.anatomy.heart_rate_bpm / 60 / spec.acquisition.frame_rate_hz
        step = a_frame * rng.uniform(1, _LONGEST_STEP)
        phases = (rng.uniform() + step * np.arange(length)).astype(np.float64)
    recording = rendered_phases(spec, phases, size, 0, length - 1)
    return replace(recording, ed_index=None, es_index=None)


def _held_out_patients(dataset: Dataset) -> frozenset[str]:
    """Of VAL where there is one, else every tenth by a hash of its name; TEST is left alone.

    Raises:
        DatasetError: there are no two patients.
    """
    sides = zip(dataset.patients, dataset.splits, strict=True)
    usable = {patient for patient, split in sides if split != "TEST"}
    named = {
        patient
        for patient, split in zip(dataset.patients, dataset.splits, strict=True)
        if split == "VAL"
    }
    ranked = sorted(usable, key=lambda name: hashlib.sha256(name.encode()).digest())
    held = named or set(ranked[: max(1, len(ranked) // 10)])
    if not held or not usable - held:
        raise DatasetError(
            f"{len(usable)} patients cannot be learned from and watched on",
            path=dataset.root,
            remedy="Recover on at least two patients outside TEST: pkecho-edge data check DIR",
        )
    return frozenset(held)


def _chosen(
    dataset: Dataset, wanted: Sequence[bool], on_skip: Callable[[str], None]
) -> Iterator[Recording]:
    from pkecho_edge.data.sides import Part

    def tell(skipped: Skipped) -> None:
        on_skip(str(skipped))

    yield from iterate(Part(dataset, wanted, "TRAIN", speaks=True), tell)


def _content_sha256(root: Path) -> str:
    """Of every file below a folder, or of the one file; not of what this tool may leave there.

    Raises:
        DatasetError: one of them cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in data_files(root):
            digest.update(os.fsencode(path.relative_to(root)))
            digest.update(f"\0{path.stat().st_size}\n".encode())
            feed_digest(digest, path)
    except OSError as error:
        raise DatasetError(
            f"cannot be read ({error.strerror})", path=path, remedy="Check its permissions"
        ) from error
    return digest.hexdigest()
