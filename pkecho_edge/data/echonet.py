"""Read the layout of EchoNet-Dynamic: FileList.csv, VolumeTracings.csv and Videos/*.avi.

What cannot be used is listed with its reason in `EchoNetDataset.skipped`, never dropped in silence.
Where `write_echonet` made the folder, its exact masks and the patients, spacing and quality in
pkecho.csv are taken; else the masks are the traced polygons and each recording is its own patient.
The CSV files are hostile: a FileName never leads out of the folder.

Irregularities handled are those of the dataset of Ouyang et al., Nature 580, 2020.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.echonet_writer import (
    EXTRA_COLUMNS,
    EXTRA_NAME,
    FILE_LIST_NAME,
    MASKS_NAME,
    PLAIN_NAME,
    SPLITS,
    TRACE_COLUMNS,
    TRACINGS_NAME,
    VIDEOS_NAME,
    write_echonet,
)
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.tracing import CHORDS, Trace, fill_polygon, polygon_area
from pkecho_edge.data.video import read_video
from pkecho_edge.errors import DatasetError, RecordingError, UsageError

__all__ = ["EchoNetDataset", "Skipped", "iterate", "write_echonet"]

_MAX_CSV_BYTES = 128 << 20  # three times the largest table of the published dataset
# RuntimeError: an encrypted archive, or a compression that zipfile does not know
_BROKEN_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    ValueError,
)
_QUALITIES = ("good", "medium", "poor")


@dataclass(frozen=True)
class Skipped:
    """A recording that was left out, and why."""

    identifier: str
    reason: str


@dataclass(frozen=True)
class _Entry:
    identifier: str
    patient: str
    split: str
    frame_rate_hz: float | None
    traces: dict[int, Trace]
    spacing_mm: tuple[float, float] | None
    quality: str | None
    ed_es: tuple[int, int]
    source: str


class EchoNetDataset(Sequence[Recording]):
    """A dataset folder; a recording's video is decoded when it is asked for.

    Attributes:
        identifiers, patients: of the usable recordings, in the order of FileList.csv.
        skipped: what was left out, and why; iterating adds the recordings that turn out to be
            unreadable. Other splits are not skipped, they are not asked for.

    Args:
        root: the folder.
        split: TRAIN, VAL or TEST in any case; None takes all. A split without recordings gives an
            empty dataset.

    Raises:
        DatasetError: a CSV file or a column in it is missing, or it is no CSV.
        UsageError: split is none of the three.
    """

    def __init__(self, root: Path, split: str | None = None) -> None:
        if split is not None and split.upper() not in SPLITS:
            raise UsageError(f"{split!r} is not a split", remedy=f"Use {', '.join(SPLITS)}")
        self.root = Path(root)
        files = _read_csv(self.root / FILE_LIST_NAME, ("FileName", "Split"))
        tracings = _by_identifier(_read_csv(self.root / TRACINGS_NAME, TRACE_COLUMNS))
        extra: dict[str, list[dict[str, str]]] = {}
        if (self.root / EXTRA_NAME).is_file():
            extra = _by_identifier(_read_csv(self.root / EXTRA_NAME, EXTRA_COLUMNS))
        self._entries: list[_Entry] = []
        self.skipped: list[Skipped] = []
        seen: set[str] = set()
        for row in files:
            name = _identifier(row["FileName"])
            side = row["Split"].strip().upper()
            # noted before the split is looked at: a recording must not serve two of them
            again = name in seen
            seen.add(name)
            if split is not None and side in SPLITS and side != split.upper():
                continue
            try:
                if again:
                    raise _Unusable("it is listed twice")
                self._entries.append(self._entry(name, side, row, tracings, extra))
            except _Unusable as reason:
                self.skipped.append(Skipped(name, str(reason)))
        self.identifiers = tuple(entry.identifier for entry in self._entries)
        self.patients = tuple(entry.patient for entry in self._entries)

    def _entry(
        self,
        name: str,
        side: str,
        row: dict[str, str],
        tracings: dict[str, list[dict[str, str]]],
        extra: dict[str, list[dict[str, str]]],
    ) -> _Entry:
        if not PLAIN_NAME.fullmatch(name):
            raise _Unusable(f"FileName {name!r} is not a plain file name")
        if side not in SPLITS:
            raise _Unusable(f"Split {side!r} is none of {', '.join(SPLITS)}")
        if not self._video(name).is_file():
            raise _Unusable(f"{VIDEOS_NAME}/{name}.avi is missing")
        traces = _traces(tracings.get(name, []))
        count = _number(row.get("NumFrames", ""))
        if count and max(traces) >= count:
            raise _Unusable(f"frame {max(traces)} is traced, but it has {count:.0f} frames")
        more = extra.get(name, [{}])[0]
        quality = more.get("Quality", "").strip().lower()
        return _Entry(
            identifier=name,
            patient=more.get("Patient", "").strip() or name,
            split=side,
            frame_rate_hz=_number(row.get("FPS", "")),
            traces=traces,
            spacing_mm=_spacing(more),
            quality=quality if quality in _QUALITIES else None,
            ed_es=_ed_es(more, traces),
            source=more.get("Source", "").strip() or "echonet",
        )

    def _video(self, name: str) -> Path:
        return self.root / VIDEOS_NAME / f"{name}.avi"

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Recording: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Recording]: ...
    def __getitem__(self, index: int | slice) -> Recording | Sequence[Recording]:
        """Decode one recording, or a slice of them (all at once in memory).

        Raises:
            RecordingError: the video cannot be read, is shorter than its traces say, its masks do
                not fit it, or its ED or ES mask is missing or empty.
            IndexError: no such recording.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        entry = self._entries[index]
        video = self._video(entry.identifier)
        frames, rate = read_video(video)
        for frame in (*entry.traces, *entry.ed_es):
            if frame >= len(frames):
                raise RecordingError(
                    f"frame {frame} is labelled, but the video has {len(frames)} frames",
                    path=video,
                    remedy="Replace the video, or leave the recording out",
                )
        labelled, masks = self._labels(entry, frames.shape)
        recording = Recording(
            identifier=entry.identifier,
            patient=entry.patient,
            source=entry.source,
            frames=frames,
            frame_rate_hz=entry.frame_rate_hz or rate,
            spacing_mm=entry.spacing_mm,
            ed_index=entry.ed_es[0],
            es_index=entry.ed_es[1],
            labelled=labelled,
            masks=masks,
            quality=entry.quality,
            split=entry.split,
        )
        for name, frame in zip(("ED", "ES"), entry.ed_es, strict=True):
            mask = recording.truth(frame)
            if mask is None or not mask.any():
                raise RecordingError(
                    f"{name} frame {frame} has no mask, or an empty one",
                    path=video,
                    remedy="Trace it again, or leave the recording out",
                )
        return recording

    def __iter__(self) -> Iterator[Recording]:
        """Every readable recording, one at a time; the others are added to `skipped`."""
        return iterate(self, lambda skipped: None)

    def _labels(
        self, entry: _Entry, shape: tuple[int, ...]
    ) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
        exact = self.root / MASKS_NAME / f"{entry.identifier}.npz"
        if exact.is_file():
            return _load_masks(exact, shape)
        labelled = tuple(sorted(entry.traces))
        size = (shape[1], shape[2])
        return labelled, np.stack([fill_polygon(entry.traces[i].polygon, size) for i in labelled])


