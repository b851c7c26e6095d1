"""A pack: the clips on which a device scores its plans, with the baseline's masks and the truth.

One .npz file without pickles whose arrays are stored as they are, so that its size bounds what
reading it takes. Its layout the device kit shares: `index`, JSON as bytes; per mode and clip
`MODE_N_frames` u8 [L, H, W], `MODE_N_baseline` and `MODE_N_truth`, masks as packed bits of every
frame and of the labelled ones; `baseline_torchscript`, the FP32 network. Equal content gives equal
bytes.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput
from pkecho_edge.files import atomic_file

__all__ = ["PACK_SCHEMA", "PackClip", "write_pack"]

PACK_SCHEMA = "pkecho-edge/pack/2"
_MAX_BYTES = 4 << 30
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a zip file knows."""


@dataclass(frozen=True)
class PackClip:
    """A clip, or a sequence, and the baseline's masks of it, bool [L, H, W]."""

    clip: Clip
    baseline: NDArray[np.bool_]


def write_pack(
    path: Path,
    modes: Mapping[str, Iterable[PackClip]],
    *,
    bundle_id: str,
    checkpoint_sha256: str,
    window: int,
    torchscript: bytes | None = None,
) -> None:
    """Write a pack, whole or not at all; one clip at a time is held in memory.

    Args:
        path: of the .npz file.
        modes: mode -> its clips, at least one, all of one size.
        bundle_id: of the bundle whose plans are scored.
        checkpoint_sha256: of the baseline.
        window: T.
        torchscript: the baseline network, clips f32 [1, T, 1, H, W] -> masks; None for none.

    Raises:
        UnusableInput: no clips, or more than 4 GiB of them.
        OSError: it cannot be written.
    """
    index: dict[str, Any] = {
        "schema": PACK_SCHEMA,
        "bundle_id": bundle_id,
        "checkpoint_sha256": checkpoint_sha256,
        "window": window,
        "modes": {},
    }
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for mode, clips in modes.items():
            index["modes"][mode] = _write_clips(archive, mode, clips)
        _add(archive, "index", np.frombuffer(json.dumps(index).encode(), np.uint8))
        if torchscript is not None:
            _add(archive, "baseline_torchscript", np.frombuffer(torchscript, np.uint8))


def _write_clips(
    archive: zipfile.ZipFile, mode: str, clips: Iterable[PackClip]
) -> list[dict[str, Any]]:
    """Add the arrays of every clip; returns their entries for the index."""
    entries = []
    for number, each in enumerate(clips):
        frames = each.clip.frames[:, 0]
        truth = np.zeros((0, *frames.shape[1:]), np.bool_)
        if each.clip.truth is not None:
            truth = each.clip.truth[_labelled(each.clip)]
        arrays = {"frames": frames, "baseline": _packed(each.baseline), "truth": _packed(truth)}
        for name, array in arrays.items():
            _add(archive, f"{mode}_{number}_{name}", array)
        if sum(item.file_size for item in archive.infolist()) > _MAX_BYTES:
            raise UnusableInput("the clips take more than 4 GiB", remedy="Pack fewer, with --clips")
        entries.append(_entry(each.clip))
    if not entries:
        raise UnusableInput("there is nothing to pack", remedy="Name a folder with data")
    return entries


def _add(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    member = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
    with archive.open(member, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def _entry(clip: Clip) -> dict[str, Any]:
    return {
        "identifier": clip.identifier,
        "patient": clip.patient,
        "content_sha256": clip.content_sha256,
        "length": len(clip.frames),
        "truth": _labelled(clip),
    }


def _labelled(clip: Clip) -> list[int]:
    return [] if clip.truth is None else [int(i) for i in np.flatnonzero(clip.labelled)]


def _packed(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """bool [N, H, W] -> u8 [N, ceil(H W / 8)]."""
    count, height, width = masks.shape
    return np.packbits(masks.reshape(count, height * width), axis=1)
