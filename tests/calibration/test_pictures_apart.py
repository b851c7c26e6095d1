"""How far copies and other hearts lie apart by fingerprint. On demand: `pytest -s -m slow`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.calibration.fingerprint import NEAR, distances, fingerprints, telling_bits
from pkecho_edge.data.clip import equidistant_indices
from pkecho_edge.data.phantom import draw_spec, phantom_recording
from pkecho_edge.data.resize import resize_frames
from pkecho_edge.data.sources import phantoms, standard_set
from pkecho_edge.data.standard import CALIBRATION_SEEDS

SIZE = (128, 128)
HEARTS = 200
Frames = NDArray[np.uint8]


def bits(frames: Frames) -> NDArray[np.bool_]:
    """Of frames u8 [T, H, W]."""
    return telling_bits(fingerprints(frames[:, None]))


def clipped(values: Any) -> Frames:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def resized(size: int) -> Callable[[Frames], Frames]:
    return lambda frames: resize_frames(resize_frames(frames, (size, size)), SIZE)


def noisy(levels: int) -> Callable[[Frames], Frames]:
    rng = np.random.default_rng(0)
    return lambda frames: clipped(frames + rng.normal(0, levels, frames.shape))


def cropped(pixels: int) -> Callable[[Frames], Frames]:
    return lambda frames: resize_frames(
        np.ascontiguousarray(frames[:, pixels:-pixels, pixels:-pixels]), SIZE
    )


COPIES: dict[str, Callable[[Frames], Frames]] = {
    "5 grey levels brighter": lambda frames: clipped(frames.astype(int) + 5),
    "5 grey levels darker": lambda frames: clipped(frames.astype(int) - 5),
    "gain of 0.8": lambda frames: clipped(frames * 0.8),
    "gamma of 0.8": lambda frames: clipped(255 * (frames / 255) ** 0.8),
    "through 96x96": resized(96),
    "through 112x112": resized(112),
    "through 320x320": resized(320),
    "noise of 3 grey levels": noisy(3),
    "noise of 8 grey levels": noisy(8),
}
CROPS = {f"cropped by {pixels}": cropped(pixels) for pixels in (2, 4)}


@pytest.mark.slow
def test_copies_lie_below_the_limit_and_other_hearts_above() -> None:
    """Prints the table of docs/calibration.md."""
    ours = [clip.frames[:, 0] for clip in phantoms(CALIBRATION_SEEDS[:HEARTS], SIZE)]
    prints = [bits(frames) for frames in ours]
    others = [bits(clip.frames[:, 0]) for clip in standard_set(SIZE, HEARTS)]
    among = distances(prints, prints)[np.triu_indices(HEARTS, 1)]
    apart = np.concatenate([among, distances(others, prints).ravel()])
    print(f"{len(apart)} pairs of other hearts: median {np.median(apart):g}, least {apart.min():g}")
    assert apart.min() > NEAR

    for name, change in {**COPIES, **CROPS}.items():
        found = [
            distances([bits(change(frames))], [own])[0, 0]
            for frames, own in zip(ours, prints, strict=True)
        ]
        print(f"{name}: median {np.median(found):g}, most {max(found):g}")
        if name in COPIES:
            assert max(found) <= NEAR

    later = []
    for seed in CALIBRATION_SEEDS[:16]:
        recording = phantom_recording(draw_spec(seed), size=SIZE)
        indices = np.array(equidistant_indices(recording.ed_index, recording.es_index, 10))
        following = np.clip(indices + 1, 0, len(recording.frames) - 1)
        sides = [bits(recording.frames[chosen]) for chosen in (following, indices)]
        later.append(distances(sides[:1], sides[1:])[0, 0])
    print(f"every frame the next one: median {np.median(later):g}, most {max(later):g}")
    assert max(later) <= NEAR
