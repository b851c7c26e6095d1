"""A calibration set: a small file that says exactly which clips set the INT8 ranges."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.calibration.fingerprint import (
    BYTES,
    NEAR,
    distances,
    fingerprints,
    is_fingerprint,
    telling_bits,
)
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CalibrationError
from pkecho_edge.files import write_atomically

__all__ = ["MINIMUM_CLIPS", "CalibrationEntry", "CalibrationSet"]

MINIMUM_CLIPS = 30
"""Fewer clips than this are used, with a warning that reaches the report. 30 clips are 300 frames,
what post-training quantization toolkits take by default."""

_SCHEMA = "pkecho-edge/calibration/2"
_MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class CalibrationEntry:
    """One clip: its identifier, recording, patient and the SHA-256 of its frames.

    `fingerprints` are those of its frames, by which the same pictures are known under other names.
    """

    identifier: str
    recording: str
    patient: str
    content_sha256: str
    fingerprints: tuple[str, ...]

    @classmethod
    def of(cls, clip: Clip) -> CalibrationEntry:
        """A clip's."""
        return cls(
            clip.identifier,
            clip.recording,
            clip.patient,
            clip.content_sha256,
            fingerprints(clip.frames),
        )


@dataclass(frozen=True)
class CalibrationSet:
    """Which clips, chosen by which rule from which seed.

    Attributes:
        entries: in the order in which the clips are fed.
        rule: how they were chosen, of selection.SELECTION_RULES, or "given".
        seed: of the rule.
        size: (H, W) of the clips.
        path: the file it was read from, named in errors; None where it was not.

    Raises:
        CalibrationError: no entries, or one twice.
    """

    entries: tuple[CalibrationEntry, ...]
    rule: str
    seed: int
    size: tuple[int, int]
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.entries:
            raise CalibrationError(
                "the calibration set is empty",
                remedy="Choose at least one clip; 32 is a good start",
            )
        if len({entry.content_sha256 for entry in self.entries}) < len(self.entries):
            raise CalibrationError(
                "the calibration set holds a clip twice", remedy="Choose every clip once"
            )

    @classmethod
    def of(cls, clips: Sequence[Clip], rule: str, seed: int) -> CalibrationSet:
        """The set of these clips, all of one size."""
        entries = tuple(map(CalibrationEntry.of, clips))
        height, width = clips[0].frames.shape[-2:] if clips else (0, 0)
        return cls(entries, rule, seed, (height, width))

    @cached_property
    def _pictures(self) -> tuple[NDArray[np.bool_], ...]:
        """Of each entry what `distances` takes, decoded once for all clips that are checked."""
        return tuple(telling_bits(entry.fingerprints) for entry in self.entries)

    @property
    def sha256(self) -> str:
        """Of the canonical file."""
        return sha256(self._text().encode()).hexdigest()

    def warnings(self) -> tuple[str, ...]:
        """What a report must say about this set; empty when there is nothing."""
        if len(self.entries) >= MINIMUM_CLIPS:
            return ()
        return (
            f"calibrated on {len(self.entries)} clips, fewer than the recommended {MINIMUM_CLIPS}",
        )

    def check_disjoint(self, clips: Iterable[Clip]) -> None:
        """No clip, patient or picture may serve both calibration and verification.

        Raises:
            CalibrationError: names the first that does.
        """
        contents = {entry.content_sha256 for entry in self.entries}
        patients = {entry.patient for entry in self.entries}
        for clip in clips:
            shared = "patient" if clip.patient in patients else ""
            if clip.content_sha256 in contents:
                shared = "clip"
            if shared:
                name = clip.identifier if shared == "clip" else clip.patient
                raise CalibrationError(
                    f"{shared} {name!r} serves both calibration and verification",
                    path=self.path,
                    remedy="Verify on patients that the calibration set does not hold",
                )
            (away,) = distances([telling_bits(fingerprints(clip.frames))], self._pictures)
            if away.min() <= NEAR:
                twin = self.entries[int(away.argmin())].identifier
                raise CalibrationError(
                    f"clip {clip.identifier!r} shows the pictures of calibration clip {twin!r}",
                    path=self.path,
                    remedy="Leave one of the two out: they are one recording under two names",
                )

    def pick(self, clips: Iterable[Clip]) -> list[Clip]:
        """The set's clips out of `clips`, in the set's order.

        Raises:
            CalibrationError: one is missing, its frames have changed, or the clips are of another
                size.
        """
        found = {clip.content_sha256: clip for clip in clips}
        for clip in found.values():
            if clip.frames.shape[-2:] != self.size:
                height, width = clip.frames.shape[-2:]
                raise CalibrationError(
                    f"it is of clips at {self.size[0]}x{self.size[1]}, these are {height}x{width}",
                    path=self.path,
                    remedy="Give compile the --size that calibrate had",
                )
        for entry in self.entries:
            if entry.content_sha256 not in found:
                raise CalibrationError(
                    f"clip {entry.identifier!r} is missing or its frames have changed",
                    path=self.path,
                    remedy="Use the data that the set was made from, or make the set again",
                )
        return [found[entry.content_sha256] for entry in self.entries]

    def _text(self) -> str:
        content = {"schema": _SCHEMA, **asdict(self)}
        del content["path"]  # the same set wherever its file lies
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_atomically(path, self._text().encode())

    @classmethod
    def load(cls, path: Path) -> CalibrationSet:
        """Read a file that `save` wrote; anything else is refused.

        Raises:
            CalibrationError: missing, too large, not JSON, another schema, or wrong types.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)  # the size of a device says nothing
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = getattr(error, "strerror", None) or str(error)
            raise CalibrationError(
                f"cannot be read ({reason})", path=path, remedy="Check the path"
            ) from error
        return cls.parse(data, path)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> CalibrationSet:
        """The set in the bytes that `save` wrote; `path` is for messages.

        Raises:
            CalibrationError: as `load`.
        """
        try:
            if len(data) > _MAX_BYTES:
                raise ValueError("it is too large")
            raw = json.loads(data.decode("utf-8"))
            if raw["schema"] != _SCHEMA:
                raise ValueError(f"schema {raw['schema']!r} is not {_SCHEMA!r}")
            entries = tuple(map(_entry, raw["entries"]))
            texts = [t for e in entries for t in (e.identifier, e.recording, e.patient)]
            texts += [e.content_sha256 for e in entries]
            height, width = raw["size"]
            if not all(isinstance(text, str) for text in (*texts, raw["rule"])):
                raise ValueError("an entry is not text")
            # bool is an int to isinstance
            if {type(number) for number in (raw["seed"], height, width)} != {int}:
                raise ValueError("the seed or the size is not a whole number")
            if min(height, width) < 1:
                raise ValueError(f"the size {height}x{width} is not possible")
            if unknown := raw.keys() - {"schema", "entries", "rule", "seed", "size"}:
                raise ValueError(f"{min(unknown)!r} is not a known key")
            return cls(entries, raw["rule"], raw["seed"], (height, width), path)
        except CalibrationError as error:
            raise CalibrationError(error.what, path=path, remedy=error.remedy) from error
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise CalibrationError(
                f"is not a calibration set ({error})",
                path=path,
                remedy="Make one with: pkecho-edge calibrate DATA",
            ) from error


def _entry(raw: dict[str, Any]) -> CalibrationEntry:
    """ValueError where a fingerprint is none, or there is none."""
    prints = raw["fingerprints"]
    if not isinstance(prints, list) or not prints or not all(map(is_fingerprint, prints)):
        raise ValueError(f"a fingerprint is not {2 * BYTES} hexadecimal digits")
    return CalibrationEntry(**{**raw, "fingerprints": tuple(prints)})
