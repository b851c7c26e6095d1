"""What a network is trained on: short clips with labels on their two ends, kept in memory.

Decoding a video takes longer than a training step may wait, so every sample is decoded, cut,
resized and given its distance maps once, before the first step. A sample of ten frames takes 16
bytes a pixel: 0.26 MB at 128x128, 1.6 MB at 320x320.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pkecho_edge.data.clip import Clip, clip_at, equidistant_indices, window_indices
from pkecho_edge.data.dataset import Skipped
from pkecho_edge.data.recording import Recording
from pkecho_edge.errors import RecordingError, UnusableInput
from pkecho_edge.training.augmentation import Batch
from pkecho_edge.training.distance import signed_distance

__all__ = ["Samples", "draw_samples", "training_windows"]


@dataclass(frozen=True)
class Samples:
    """N training samples of one size.

    Attributes:
        frames: u8 [N, T, 1, H, W].
        truth: bool [N, 2, 1, H, W], masks of the first and the last frame; False where unlabelled.
        distance: f16 [N, 2, 1, H, W], signed distance maps in pixels; 0 where unlabelled.
        labelled: bool [N, 2].
        identifiers: of the clips.
        recordings: how many recordings they come from.
    """

    frames: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    distance: NDArray[np.float16]
    labelled: NDArray[np.bool_]
    identifiers: tuple[str, ...]
    recordings: int

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples of these indices, f32, on the CPU."""
        picked = list(indices)
        return Batch(
            clips=torch.from_numpy(self.frames[picked]).float() / 255,
            truth=torch.from_numpy(self.truth[picked]).float(),
            distance=torch.from_numpy(self.distance[picked]).float(),
            labelled=torch.from_numpy(self.labelled[picked]),
        )

    def sha256(self) -> str:
        """Of the pictures and the labels: a run resumes on the samples that it began with."""
        digest = hashlib.sha256()
        for array in (self.frames, self.truth, self.labelled):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def draw_samples(
    recordings: Iterable[Recording],
    size: tuple[int, int],
    *,
    length: int,
    windows: int,
    seed: int,
    on_skip: Callable[[Skipped], None],
    advance: Callable[[], None] = lambda: None,
) -> Samples:
    """Cut `windows` samples from each recording.

    Args:
        recordings: looked at once, one in memory at a time.
        size: (H, W) in pixels.
        length: T.
        windows: see `training_windows`.
        seed: of the windows.
        on_skip: hears of each recording that gives no sample, and why.
        advance: called after each recording.

    Raises:
        UnusableInput: no recording gives a sample.
    """
    clips: list[Clip] = []
    used = 0
    for recording in recordings:
        # by name, not by place: a recording keeps its windows when others come or go
        name = hashlib.sha256(recording.identifier.encode()).digest()
        rng = np.random.default_rng((seed, int.from_bytes(name[:8], "little")))
        try:
            found = [
                _checked(clip_at(recording, indices, size))
                for indices in training_windows(recording, length, windows, rng)
            ]
        except RecordingError as error:
            on_skip(Skipped(recording.identifier, error.what, recording.split))
        else:
            clips += found
            used += 1
        advance()
    if not clips:
        raise UnusableInput(
            "there is nothing to train on: no recording gives a sample",
            remedy="Name a folder whose recordings are labelled on at least one frame",
        )
    return _stacked(clips, used)


def training_windows(
    recording: Recording, length: int, count: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Frame numbers of `count` samples: the clip from ED to ES, then others from the whole cycle.

    Each other one begins or ends at a labelled frame and spans half to one and a half times the
    distance from ED to ES (or that of an unlabelled recording's clips, where it is unknown). Where
    ED and ES are not two labelled frames, all are of the second kind. Fewer are returned where the
    recording has no more different ones.

    Args:
        recording: labelled on at least one frame.
        length: T.
        count: at least 1.
        rng: decides.

    Raises:
        RecordingError: no frame is labelled, or there is one frame only.
    """
    n = len(recording.frames)
    if not recording.labelled:
        raise RecordingError(f"recording {recording.identifier!r} has no labelled frame")
    if n < 2:
        raise RecordingError(f"recording {recording.identifier!r} has one frame")
    ed, es = recording.ed_index, recording.es_index
    found: list[tuple[int, ...]] = []
    if ed is not None and es is not None and ed != es and {ed, es} <= set(recording.labelled):
        found.append(equidistant_indices(min(ed, es), max(ed, es), length))
        span = abs(ed - es)
    else:
        usual = window_indices(n, recording.frame_rate_hz, length)[0]
        span = usual[-1] - usual[0]
    for _ in range(8 * count):
        if len(found) >= count:
            break
        anchor = int(rng.choice(recording.labelled))
        reach = int(np.clip(round(span * rng.uniform(0.5, 1.5)), 1, n - 1))
        back = rng.random() < 0.5
        if not 0 <= (anchor - reach if back else anchor + reach) < n:
            back = not back  # it does not fit on this side
        other = int(np.clip(anchor - reach if back else anchor + reach, 0, n - 1))
        window = equidistant_indices(min(anchor, other), max(anchor, other), length)
        if other != anchor and window not in found:
            found.append(window)
    return found


def _checked(clip: Clip) -> Clip:
    """The clip, if the masks at its labelled ends are not empty.

    Raises:
        RecordingError: one is, or neither end is labelled.
    """
    if clip.truth is None or not (clip.labelled[0] or clip.labelled[-1]):
        raise RecordingError(f"recording {clip.recording!r} is labelled on neither end")
    for index in (0, -1):
        if clip.labelled[index] and not clip.truth[index].any():
            raise RecordingError(
                f"the mask of frame {clip.frame_indices[index]} of {clip.recording!r} is empty"
            )
    return clip


def _stacked(clips: list[Clip], recordings: int) -> Samples:
    truths = [clip.truth[[0, -1]] for clip in clips if clip.truth is not None]  # [2, H, W] each
    distances = [[signed_distance(mask) for mask in pair] for pair in truths]
    return Samples(
        frames=np.stack([clip.frames for clip in clips]),
        truth=np.stack(truths)[:, :, None],
        distance=np.array(distances, dtype=np.float16)[:, :, None],
        labelled=np.array([[clip.labelled[0], clip.labelled[-1]] for clip in clips]),
        identifiers=tuple(clip.identifier for clip in clips),
        recordings=recordings,
    )
