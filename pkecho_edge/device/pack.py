"""A pack: the clips on which a device scores its plans, with the baseline's masks and the truth.

One .npz file without pickles, whose layout the device kit shares: `index`, JSON as bytes; per mode
`MODE_frames` u8 [N, H, W], all clips one after the other; `MODE_baseline` and `MODE_truth`, masks
as packed bits, of every frame and of the labelled ones; `baseline_torchscript`, the FP32 network.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput
from pkecho_edge.files import write_atomically

__all__ = ["PACK_SCHEMA", "PackClip", "write_pack"]

PACK_SCHEMA = "pkecho-edge/pack/1"
_MAX_BYTES = 4 << 30


@dataclass(frozen=True)
class PackClip:
    """A clip, or a sequence, and the baseline's masks of it, bool [L, H, W]."""

    clip: Clip
    baseline: NDArray[np.bool_]


def write_pack(
    path: Path,
    modes: Mapping[str, Sequence[PackClip]],
    *,
    bundle_id: str,
    checkpoint_sha256: str,
    window: int,
    torchscript: bytes | None = None,
) -> None:
    """Write a pack, whole or not at all.

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
    arrays: dict[str, NDArray[Any]] = {}
    index: dict[str, Any] = {
        "schema": PACK_SCHEMA,
        "bundle_id": bundle_id,
        "checkpoint_sha256": checkpoint_sha256,
        "window": window,
        "modes": {},
    }
    for mode, clips in modes.items():
        if not clips:
            raise UnusableInput("there is nothing to pack", remedy="Name a folder with data")
        index["modes"][mode] = [_entry(each.clip) for each in clips]
        arrays |= _arrays(mode, clips)
    if sum(array.nbytes for array in arrays.values()) > _MAX_BYTES:
        raise UnusableInput("the clips take more than 4 GiB", remedy="Pack fewer, with --clips")
    arrays["index"] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    if torchscript is not None:
        arrays["baseline_torchscript"] = np.frombuffer(torchscript, np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its stubs forget the names
    write_atomically(path, buffer.getvalue())


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


def _arrays(mode: str, clips: Sequence[PackClip]) -> dict[str, NDArray[Any]]:
    truth = [each.clip.truth[_labelled(each.clip)] for each in clips if each.clip.truth is not None]
    shape = clips[0].clip.frames.shape[-2:]
    return {
        f"{mode}_frames": np.concatenate([each.clip.frames[:, 0] for each in clips]),
        f"{mode}_baseline": _packed([each.baseline for each in clips], shape),
        f"{mode}_truth": _packed(truth, shape),
    }


def _packed(masks: Sequence[NDArray[np.bool_]], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """bool [N, H, W] each -> u8 [sum of N, ceil(H W / 8)]."""
    joined = np.concatenate([np.zeros((0, *shape), bool), *masks])
    return np.packbits(joined.reshape(len(joined), -1), axis=1)