def iterate(dataset: EchoNetDataset, on_skip: Callable[[Skipped], None]) -> Iterator[Recording]:
    """Every readable recording, one at a time; the others go to `on_skip` with their reason.

    `on_skip` first gets `dataset.skipped`, then each recording that fails to decode, as it comes.
    The latter are added to `dataset.skipped`, each reason once however often it comes up.
    """
    for skipped in tuple(dataset.skipped):
        on_skip(skipped)
    for index, identifier in enumerate(dataset.identifiers):
        try:
            recording = dataset[index]
        except RecordingError as error:
            skipped = Skipped(identifier, error.what)
            if skipped not in dataset.skipped:
                dataset.skipped.append(skipped)
                on_skip(skipped)
        else:
            yield recording


class _Unusable(Exception):
    """Why one recording is skipped."""


def _identifier(file_name: str) -> str:
    name = file_name.strip()
    return name[:-4] if name.lower().endswith(".avi") else name


def _read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DatasetError(
            f"{path.name} is missing, so this is not an EchoNet-Dynamic folder",
            path=path.parent,
            remedy=f"Name the folder that holds {FILE_LIST_NAME}, {TRACINGS_NAME} and "
            f"{VIDEOS_NAME}/, or make one with `pkecho-edge phantom`",
        )
    if path.stat().st_size > _MAX_CSV_BYTES:
        raise DatasetError(f"it is larger than {_MAX_CSV_BYTES >> 20} MiB", path=path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            # a short row reads as empty cells, not as None
            reader = csv.DictReader(file, restval="", restkey="")
            header = reader.fieldnames or ()
            missing = [column for column in columns if column not in header]
            if missing:
                raise DatasetError(
                    f"it has no column {', '.join(missing)}",
                    path=path,
                    remedy=f"Its first line must name {', '.join(columns)}",
                )
            return list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(
            f"it is not a CSV file ({error})", path=path, remedy="Replace it with an intact copy"
        ) from error


def _by_identifier(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    grouped: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        grouped.setdefault(_identifier(row["FileName"]), []).append(row)
    return grouped


def _number(text: str) -> float | None:
    """A finite number above 0, None where the text is anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _frame(text: str) -> int:
    """A frame number; some tables store it as 46.0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value < 1e9 and value == int(value)):
        raise _Unusable(f"{text!r} is not a frame number")
    return int(value)


def _traces(rows: list[dict[str, str]]) -> dict[int, Trace]:
    """The two traces of a recording by frame number."""
    lines: dict[int, list[list[float]]] = {}
    for row in rows:
        frame = _frame(row["Frame"])
        try:
            line = [float(row[column]) for column in ("X1", "Y1", "X2", "Y2")]
        except ValueError:
            raise _Unusable(f"a tracing of frame {frame} is not four numbers") from None
        if not all(abs(value) < 1e5 for value in line):  # false for nan, too
            raise _Unusable(f"a tracing of frame {frame} lies outside any image")
        lines.setdefault(frame, []).append(line)
    if len(lines) != 2:
        raise _Unusable(f"it has {len(lines)} traced frames, not 2")
    for frame, found in lines.items():
        if len(found) != CHORDS + 1:
            raise _Unusable(f"frame {frame} is traced by {len(found)} lines, not {CHORDS + 1}")
    arrays = {frame: np.array(found).reshape(-1, 2, 2) for frame, found in lines.items()}
    return {frame: Trace(lines[0], lines[1:]) for frame, lines in arrays.items()}


def _ed_es(more: dict[str, str], traces: dict[int, Trace]) -> tuple[int, int]:
    """ED and ES as pkecho.csv says, else the traced frame of larger area is ED."""
    if more.get("EDFrame", "").strip() and more.get("ESFrame", "").strip():
        return _frame(more["EDFrame"]), _frame(more["ESFrame"])
    es, ed = sorted(traces, key=lambda frame: polygon_area(traces[frame].polygon))
    return ed, es


def _spacing(more: dict[str, str]) -> tuple[float, float] | None:
    row, column = (_number(more.get(f"Spacing{name}Mm", "")) for name in ("Row", "Column"))
    return (row, column) if row and column else None


def _load_masks(path: Path, video: tuple[int, ...]) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
    """Read what `save_masks` wrote for a video of this shape [N, H, W]."""
    bits = math.prod(video)
    try:
        with zipfile.ZipFile(path) as archive:
            labelled = _load_array(archive, "labelled", np.dtype(np.int64), video[0])
            shape = _load_array(archive, "shape", np.dtype(np.int64), 3)
            packed = _load_array(archive, "masks", np.dtype(np.uint8), bits // 8 + 1)
    except _BROKEN_ARCHIVE as error:
        raise _bad_masks(path, f"it cannot be read ({error})") from error
    expected = (labelled.size, *video[1:])
    if tuple(shape) != expected or packed.size != (math.prod(expected) + 7) // 8:
        raise _bad_masks(path, f"its shape {shape.tolist()} does not fit the video {list(video)}")
    masks = (
        np.unpackbits(packed.astype(np.uint8), count=math.prod(expected))
        .reshape(expected)
        .astype(np.bool_)
    )
    return tuple(labelled.tolist()), masks


def _load_array(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[np.generic], most: int
) -> NDArray[np.generic]:
    """One-dimensional array of at most `most` elements; nothing larger is ever unpacked."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.file_size > most * dtype.itemsize + 1024:
        raise ValueError(f"{name} is larger than its video allows")
    stream = io.BytesIO(archive.read(entry))
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"{name} has format {version}")
    shape, _, found = np.lib.format.read_array_header_1_0(stream)
    if found != dtype or len(shape) != 1 or shape[0] > most:
        raise ValueError(f"{name} is {found} {shape}")
    return np.frombuffer(stream.read(), dtype=dtype, count=shape[0])


def _bad_masks(path: Path, what: str) -> RecordingError:
    return RecordingError(what, path=path, remedy=f"Delete {MASKS_NAME}/ to use the traces instead")
