"""Where clips come from: a dataset folder, or phantoms made on the spot."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pkecho_edge.data.clip import CLIP_LENGTH, Clip, clip_at, clip_indices, ed_es_clip
from pkecho_edge.data.files_below import data_files
from pkecho_edge.data.phantom import PhantomSpec, draw_spec, phantom_recording
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.sequence import (
    LongSequence,
    long_phantom,
    long_recording,
    sequence_indices,
)
from pkecho_edge.data.standard import (
    STANDARD_COUNT,
    clip_recordings,
    standard_recordings,
    standard_specs,
)
from pkecho_edge.errors import DatasetError, UsageError

__all__ = ["ClipSource", "LongRun", "dataset", "phantoms", "standard_set"]


@dataclass(frozen=True)
class LongRun:
    """Long sequences that are wanted beside the usual ones.

    Attributes:
        frames: of each sequence, at least 2.
        sequences: how many, one per recording, at least 1.
    """

    frames: int
    sequences: int = 8

    def __post_init__(self) -> None:
        if self.frames < 2 or self.sequences < 1:
            raise UsageError(
                f"{self.sequences} sequences of {self.frames} frames",
                remedy="Ask for at least one sequence of at least two frames",
            )


@dataclass(frozen=True)
class ClipSource:
    """Clips to iterate over, again and again, one in memory at a time.

    Attributes:
        description: for reports, for example "standard phantom set, 200 recordings".
        root: of the dataset, a folder or a video; None for phantoms.
        split: "TRAIN", "VAL", "TEST" or None for all.
        seeds: of phantoms; None for datasets and the standard set.
        size: (H, W) of the clips in pixels.
        count: at most this many clips.
        length: frames per clip.
        rule: how a dataset is split, of sides.SPLIT_RULES.
        live: whole sequences instead of clips of `length` frames, one per recording.
        long: long sequences that `long_sequences` gives; None for none.
        skipped: what the last iteration left out, "identifier: reason" each.
    """

    description: str
    root: Path | None
    split: str | None
    seeds: range | None
    size: tuple[int, int]
    count: int
    length: int = CLIP_LENGTH
    rule: str = "own"
    live: bool = False
    long: LongRun | None = None
    skipped: list[str] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"{self.count} clips", remedy="Ask for at least one clip")

    def __iter__(self) -> Iterator[Clip]:
        """Up to `count` clips, by the rule of `clip_indices`: from ED to ES, else windows.

        Live, they are sequences, of `sequence_indices`; `length` is then that of a window. What
        cannot be read, and what gives no clip, is left out and listed in `skipped`.

        Raises:
            DatasetError: the folder is not a dataset, or holds no usable recording.
        """
        if self.root is not None:
            yield from self._of_dataset(self.root)
            return
        if self.live:
            for recording in self._whole_phantoms():
                yield clip_at(recording, sequence_indices(recording, self.length), self.size)
            return
        if self.seeds is None:
            recordings = standard_recordings(self.size, self.count, self.length)
        else:
            recordings = clip_recordings(self.seeds[: self.count], self.size, self.length)
        for recording in recordings:
            yield ed_es_clip(recording, self.size, self.length)

    def long_sequences(self) -> Iterator[LongSequence]:
        """The sequences that `long` asks for, of the first recordings of the live iteration.

        There are no more than `count`, nor than there are recordings; none where `long` is None.

        Raises:
            DatasetError: as the iteration.
        """
        if self.long is None:
            return
        wanted = min(self.long.sequences, self.count)
        source = replace(self, count=wanted, live=True, skipped=[])
        if self.root is None:
            for spec in source._specs():
                yield long_phantom(spec, self.long.frames, self.size)
            return
        for recording, _ in source._chosen(self.root):
            yield long_recording(recording, self.long.frames, self.size)

    def _whole_phantoms(self) -> Iterator[Recording]:
        for spec in self._specs():
            yield phantom_recording(spec, size=self.size)

    def _specs(self) -> tuple[PhantomSpec, ...]:
        """Of the first `count` phantoms."""
        if self.seeds is None:
            return standard_specs(self.count)
        return tuple(draw_spec(seed) for seed in self.seeds[: self.count])

    def patients(self) -> frozenset[str]:
        """Of a dataset the patients that its files name, before any is decoded; else none."""
        if self.root is None:
            return frozenset()
        from pkecho_edge.data.sides import open_side

        return frozenset(open_side(self.root, self.split, self.rule).patients)

    def signature(self) -> dict[str, object]:
        """What decides the clips, as far as it can be told without reading a recording.

        Of files these are names, sizes and times of change: enough for a forecast, not for a key.
        """
        seeds = None if self.seeds is None else [self.seeds.start, self.seeds.stop]
        found: dict[str, object] = {"split": self.split, "seeds": seeds, "rule": self.rule}
        found |= {"size": list(self.size), "count": self.count, "length": self.length}
        if self.root is not None:
            found |= {"root": self.root.name, "files": _listing_sha256(self.root)}
        return found

    def _of_dataset(self, root: Path) -> Iterator[Clip]:
        for recording, indices in self._chosen(root):
            yield clip_at(recording, indices, self.size)

    def _chosen(self, root: Path) -> Iterator[tuple[Recording, tuple[int, ...]]]:
        """Recording and frame numbers of each of up to `count` clips."""
        from pkecho_edge.data.dataset import iterate_clips
        from pkecho_edge.data.sides import open_side

        found = 0
        self.skipped.clear()
        recordings = open_side(root, self.split, self.rule)
        for recording, clips in iterate_clips(
            recordings,
            lambda left_out: self.skipped.append(str(left_out)),
            choose=self._indices,
        ):
            for indices in clips:
                yield recording, indices
                found += 1
                if found == self.count:
                    return
        if not found:
            where = f" in split {self.split}" if self.split else ""
            why = f" ({self.skipped[0]})" if self.skipped else ""
            raise DatasetError(
                f"no usable recording{where}{why}",
                path=root,
                remedy=f"See what it holds and in which split: pkecho-edge data check {root}",
            )

    def _indices(self, recording: Recording) -> list[tuple[int, ...]]:
        """The frame numbers of a recording's clips, or of its sequence."""
        if self.live:
            return [sequence_indices(recording, self.length)]
        return clip_indices(recording, self.length)


