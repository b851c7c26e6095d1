"""Distillation: a pruned network learns the answers of the network that it was cut from.

    out/best.safetensors   highest agreement on the held-out lessons so far
    out/state.pt           to resume from

The loss compares final answers pixel by pixel, as overlap and by their area (ejection fraction is a
matter of areas), and on the coarse grid every refinement and what enters the head. Each affinity
estimator is compared by what it makes of the teacher's mask one level below. Ground truth, where
there is some, is mixed in. Lessons of which the teacher is unsure are shown more often: what it
answers to them depends on every detail, and is what a smaller network misses.

The steps come in two parts. In the first, augmentation is on and BatchNorm takes its statistics
from each batch, which at 320x320 is a single clip. For the rest ("settling") the statistics are
taken anew over many batches and then kept, as in deployment, and lessons are shown as they were
taught: to a brighter or mirrored picture the teacher would have answered something else. A network
that works when it begins to learn, because it was refitted, needs the second part alone.

Every random number is drawn from a generator seeded by the recipe's seed and the step's number, so
a run that was killed goes on bit for bit as if it had not been (on the CPU, with as many threads).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pkecho_edge.errors import CheckpointError, UnusableInput, UsageError
from pkecho_edge.metrics.overlap import dice
from pkecho_edge.model.checkpoint import load_checkpoint, save_checkpoint
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.model.region_proxy import upsample_with_affinity
from pkecho_edge.processors import computes_bf16
from pkecho_edge.training.augmentation import Augmentation, augmented
from pkecho_edge.training.lessons import Answers, Lessons, answers_of, rising_sizes
from pkecho_edge.training.losses import dice_loss
from pkecho_edge.training.state import RunState, read_state, write_state

__all__ = ["DistillationRecipe", "Distilled", "LessonStep", "agreement", "distil"]

BEST, STATE = "best.safetensors", "state.pt"

_SETTLING_BATCHES = 48
_LEAST_AREA = 0.01  # of the image: the area that a small mask's error is held against
_DIVERGED = 3.0
_NO_CHANGE = Augmentation(
    flip=0.0, reversal=0.0, brightness=0.0, contrast=0.0, rotation_degrees=0.0
)


@dataclass(frozen=True)
class DistillationRecipe:
    """How a pruned network recovers.

    Attributes:
        steps: optimiser steps.
        pixels: of each step, over clips and frames; a step sees at least one clip.
        frames: of each clip whose final masks are compared, drawn anew in each step; on the coarse
            grid all of them are.
        learning_rate: of Adam at the first step, then times (1 - step / steps) ** power.
        power: of the poly schedule.
        settle: the share of the steps after which statistics are taken anew and kept, and nothing
            is augmented; 0 keeps those that the network comes with from the first step.
        doubt_power: lessons are shown in proportion to this power of the teacher's doubt; 0 shows
            all alike.
        coarse_weight: of each refinement's answer on the coarse grid.
        feature_weight: of what enters the head.
        rising_weight: of what each affinity estimator but the finest makes of the teacher's masks.
        area_weight: of the mask's area.
        truth_weight: of the Dice loss against ground truth, on the frames that have some.
        check_every: steps between two looks at the held-out lessons.
        patience: share of the settled steps without a better look, after which a run ends; 0 never
            ends it.
        precision: "bf16" autocasts the forward pass, "f32" does not, "auto" does where the
            processor computes in bfloat16.
        gradient_norm: gradients are scaled down to it.
        seed: of order and augmentation.
        augmentation: limits of the random changes, which the teacher's answers follow.

    Raises:
        UsageError: a value outside its range.
    """

    steps: int = 2400
    pixels: int = 1 << 20
    frames: int = 4
    learning_rate: float = 1e-3
    power: float = 0.9
    settle: float = 0.6
    doubt_power: float = 2.0
    coarse_weight: float = 0.25
    feature_weight: float = 0.5
    rising_weight: float = 0.5
    area_weight: float = 1.0
    truth_weight: float = 0.1
    check_every: int = 200
    patience: float = 0.5
    precision: str = "auto"
    gradient_norm: float = 5.0
    seed: int = 0
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(rotation_degrees=10.0))

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "bf16", "f32"):
            raise UsageError(f"precision is {self.precision!r}", remedy="Use auto, bf16 or f32")
        for name in (
            "steps",
            "pixels",
            "frames",
            "learning_rate",
            "power",
            "check_every",
            "gradient_norm",
        ):
            if not 0 < getattr(self, name) < math.inf:  # false for NaN, too
                raise UsageError(f"{name} is {getattr(self, name)}", remedy="Give a number above 0")
        weights = [field.name for field in fields(self) if field.name.endswith("_weight")]
        for name in (*weights, "doubt_power", "patience"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}", remedy="Give 0 or more")
        if not 0 <= self.settle <= 1:
            raise UsageError(f"settle is {self.settle}", remedy="Give a share from 0 to 1")

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class LessonStep:
    """What a step did; `agreement` is in percent, and None but after a look at what is held out."""

    step: int
    steps: int
    loss: float
    agreement: float | None = None


@dataclass(frozen=True)
class Distilled:
    """A network that has learned.

    Attributes:
        network: the best one, in eval mode, on the CPU.
        agreement: its DSC with the teacher on the held-out lessons, percent.
        before: the same before the first step.
        steps: that were taken; fewer than ordered where patience or divergence ended the run.
        diverged: whether a loss or a weight was not finite, or agreement fell apart; the network is
            the best one from before.
    """

    network: PKEchoNet
    agreement: float
    before: float
    steps: int
    diverged: bool


def distil(
    student: PKEchoNet,
    lessons: Sequence[Lessons],
    held: Sequence[Lessons],
    recipe: DistillationRecipe,
    out: Path,
    *,
    device: torch.device | None = None,
    resume: bool = True,
    afresh: bool = False,
    on_step: Callable[[LessonStep], None] = lambda _: None,
) -> Distilled:
    """Let a network learn another one's answers.

    Args:
        student: is trained in place; what is returned is the best it has been.
        lessons: one entry for each size of frames; a step's are all of one size.
        held: lessons to look at on the way, of other patients; not learned from.
        recipe: how.
        out: folder for the state and the best network; made if it is missing.
        device: to learn on; None for the CPU.
        resume: go on from `out/state.pt` where there is one.
        afresh: begin anew where that state is damaged or of other inputs, rather than refuse it.
        on_step: hears of every step that this call takes.

    Raises:
        UnusableInput: there are no lessons, or none are held out.
        UsageError: `out` cannot be written, or (unless `afresh`) it holds a run on other inputs.
        CheckpointError: the state there is damaged (unless `afresh`).
    """
    if not any(map(len, lessons)) or not any(map(len, held)):
        raise UnusableInput(
            "there is nothing to learn from, or nothing to see by whether it helps",
            remedy="Give recordings of at least two patients",
        )
    run = _Run(student, lessons, held, recipe, device or torch.device("cpu"))
    return run.finish(out, resume, afresh, on_step)


@dataclass(frozen=True)
class _Batch:
    """What a step sees.

    Attributes:
        clips: f32 [B, T, 1, H, W].
        shown: i64 [F], the frames whose final masks are compared.
        teacher: its answers; `logits` holds the probabilities of the F frames, and there are no
            affinities.
        rising: f32 [B F, 1, h', w'] each, its `rising_masks`.
        truth, labelled: f32 [B, F, 1, H, W] and bool [B, F].
    """

    clips: Tensor
    shown: Tensor
    teacher: Answers
    rising: Sequence[Tensor]
    truth: Tensor
    labelled: Tensor


class _Run:
    """The student, its optimizer, and how far they are."""

    def __init__(
        self,
        student: PKEchoNet,
        lessons: Sequence[Lessons],
        held: Sequence[Lessons],
        recipe: DistillationRecipe,
        device: torch.device,
    ) -> None:
        self.lessons = [each for each in lessons if len(each)]
        self.shares = [torch.from_numpy(x.doubt() ** recipe.doubt_power) for x in self.lessons]
        self.held, self.recipe, self.device = held, recipe, device
        self.student = student.to(device)
        student.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # not annotated
        self.optimizer = torch.optim.Adam(student.parameters(), lr=recipe.learning_rate)
        self.bf16 = recipe.precision == "bf16" or (
            recipe.precision == "auto" and (device.type != "cpu" or computes_bf16())
        )
        self.step, self.best, self.best_settled, self.since = 0, -1.0, 0.0, 0
        self.settled = math.floor(recipe.steps * recipe.settle)
        self.diverged = False

    def finish(
        self, out: Path, resume: bool, afresh: bool, on_step: Callable[[LessonStep], None]
    ) -> Distilled:
        """Take the steps that are left; see `distil`."""
        inputs = self._inputs()
        before = agreement(self.student, self.held, self.device)
        state = None
        if resume and (out / STATE).is_file():
            with suppress(*((CheckpointError, UsageError) if afresh else ())):
                state = read_state(out / STATE, inputs)
        if state is None:
            self._keep_best(out, before)
        else:
            self._restore(state)
        while self.step < self.recipe.steps and not (self._over() or self.diverged):
            loss = self._take_step()
            seen = None
            if self.diverged:
                break
            if self.step % self.recipe.check_every == 0 or self.step == self.recipe.steps:
                seen = self._look(out)
                if not self.diverged:
                    self._write(out, inputs)
            on_step(LessonStep(self.step, self.recipe.steps, loss, seen))
        best = load_checkpoint(out / BEST)
        return Distilled(best, self.best, before, self.step, self.diverged)

    def _over(self) -> bool:
        """Whether patience has ended the run; only looks after settling count."""
        recipe = self.recipe
        patient = recipe.patience * (recipe.steps - self.settled)
        return recipe.patience > 0 and self.since * recipe.check_every >= patient

    def _look(self, out: Path) -> float:
        """Agreement now; the best network is kept, and a broken one noticed."""
        finite = all(bool(torch.isfinite(t).all()) for t in self.student.state_dict().values())
        seen = agreement(self.student, self.held, self.device) if finite else math.nan
        if not math.isfinite(seen):
            self.diverged = True
            return 0.0
        if self.step > self.settled:
            # before, a network is scored by statistics that follow it: a bad look says nothing
            self.since += 1
            self.diverged = seen < max(self.best, self.best_settled) / _DIVERGED
            self.best_settled = max(self.best_settled, seen)
        if seen > self.best and not self.diverged:
            self._keep_best(out, seen)
        return seen

    def _keep_best(self, out: Path, seen: float) -> None:
        self.best, self.since = seen, 0
        with _said(out):
            save_checkpoint(self.student, out / BEST)

    def _take_step(self) -> float:
        """One optimiser step; its loss. The weights move only if that is finite."""
        if self.step == self.settled and self.recipe.settle:
            self._settle()
        self.student.train()
        self._still(kept=self.step >= self.settled)
        left = 1 - self.step / self.recipe.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * left**self.recipe.power
        loss = self._loss(self._batch(self.step))
        value = float(loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.gradient_norm)
            self.optimizer.step()
        else:
            self.diverged = True
        self.step += 1
        return value

    def _still(self, *, kept: bool) -> None:
        """Without dropout, which a small network does not need; BatchNorm as it is deployed."""
        for module in self.student.modules():
            if isinstance(module, nn.Dropout | nn.MultiheadAttention):
                module.eval()
            if isinstance(module, nn.BatchNorm2d) and kept:
                module.eval()

    def _settle(self) -> None:
        """Take BatchNorm's statistics anew: the plain mean over many batches."""
        norms = [m for m in self.student.modules() if isinstance(m, nn.BatchNorm2d)]
        usual = [norm.momentum for norm in norms]
        self.student.train()
        self._still(kept=False)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        with torch.no_grad(), self._cast():
            for number in range(_SETTLING_BATCHES):
                batch = self._batch(-1 - number)
                answers_of(self.student, batch.clips, batch.shown)
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum

    def _cast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _batch(self, number: int) -> _Batch:
        """What the step of this number sees."""
        recipe = self.recipe
        generator = torch.Generator().manual_seed(_stream(recipe.seed, number))
        clips_of = [max(1, recipe.pixels // each.frames[0].size) for each in self.lessons]
        steps_of = torch.tensor([len(x) / n for x, n in zip(self.lessons, clips_of, strict=True)])
        which = int(torch.multinomial(steps_of, 1, generator=generator))
        chosen, count = self.lessons[which], min(clips_of[which], len(self.lessons[which]))
        drawn = torch.multinomial(self.shares[which], count, generator=generator)
        limits = recipe.augmentation if 0 <= number < self.settled else _NO_CHANGE
        return self._moved(_taken(chosen, drawn.sort().values.numpy()), limits, generator)

    def _moved(
        self,
        lesson: tuple[Tensor, ...],
        limits: Augmentation,
        generator: torch.Generator,
    ) -> _Batch:
        """On the device, and augmented: whatever was answered moves with the pictures."""
        frames, answers, coarse, features, rising, truth, labelled = (
            t.to(self.device) for t in lesson
        )
        clips, change = augmented(frames, limits, generator)

        def moved(x: Tensor) -> Tensor:
            # logits and features have no value that means "nothing", as probabilities have
            return change.move(x, outside="border")

        sizes = rising_sizes(self.student, (coarse.shape[-2], coarse.shape[-1]))
        each = torch.split(rising, [height * width for height, width in sizes], dim=-1)
        masks = [x.reshape(*x.shape[:-1], *size) for x, size in zip(each, sizes, strict=True)]
        coarse = moved(coarse.transpose(1, 2)).permute(2, 0, 1, 3, 4)
        shown = torch.randperm(frames.shape[1], generator=generator)[: self.recipe.frames].to(
            self.device
        )
        answers, truth = (change.move(x)[:, shown] for x in (answers, truth))
        return _Batch(
            clips,
            shown,
            Answers(answers, coarse, moved(features)),
            [moved(x[:, :, None])[:, shown].flatten(0, 1) for x in masks],
            truth,
            change.order(labelled)[:, shown],
        )

    def _loss(self, batch: _Batch) -> Tensor:
        recipe, teacher = self.recipe, batch.teacher
        with self._cast():
            found = answers_of(self.student, batch.clips, batch.shown)
        logits = found.logits.float()
        loss = _pixel_loss(logits, teacher.logits) + dice_loss(logits, teacher.logits)
        loss = loss + recipe.area_weight * _area_loss(logits, teacher.logits)
        for ours, theirs in zip(found.coarse.float(), teacher.coarse, strict=True):
            loss = loss + recipe.coarse_weight * _pixel_loss(ours, theirs.sigmoid())
        scale = teacher.features.square().mean().clamp(min=1e-6)
        apart = (found.features.float() - teacher.features).square().mean() / scale
        loss = loss + recipe.feature_weight * apart
        below = teacher.coarse[-1][:, batch.shown].flatten(0, 1)[:, None]
        risen = _rising_loss([below, *batch.rising], found.affinities)
        loss = loss + recipe.rising_weight * risen
        if recipe.truth_weight and bool(batch.labelled.any()):
            loss = loss + recipe.truth_weight * dice_loss(logits, batch.truth, batch.labelled)
        return loss

    def _inputs(self) -> dict[str, Any]:
        """What must be the same for a run to resume."""
        return {
            "recipe": repr(sorted(self.recipe.as_dict().items())),
            "network": repr(self.student.config),
            "set of lessons": " ".join(each.sha256() for each in self.lessons),
            "set of lessons held out": " ".join(each.sha256() for each in self.held),
        }

    def _restore(self, state: RunState) -> None:
        self.student.load_state_dict(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        self.step, self.best = state.step, state.best_dsc
        self.since = int(state.inputs["looks since the best"])
        self.best_settled = float(state.inputs["best when settled"])

    def _write(self, out: Path, inputs: Mapping[str, Any]) -> None:
        looks = {"looks since the best": self.since, "best when settled": self.best_settled}
        noted = {**inputs, **looks}
        state = (self.student.state_dict(), self.optimizer.state_dict())
        with _said(out):
            write_state(RunState(self.step, self.best, noted, *state), out / STATE)


def _taken(lessons: Lessons, picked: np.ndarray) -> tuple[Tensor, ...]:
    """Some lessons in f32, in the order of their fields: frames and answers in [0, 1]."""
    truth = np.unpackbits(np.asarray(lessons.truth[picked]), axis=-1)
    return (
        torch.from_numpy(np.asarray(lessons.frames[picked])).float() / 255,
        torch.from_numpy(np.asarray(lessons.answers[picked])).float() / 255,
        torch.from_numpy(np.asarray(lessons.coarse[picked])).float(),
        torch.from_numpy(np.asarray(lessons.features[picked])).float(),
        torch.from_numpy(np.asarray(lessons.rising[picked])).float(),
        torch.from_numpy(truth).float(),
        torch.from_numpy(np.asarray(lessons.labelled[picked])),
    )


def _pixel_loss(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the teacher, summed over a frame's pixels, in its masks.

    Args:
        logits: f32 [B, T, ..., H, W]; probabilities: the teacher's, of the same shape.

    Returns:
        scalar: the sum over all pixels over the teacher's area, each frame counting at least
        _LEAST_AREA of the image; 0 where both say the same.
    """
    q = probabilities.clamp(1e-4, 1 - 1e-4)
    entropy = F.binary_cross_entropy(q, q, reduction="none")
    apart = F.binary_cross_entropy_with_logits(logits, q, reduction="none") - entropy
    return apart.sum() / _area(q).sum()


def _rising_loss(masks: Sequence[Tensor], affinities: Sequence[Tensor]) -> Tensor:
    """What each estimator makes of the teacher's mask one level below, against the level above.

    A mask that comes out wrong at the end does not say which step went astray; this does.

    Args:
        masks: the teacher's logits [N, 1, h, w], from the coarse grid upwards.
        affinities: the student's, coarsest first, one or more for each step between masks.
    """
    loss = masks[0].new_zeros(())
    for below, above, affinity in zip(masks[:-1], masks[1:], affinities, strict=False):
        loss = loss + _pixel_loss(upsample_with_affinity(below, affinity.float()), above.sigmoid())
    return loss


def _area(probabilities: Tensor) -> Tensor:
    """Of each frame's mask in pixels, at least _LEAST_AREA of the image: [B, T]."""
    flat = probabilities.flatten(2)
    return flat.sum(-1).clamp(min=_LEAST_AREA * flat.shape[-1])


def _area_loss(logits: Tensor, probabilities: Tensor) -> Tensor:
    """How far the masks' areas are apart, relative to the teacher's; smooth below 2 %."""
    ours, theirs = logits.sigmoid().flatten(2).sum(-1), probabilities.flatten(2).sum(-1)
    apart = (ours - theirs) / _area(probabilities)
    return F.smooth_l1_loss(apart, torch.zeros_like(apart), beta=0.02)


def agreement(
    network: PKEchoNet, held: Sequence[Lessons], device: torch.device | None = None
) -> float:
    """DSC with the teacher's masks in percent: mean over frames, clips and then sizes.

    Args:
        network: left in eval mode.
        held: lessons, at least one in all.
        device: the network's; None for the CPU.
    """
    network.eval()
    means = []
    for lessons in held:
        scores = []
        for frames, answers in zip(lessons.frames, lessons.answers, strict=True):
            clip = torch.from_numpy(np.array(frames)).to(device)[None].float() / 255
            with torch.inference_mode():
                masks = (network(clip)[-1][0] > 0).cpu().numpy()
            scores.append(float(np.mean(dice(answers[:, 0] >= 128, masks[:, 0]))))
        if scores:
            means.append(100 * float(np.mean(scores)))
    return float(np.mean(means))


def _stream(seed: int, number: int) -> int:
    """A seed for one step: different for every (seed, number), numbers below 0 too."""
    return ((seed + 1) * 1_000_003 + number * 1_009) % (1 << 63)


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn what the operating system raises on writing into a UsageError."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", path=path, remedy="Free some space, run again"
        ) from error
