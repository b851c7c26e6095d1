"""Where clips come from: a dataset folder, or phantoms made on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pkecho_edge.data.clip import CLIP_LENGTH, Clip, ed_es_clip
from pkecho_edge.data.standard import STANDARD_COUNT, clip_recordings, standard_recordings
from pkecho_edge.errors import DatasetError, RecordingError, UsageError

__all__ = ["ClipSource", "dataset", "phantoms", "standard_set"]


@dataclass(frozen=True)
class ClipSource:
    """Clips to iterate over, again and again, one in memory at a time.

    Attributes:
        description: for reports, for example "standard phantom set, 200 recordings".
        root: of the dataset; None for phantoms.
        split: "TRAIN", "VAL", "TEST" or None for all.
        seeds: of phantoms; None for datasets and the standard set.
        size: (H, W) of the clips in pixels.
        count: at most this many clips.
        length: frames per clip.
        skipped: what the last iteration left out, "identifier: reason" each.
    """

    description: str
    root: Path | None
    split: str | None
    seeds: range | None
    size: tuple[int, int]
    count: int
    length: int = CLIP_LENGTH
    skipped: list[str] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"{self.count} clips", remedy="Ask for at least one clip")

    def __iter__(self) -> Iterator[Clip]:
        """Up to `count` clips from ED to ES. What cannot be read is left out and in `skipped`.

        Raises:
            DatasetError: the folder is not a dataset, or holds no usable recording.
        """
        if self.root is not None:
            yield from self._of_dataset(self.root)
            return
        if self.seeds is None:
            recordings = standard_recordings(self.size, self.count, self.length)
        else:
            recordings = clip_recordings(self.seeds[: self.count], self.size, self.length)
        for recording in recordings:
            yield ed_es_clip(recording, self.size, self.length)

    def _of_dataset(self, root: Path) -> Iterator[Clip]:
        from pkecho_edge.data.echonet import EchoNetDataset, Skipped, iterate

        found = 0
        self.skipped.clear()

        def note(left_out: Skipped) -> None:
            self.skipped.append(f"{left_out.identifier}: {left_out.reason}")

        for recording in iterate(EchoNetDataset(root, split=self.split), note):
            try:
                clip = ed_es_clip(recording, self.size, self.length)
            except RecordingError as error:
                self.skipped.append(f"{recording.identifier}: {error.what}")
                continue
            yield clip
            found += 1
            if found == self.count:
                return
        if not found:
            where = f" in split {self.split}" if self.split else ""
            raise DatasetError(
                f"no usable recording{where}",
                path=root,
                remedy="Every recording needs a readable video with ED and ES traced",
            )


def dataset(
    root: Path, size: tuple[int, int], *, split: str | None = None, count: int | None = None
) -> ClipSource:
    """The clips of a folder in the EchoNet-Dynamic layout."""
    name = f"{root.name}, split {split}" if split else root.name
    return ClipSource(name, root, split, None, size, count or 1_000_000)


def phantoms(seeds: range, size: tuple[int, int]) -> ClipSource:
    """One phantom clip per seed."""
    text = f"phantoms, seeds {seeds.start} to {seeds.stop - 1}"
    return ClipSource(text, None, None, seeds, size, len(seeds))


def standard_set(size: tuple[int, int], count: int = STANDARD_COUNT) -> ClipSource:
    """The first `count` recordings of the standard held-out set."""
    whole = "" if count == STANDARD_COUNT else f"the first {count} of "
    text = f"standard phantom set, {whole}{STANDARD_COUNT} recordings"
    return ClipSource(text, None, None, None, size, count)
