"""Lessons: what a trained network answers on recordings, for another one to learn from.

Every frame gives a signal, labelled or not. A lesson holds the final answer pixel by pixel, and on
the coarse grid, where they take next to no room, the logits of every refinement and the features
that the kernels are matched with: a pruned network keeps the head of its teacher, so what enters
the head must come out alike. It also holds the masks on their way up from the coarse grid, which
show each affinity estimator what it should have made of its teacher's mask one level below. A
lesson of ten frames takes 2.4 bytes a pixel of each frame.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from os import SEEK_END
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.model.region_proxy import upsample_with_affinity

__all__ = ["Answers", "Lessons", "answers_of", "read_lessons", "rising_masks", "rising_sizes"]
__all__ += ["teach"]


@dataclass(frozen=True)
class Answers:
    """What a network says to clips; gradients flow through it.

    Attributes:
        logits: f32 [B, F, 1, H, W], the final ones of the frames that were asked for.
        coarse: f32 [R + 1, B, T, h, w], of every refinement before it is upsampled.
        features: f32 [B, T, C, h, w], reduced.
        affinities: f32 [B F, 9, r^2, h', w'] each, of the frames that were asked for, coarsest
            first; () for a network without estimators.
    """

    logits: torch.Tensor
    coarse: torch.Tensor
    features: torch.Tensor
    affinities: tuple[torch.Tensor, ...] = ()


def answers_of(
    network: PKEchoNet, clips: torch.Tensor, shown: torch.Tensor | None = None
) -> Answers:
    """A network's answers, each clip by itself as in deployment, whatever the mode.

    Args:
        network: in either mode; in training mode its BatchNorm sees the whole batch.
        clips: f32 [B, T, 1, H, W] in [0, 1].
        shown: i64 [F], the frames of each clip whose masks are brought to the image's size; None
            for all. Half of a training step of a small network is spent on that.
    """
    batch, length = clips.shape[:2]
    shown = torch.arange(length, device=clips.device) if shown is None else shown
    features = network.encoder_layer0(clips.flatten(0, 1))
    affinities = []
    for stage, estimator in network.stages():
        features = stage(features)
        if estimator is not None:
            affinities.append(estimator(_frames(features, batch, shown)))
    reduced = network.kss.reduce(features)  # [BT, C, h, w]
    # cross-video attention would mix the clips of a batch
    each = [network.kss.refine(clip) for clip in reduced.view(batch, length, *reduced.shape[1:])]
    masks = [torch.cat(step) for step in zip(*each, strict=True)]  # [BT, 1, h, w] each
    logits = network.upsample(_frames(masks[-1], batch, shown), affinities)
    coarse = torch.stack([step.view(batch, length, *step.shape[2:]) for step in masks])
    return Answers(
        logits.view(batch, len(shown), *logits.shape[1:]),
        coarse,
        reduced.view(batch, length, *reduced.shape[1:]),
        tuple(reversed(affinities)),
    )


def rising_masks(masks: torch.Tensor, affinities: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Masks on their way up from the coarse grid, both ends left out.

    Args:
        masks: f32 [N, 1, h, w], coarse logits.
        affinities: of the same N frames, coarsest first.

    Returns:
        f32 [N, 1, h', w'] each; one fewer than there are affinities, [] without any.
    """
    found = []
    for affinity in affinities[:-1]:
        masks = upsample_with_affinity(masks, affinity)
        found.append(masks)
    return found


def rising_sizes(network: PKEchoNet, coarse: tuple[int, int]) -> list[tuple[int, int]]:
    """(h', w') of each of a network's `rising_masks`, from (h, w) of the coarse grid."""
    factors = [estimator.factor for _, estimator in network.stages() if estimator is not None]
    sizes = []
    height, width = coarse
    for factor in factors[:0:-1]:  # the deepest first, the last step leads to the image
        height, width = height * factor, width * factor
        sizes.append((height, width))
    return sizes


def _frames(x: torch.Tensor, batch: int, shown: torch.Tensor) -> torch.Tensor:
    """[B T, ...] -> [B F, ...], the frames that are shown of each clip."""
    length = x.shape[0] // batch
    first = torch.arange(batch, device=x.device) * length
    return x[(first[:, None] + shown[None]).flatten()]