def _listing_sha256(root: Path) -> str:
    """Of the names, sizes and times of change of all files of a dataset's folder, or of one."""
    digest = hashlib.sha256()
    for path in data_files(root):
        with suppress(OSError):
            facts = path.stat()
            name = os.fsencode(path.relative_to(root))
            digest.update(name + f"\0{facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def dataset(
    root: Path,
    size: tuple[int, int],
    *,
    split: str | None = None,
    count: int | None = None,
    rule: str = "own",
) -> ClipSource:
    """The clips of a folder or file of any layout that `open_dataset` knows."""
    name = root.name or root.resolve().name
    by = "" if rule == "own" else f" of {rule}"
    name = f"{name}, split {split}{by}" if split else name
    return ClipSource(name, root, split, None, size, count or 1_000_000, rule=rule)


def phantoms(seeds: range, size: tuple[int, int]) -> ClipSource:
    """One phantom clip per seed."""
    text = f"phantoms, seeds {seeds.start} to {seeds.stop - 1}"
    return ClipSource(text, None, None, seeds, size, len(seeds))


def standard_set(size: tuple[int, int], count: int = STANDARD_COUNT) -> ClipSource:
    """The first `count` recordings of the standard held-out set."""
    whole = "" if count == STANDARD_COUNT else f"the first {count} of "
    text = f"standard phantom set, {whole}{STANDARD_COUNT} recordings"
    return ClipSource(text, None, None, None, size, count)
