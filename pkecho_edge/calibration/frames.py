"""Frames that would set bad ranges: one grey, frozen, dark, clipped; a recording too often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.calibration.fingerprint import NEAR, distances, fingerprints, telling_bits
from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import CalibrationError

__all__ = ["check_clips"]

_CLIPPED = 0.25
"""Share of the moving pixels at black or white from which a clip counts as clipped."""

_DARK = 16
"""A clip whose brightest pixel is no brighter shows nothing that a network could tell apart."""

_SHARE = 0.5
"""Of one recording or patient, from which a set of several clips is called one-sided."""


def check_clips(clips: Sequence[Clip]) -> tuple[str, ...]:
    """What is wrong with the clips of a calibration set.

    Returns:
        warnings, one line each; empty where there is nothing to say.

    Raises:
        CalibrationError: a clip is one grey all through, clips differ in size, or every clip is
            frozen, nearly black or clipped: no range can come of them.
    """
    sizes = Counter(clip.frames.shape[-2:] for clip in clips)
    if len(sizes) > 1:
        named = ", ".join(f"{h}x{w}" for h, w in sizes)
        raise CalibrationError(
            f"the clips are of several sizes: {named}", remedy="Give all of them one --size"
        )
    for clip in clips:
        if clip.frames.min() == clip.frames.max():
            raise CalibrationError(
                f"clip {clip.identifier!r} is grey level {clip.frames.min()} all through",
                remedy="Leave its recording out: nothing was recorded",
            )
    warnings = []
    for what, found in (
        ("frozen: its frames are all alike", [c.identifier for c in clips if _frozen(c.frames)]),
        ("nearly black", [c.identifier for c in clips if c.frames.max() <= _DARK]),
        ("clipped: much of it is black or white", [c.identifier for c in clips if _clipped(c)]),
    ):
        if clips and len(found) == len(clips):
            raise CalibrationError(
                f"every clip is {what}, as {found[0]!r}", remedy="Use recordings of moving hearts"
            )
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            warnings.append(f"clip {found[0]!r}{more} is {what}")
    return (*warnings, *_stalled(clips), *_one_sided(clips), *_twins(clips))


def _frozen(frames: NDArray[np.uint8]) -> bool:
    return len(frames) > 1 and bool((frames == frames[:1]).all())


def _stalled(clips: Sequence[Clip]) -> Iterator[str]:
    """Clips in which some frames, not all, are the one before once more.

    A short recording gives one frame to a clip twice; only different ones count.
    """
    for clip in clips:
        new = np.diff(clip.frame_indices) != 0
        alike = (clip.frames[1:] == clip.frames[:-1]).all(axis=(1, 2, 3))
        repeated = int((alike & new).sum())
        if repeated and not alike.all():
            yield f"clip {clip.identifier!r} stalls: {repeated} of its frames are the one before"


def _clipped(clip: Clip) -> bool:
    """What never changes is the sector's surroundings, not the heart."""
    moving = (clip.frames != clip.frames[:1]).any(axis=0)
    if not moving.any():
        return False
    inside = clip.frames[:, moving]
    return float(np.mean((inside == 0) | (inside == 255))) > _CLIPPED


def _one_sided(clips: Sequence[Clip]) -> Iterator[str]:
    if len(clips) < 4:
        return
    for what, names in (
        ("recording", [clip.recording for clip in clips]),
        ("patient", [clip.patient for clip in clips]),
    ):
        name, count = Counter(names).most_common(1)[0]
        if count > _SHARE * len(clips):
            yield f"{count} of {len(clips)} clips are of one {what}, {name!r}"
            return


def _twins(clips: Sequence[Clip]) -> Iterator[str]:
    """Pairs of different recordings that show the same pictures."""
    pictures = [telling_bits(fingerprints(clip.frames)) for clip in clips]
    near = distances(pictures, pictures) <= NEAR
    for first, second in np.argwhere(np.triu(near | near.T, 1)):
        one, other = clips[first], clips[second]
        if one.recording != other.recording:
            yield f"clips {one.identifier!r} and {other.identifier!r} show the same pictures"
