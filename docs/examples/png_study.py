"""An example of a dataset of one's own: a folder per patient, a PNG per frame, masks beside them.

    study/patient01/frames/000.png, 001.png, ...   the recording, in natural order
    study/patient01/masks/000.png, 014.png         the cavity (above 0) on frames of these names
    study/patient01/info.json                      frame_rate_hz, spacing_mm: [row, column]

docs/adding-a-dataset.md walks through it; tests/contract/test_datasets.py holds it to what every
layout does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.dataset import Skipped, check_split, is_inside, iterate, refuse_blank
from pkecho_edge.data.images import IMAGE_SUFFIXES, image_names, read_images
from pkecho_edge.data.plain import split_by_rank
from pkecho_edge.data.recording import Recording
from pkecho_edge.errors import DatasetError, RecordingError

__all__ = ["PngStudy", "is_png_study"]

FRAMES, MASKS, INFO = "frames", "masks", "info.json"


def is_png_study(root: Path) -> bool:
    """Whether a folder has this layout: a folder in it has one called frames."""
    return any((entry / FRAMES).is_dir() for entry in root.iterdir() if entry.is_dir())


class PngStudy(Sequence[Recording]):
    """One recording per patient; its files are decoded when it is asked for.

    Attributes:
        layout, root: "PNG study", and the folder.
        identifiers, patients, splits: of the usable recordings; the identifier is the patient.
        skipped: what was left out, and why; iterating adds what turns out to be unreadable.

    Args:
        root: the folder.
        split: TRAIN, VAL or TEST in any case; None takes all.

    Raises:
        DatasetError: no patient's folder in it.
        UsageError: split is none of the three.
    """

    layout = "PNG study"

    def __init__(self, root: Path, split: str | None = None) -> None:
        split = check_split(split)
        self.root = Path(root)
        if not self.root.is_dir() or not is_png_study(self.root):
            raise DatasetError(
                f"no folder in it has a folder {FRAMES}/",
                path=self.root,
                remedy=f"Name a folder of patients with {FRAMES}/*.png each",
            )
        self.skipped: list[Skipped] = []
        usable = []
        for place in sorted(path for path in self.root.iterdir() if path.is_dir()):
            if is_inside(place / FRAMES, self.root) and (place / FRAMES).is_dir():
                usable.append(place.name)
            else:
                self.skipped.append(Skipped(place.name, f"it has no {FRAMES}/ of its own"))
        sides = split_by_rank(usable)  # 7:1:2, the same on every machine
        self.identifiers = tuple(name for name in usable if split in (None, sides[name]))
        self.patients = self.identifiers
        self.splits = tuple(sides[name] for name in self.identifiers)

    def __len__(self) -> int:
        return len(self.identifiers)

    @overload
    def __getitem__(self, index: int) -> Recording: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Recording]: ...
    def __getitem__(self, index: int | slice) -> Recording | Sequence[Recording]:
        """Decode one recording, or a slice of them.

        Raises:
            RecordingError: a picture cannot be read, a mask belongs to no frame or has another
                size, info.json is no such file, or every frame is blank.
            IndexError: no such recording.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        name = self.identifiers[index]
        place = self.root / name
        frames = read_images(place / FRAMES)
        refuse_blank(frames, place / FRAMES)
        labelled, masks = _labels(place, _names(place / FRAMES), frames.shape[1:])
        areas = masks.sum(axis=(1, 2))
        named = len(labelled) > 1 and areas.min() < areas.max()
        info = _info(place)
        return Recording(
            identifier=name,
            patient=name,
            source="png-study",
            frames=frames,
            frame_rate_hz=info.get("frame_rate_hz"),
            spacing_mm=tuple(info["spacing_mm"]) if info.get("spacing_mm") else None,
            ed_index=labelled[int(areas.argmax())] if named else None,
            es_index=labelled[int(areas.argmin())] if named else None,
            labelled=labelled,
            masks=masks,
            split=self.splits[index],
        )

    def __iter__(self) -> Iterator[Recording]:
        """Every readable recording, one at a time; the others are added to `skipped`."""
        return iterate(self, lambda skipped: None)


def _names(folder: Path) -> list[str]:
    """Of the pictures that `read_images` takes, in its order; it must not have left one out."""
    names = image_names(folder)
    pictures = {path.name for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
    for name in sorted(pictures - set(names)):
        raise RecordingError(
            f"{name} is hidden, no file, or a link that leads out of the folder",
            path=folder,
            remedy="Take it out of the folder",
        )
    return names


def _labels(
    place: Path, names: list[str], size: tuple[int, ...]
) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
    """Frame numbers that have a mask, ascending, and the masks bool [M, H, W]."""
    folder = place / MASKS
    if not folder.is_dir() or not is_inside(folder, place):
        return (), np.zeros((0, 0, 0), dtype=np.bool_)
    stray = sorted(set(_names(folder)) - set(names))
    if stray:
        raise RecordingError(
            f"{stray[0]} belongs to no frame",
            path=folder,
            remedy=f"Name each mask as its frame in {FRAMES}/",
        )
    masks = read_images(folder) > 0
    if masks.shape[1:] != size:
        raise RecordingError(
            f"masks are {masks.shape[1]}x{masks.shape[2]}, frames {size[0]}x{size[1]}",
            path=folder,
            remedy="Save them at the frames' size",
        )
    return tuple(names.index(mask) for mask in _names(folder)), masks


def _info(place: Path) -> dict[str, Any]:
    """What info.json says; nothing where there is none."""
    path = place / INFO
    if not path.is_file() or not is_inside(path, place):
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rate, spacing = found.get("frame_rate_hz"), found.get("spacing_mm")
        return {
            "frame_rate_hz": None if rate is None else float(rate),
            "spacing_mm": None if spacing is None else [float(spacing[0]), float(spacing[1])],
        }
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise RecordingError(
            f"cannot be read ({error})",
            path=path,
            remedy='Write for example {"frame_rate_hz": 50, "spacing_mm": [0.4, 0.4]}',
        ) from error
