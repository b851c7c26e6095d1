"""What every dataset on disk offers, whatever its layout."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.clip import clip_indices
from pkecho_edge.data.recording import Recording
from pkecho_edge.errors import RecordingError, UsageError

__all__ = [
    "SPLITS",
    "Dataset",
    "Skipped",
    "check_split",
    "is_inside",
    "iterate",
    "iterate_clips",
    "refuse_blank",
]

SPLITS = ("TRAIN", "VAL", "TEST")


@dataclass(frozen=True)
class Skipped:
    """A recording that was left out, why, and the split it would have belonged to if known."""

    identifier: str
    reason: str
    split: str | None = None

    def __str__(self) -> str:
        """`identifier: reason` on one line: the identifier is a file's, and may hold anything."""
        text = f"{self.identifier}: {self.reason}"
        return "".join(c if c.isprintable() else " " for c in text)


class Dataset(Protocol):
    """Recordings on disk, decoded when they are asked for.

    Attributes:
        layout: its name, for people.
        identifiers, patients, splits: of the recordings that look usable, in order, one each.
        skipped: what was left out, and why; `iterate` adds what turns out to be unreadable.
    """

    skipped: list[Skipped]

    @property
    def layout(self) -> str: ...
    @property
    def root(self) -> Path: ...
    @property
    def identifiers(self) -> tuple[str, ...]: ...
    @property
    def patients(self) -> tuple[str, ...]: ...
    @property
    def splits(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Recording:
        """Decode one recording.

        Raises:
            RecordingError: it cannot be read, or its labels contradict it.
        """


def iterate(
    dataset: Dataset,
    on_skip: Callable[[Skipped], None],
    advance: Callable[[], None] = lambda: None,
) -> Iterator[Recording]:
    """Every readable recording, one at a time; the others go to `on_skip` with their reason.

    `on_skip` first gets `dataset.skipped`, then each recording that fails to decode, as it comes.
    The latter are added to `dataset.skipped`, each reason once however often it comes up.
    `advance` is called once for each of the dataset's recordings, readable or not.
    """
    for skipped in tuple(dataset.skipped):
        on_skip(skipped)
    for index, identifier in enumerate(dataset.identifiers):
        try:
            recording = dataset[index]
        except RecordingError as error:
            skipped = _skipped(identifier, error, dataset.splits[index])
            if skipped not in dataset.skipped:
                dataset.skipped.append(skipped)
                on_skip(skipped)
        else:
            yield recording
        advance()


def iterate_clips(
    dataset: Dataset,
    on_skip: Callable[[Skipped], None],
    advance: Callable[[], None] = lambda: None,
    choose: Callable[[Recording], list[tuple[int, ...]]] = clip_indices,
) -> Iterator[tuple[Recording, list[tuple[int, ...]]]]:
    """Every usable recording with the frame numbers of its clips, which `choose` gives.

    A clip that shows the same pictures as an earlier one is left out: a loop exported three times
    over, or a file copied under another name, must not count again. Usable is what decodes and
    gives at least one new clip; all else goes to `on_skip`. See `iterate`.
    """
    shown: dict[bytes, str] = {}
    for recording in iterate(dataset, on_skip, advance):
        try:
            indices = _new_clips(recording, choose(recording), shown)
        except RecordingError as error:
            on_skip(_skipped(recording.identifier, error, recording.split))
        else:
            yield recording, indices


def _new_clips(
    recording: Recording, clips: list[tuple[int, ...]], shown: dict[bytes, str]
) -> list[tuple[int, ...]]:
    """The clips whose pictures are not in `shown` yet (their SHA-256 -> recording), at least one.

    Raises:
        RecordingError: they are all there already.
    """
    new = []
    for indices in clips:
        frames = recording.frames[list(indices)]
        digest = hashlib.sha256(repr(frames.shape).encode() + frames.tobytes()).digest()
        if digest not in shown:
            shown[digest] = recording.identifier
            new.append(indices)
    if not new:
        raise RecordingError(
            f"recording {recording.identifier!r} shows the same pictures as {shown[digest]!r}",
            remedy="Leave one of them out",
        )
    return new


def _skipped(identifier: str, error: RecordingError, split: str | None) -> Skipped:
    """With the reason alone: the identifier stands before it already."""
    name = f"recording {identifier!r}"
    reason = error.what.removeprefix(f"{name}: ").replace(f"{name} ", "it ", 1)
    return Skipped(identifier, reason, split)


def check_split(split: str | None) -> str | None:
    """The split in capitals; None stays None.

    Raises:
        UsageError: it is none of TRAIN, VAL and TEST.
    """
    if split is None or split.upper() in SPLITS:
        return split and split.upper()
    raise UsageError(f"{split!r} is not a split", remedy=f"Use {', '.join(SPLITS)}")


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a file really lies in the folder, once every link on the way is followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # RuntimeError: a link that leads back to itself
        return False


def refuse_blank(frames: NDArray[np.uint8], path: Path) -> None:
    """Refuse u8 [N, H, W] of which no frame shows a picture: there is nothing to segment.

    An activation range that was set on such frames would be wrong for every real one.

    Raises:
        RecordingError: each frame has one single grey value, for example all black or all white.
    """
    if any(frame.min() != frame.max() for frame in frames):  # stops at the first picture
        return
    shade = {0: "black", 255: "white"}.get(int(frames.max()), "of one grey value")
    raise RecordingError(
        f"it is blank: every frame is all {shade}",
        path=path,
        remedy="Replace it, or leave the recording out",
    )