@dataclass(frozen=True)
class Lessons:
    """N lessons of one size.

    Attributes:
        frames: u8 [N, T, 1, H, W].
        answers: u8 [N, T, 1, H, W], the teacher's probabilities in 255ths.
        coarse: f16 [N, R + 1, T, h, w], its logits of every refinement.
        features: f16 [N, T, C, h, w], its reduced features.
        rising: f16 [N, T, P], its `rising_masks`, one after the other; P is 0 where there are none.
        truth: u8 [N, T, 1, H, W / 8], ground truth, eight pixels to a byte; 0 where unlabelled.
        labelled: bool [N, T].
    """

    frames: NDArray[np.uint8]
    answers: NDArray[np.uint8]
    coarse: NDArray[np.float16]
    features: NDArray[np.float16]
    rising: NDArray[np.float16]
    truth: NDArray[np.uint8]
    labelled: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        height, width = self.frames.shape[-2:]
        return height, width

    def sha256(self) -> str:
        """Of everything: a run resumes on the lessons that it began with."""
        digest = hashlib.sha256()
        for field in fields(self):
            array = getattr(self, field.name)
            digest.update(f"{field.name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def doubt(self) -> NDArray[np.float64]:
        """How unsure the teacher is of each lesson: float64 [N], above 0.

        4 p (1 - p) summed over pixels and frames, over the area of its masks in all of them, which
        counts at least a hundredth of the image. On phantoms of good quality it is 0.2, on poor
        ones twice that.
        """
        found = []
        for answers in self.answers:  # mapped: one at a time
            p = answers.astype(np.float32) / 255
            found.append(float((4 * p * (1 - p)).sum() / max(float(p.sum()), p.size / 100)))
        return np.maximum(np.array(found, dtype=np.float64), 1e-3)

    def sample(self, count: int) -> Lessons:
        """At most `count` of them, spread evenly over all."""
        at = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int))
        return Lessons(*(getattr(self, field.name)[at] for field in fields(self)))


def teach(
    teacher: PKEchoNet,
    clips: Iterable[Clip],
    folder: Path,
    advance: Callable[[], None] = lambda: None,
) -> Lessons:
    """The teacher's answers to clips of one size, written as they are given: one is in memory.

    Args:
        teacher: it is left as it is.
        clips: of the teacher's length.
        folder: gets one .npy file for each field; made if it is missing.
        advance: called after each clip.

    Returns:
        `read_lessons(folder)`.

    Raises:
        UnusableInput: there are none, or the teacher's answer to one is not finite.
    """
    teacher = copy.deepcopy(teacher).eval()
    teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # not annotated
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with ExitStack() as open_files:
        files = [
            open_files.enter_context((folder / f"{field.name}.npy").open("wb"))
            for field in fields(Lessons)
        ]
        for clip in clips:
            row = _lesson(teacher, clip)
            for file, array in zip(files, row, strict=True):
                # a header leaves room for its first axis to grow
                file.seek(0)
                header = {"shape": (count + 1, *array.shape), "fortran_order": False}
                write_array_header_1_0(file, {**header, "descr": dtype_to_descr(array.dtype)})
                file.seek(0, SEEK_END)
                file.write(np.ascontiguousarray(array).data)
            count += 1
            advance()
    if not count:
        raise UnusableInput(
            "there is nothing to learn from: no recording gives a clip",
            remedy="Name a folder with recordings: pkecho-edge data check DIR",
        )
    return read_lessons(folder)


def _lesson(teacher: PKEchoNet, clip: Clip) -> Sequence[NDArray[np.generic]]:
    """One row of each of the fields of Lessons."""
    with torch.inference_mode():
        answers = answers_of(teacher, torch.from_numpy(clip.frames)[None].float() / 255)
    probabilities = answers.logits[0].sigmoid()
    if not bool(torch.isfinite(probabilities).all()):
        raise UnusableInput(
            f"the network's answer to {clip.identifier} is not finite",
            remedy="Check the checkpoint: pkecho-edge evaluate CHECKPOINT",
        )
    coarse = answers.coarse[-1, 0][:, None]  # [T, 1, h, w]
    # an empty one, so that a network without estimators has a row, too
    rising = [coarse[:, :, :0], *rising_masks(coarse, answers.affinities)]
    length, height, width = clip.frames.shape[0], *clip.frames.shape[2:]
    truth = np.zeros((length, height, width), np.bool_) if clip.truth is None else clip.truth
    labelled = clip.labelled or (False,) * length
    return (
        clip.frames,
        (probabilities * 255).round().to(torch.uint8).numpy(),
        answers.coarse[:, 0].half().numpy(),
        answers.features[0].half().numpy(),
        torch.cat([each.flatten(1) for each in rising], dim=1).half().numpy(),
        np.packbits(truth, axis=-1)[:, None],
        np.array(labelled, dtype=np.bool_),
    )


def read_lessons(folder: Path) -> Lessons:
    """Of `teach`; the files are mapped, not read at once."""
    return Lessons(
        *(
            np.load(folder / f"{field.name}.npy", mmap_mode="r", allow_pickle=False)
            for field in fields(Lessons)
        )
    )
