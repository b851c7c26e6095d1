"""Which recordings a network is trained on, and which it is validated on.

A network that must serve several sizes of frames is trained on all of them, each recording at one:
"parts" says how many in how many fall to each size. (1,) is one size for all.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from pkecho_edge.data.clip import Clip, ed_es_clip
from pkecho_edge.data.dataset import Skipped, iterate
from pkecho_edge.data.layouts import open_dataset
from pkecho_edge.data.phantom import (
    PhantomSpec,
    draw_spec,
    phantom_clip_recording,
    phantom_recording,
    rendered,
)
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.sides import Part, sides_of
from pkecho_edge.data.standard import TRAINING_SEEDS, TUNING_SEEDS
from pkecho_edge.errors import DatasetError, RecordingError, UsageError

__all__ = ["Material", "dataset_material", "phantom_material"]

_Item = TypeVar("_Item")

Skip = Callable[[Skipped], None]
Recordings = Callable[[Skip], Iterator[Recording]]


@dataclass(frozen=True)
class Material:
    """Recordings to train on and to validate on, of different patients.

    Attributes:
        description: for people.
        training, validation: each gives its recordings one at a time, from the beginning; what
            cannot be used goes to the function that it is given.
        count: of the training recordings that look usable.
    """

    description: str
    training: Recordings
    validation: Recordings
    count: int

    def validation_clips(self, size: tuple[int, int], length: int, on_skip: Skip) -> list[Clip]:
        """The validation recordings' clips from ED to ES; may be empty."""
        clips = []
        for recording in self.validation(on_skip):
            try:
                clips.append(ed_es_clip(recording, size, length))
            except RecordingError as error:
                on_skip(Skipped(recording.identifier, error.what, recording.split))
        return clips


def phantom_material(
    count: int,
    size: tuple[int, int],
    *,
    length: int,
    whole: bool,
    validation: int = 32,
    parts: Sequence[int] = (1,),
    part: int = 0,
) -> Material:
    """Phantoms, made on the spot.

    Args:
        count: to train on, over all parts.
        size: (H, W) in pixels.
        length: T.
        whole: the whole recording of nearly two beats, else only the frames from ED to ES, which
            are several times cheaper to draw.
        validation: how many to validate on, over all parts.
        parts: weights of the sizes that share the phantoms.
        part: which of them this size takes.

    Raises:
        UsageError: there are so few phantoms that one size has none.
    """
    render = partial(phantom_clip_recording, length=length, size=size)
    workers = 1 if "RANK" in os.environ else os.cpu_count() or 1
    seeds = _share(TRAINING_SEEDS[:count], parts, part)
    held_out_seeds = _share(TUNING_SEEDS[:validation], parts, part)
    if not seeds:
        raise _too_few(count, "phantoms", parts)

    def training(_: Skip) -> Iterator[Recording]:
        how: Callable[[PhantomSpec], Recording] = render
        if whole:
            how = partial(phantom_recording, size=size)
        return rendered(how, [draw_spec(seed) for seed in seeds], workers)

    def held_out(_: Skip) -> Iterator[Recording]:
        return rendered(render, [draw_spec(seed) for seed in held_out_seeds], workers)

    return Material(f"{count} phantoms", training, held_out, len(seeds))


def dataset_material(
    root: Path, *, split: str, parts: Sequence[int] = (1,), part: int = 0
) -> Material:
    """The recordings of a folder.

    Args:
        root: of any layout that `open_dataset` reads.
        split: "own" takes the dataset's TRAIN and VAL; "7:1:2" ranks the patients anew.
        parts: weights of the sizes that share the patients of each side.
        part: which of them this size takes.

    Raises:
        DatasetError: not a dataset, nothing to train on, or a patient on both sides.
        UsageError: there are so few patients to train on that one size has none.
    """
    dataset = open_dataset(root, None)
    sides = sides_of(dataset, split)
    if "TRAIN" not in sides.values():
        raise DatasetError(
            "no recording to train on", path=root, remedy=f"See: pkecho-edge data check {root}"
        )

    patient_of = dict(zip(dataset.identifiers, dataset.patients, strict=True))

    def of(side: str) -> Recordings:
        patients = {patient_of[name] for name in dataset.identifiers if sides[name] == side}
        mine = set(_share(_ranked(patients), parts, part))
        if side == "TRAIN" and not mine:
            raise _too_few(len(patients), "patients to train on", parts)
        wanted = [sides[n] == side and patient_of[n] in mine for n in dataset.identifiers]
        # what the whole dataset refuses is said once, by the first training side
        taken = Part(dataset, wanted, side, speaks=side == "TRAIN" and part == 0)
        return lambda on_skip: (recording for recording in iterate(taken, on_skip))

    count = sum(side == "TRAIN" for side in sides.values()) * parts[part] // sum(parts)
    return Material(f"{root.name}, split {split}", of("TRAIN"), of("VAL"), count)


def _too_few(count: int, what: str, parts: Sequence[int]) -> UsageError:
    return UsageError(
        f"{count} {what} cannot be shared {':'.join(map(str, parts))} among {len(parts)} sizes",
        remedy="Give more of them, or fewer sizes",
    )


def _ranked(names: Iterable[str]) -> list[str]:
    """In an order that has nothing to do with the names, and is the same every time."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def _share(items: Sequence[_Item], parts: Sequence[int], part: int) -> Sequence[_Item]:
    """The consecutive items that fall to one part when they are cut in proportion to `parts`."""
    low, high = (len(items) * sum(parts[:i]) // sum(parts) for i in (part, part + 1))
    return items[low:high]
