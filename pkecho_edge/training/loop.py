"""The training loop: Adam, poly schedule, both losses on every refinement, labels on two frames.

    out/last.safetensors   after every epoch
    out/best.safetensors   highest validation DSC so far
    out/state.pt           to resume from
    out/log.csv            a row per step; the last of an epoch has the validation DSC

Every random number is drawn from a generator seeded by the run's seed and the step's number, so a
run that was killed goes on bit for bit as if it had not been (on the CPU, with as many threads).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput, UsageError
from pkecho_edge.model.checkpoint import save_checkpoint
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.training.augmentation import Batch, augment
from pkecho_edge.training.log import open_log
from pkecho_edge.training.losses import deep_loss
from pkecho_edge.training.order import epoch_batches, steps_per_epoch
from pkecho_edge.training.processes import Processes
from pkecho_edge.training.recipe import Recipe
from pkecho_edge.training.samples import Samples
from pkecho_edge.training.state import RunState, read_state, write_state
from pkecho_edge.training.validation import validation_dsc

__all__ = ["BEST", "LAST", "LOG", "STATE", "Progress", "Trained", "train"]

_CALMER = "Lower the learning rate, or train with --precision f32"

BEST, LAST, LOG, STATE = "best.safetensors", "last.safetensors", "log.csv", "state.pt"


@dataclass(frozen=True)
class Progress:
    """What a step did. loss: over all refinements; dsc: of the last one on the batch, 0 to 1.

    `validation_dsc` is in points, and None but after the last step of an epoch.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    dsc: float
    learning_rate: float
    ends_epoch: bool = False
    validation_dsc: float | None = None


@dataclass(frozen=True)
class Trained:
    """What a finished run leaves: the checkpoint to use, and the DSC it was chosen by (points)."""

    checkpoint: Path
    best_dsc: float | None


def train(
    network: PKEchoNet,
    samples: Sequence[Samples],
    validation: Sequence[Clip],
    recipe: Recipe,
    out: Path,
    *,
    processes: Processes | None = None,
    resume: bool = False,
    notes: Mapping[str, str] | None = None,
    on_step: Callable[[Progress], None] = lambda _: None,
) -> Trained:
    """Train in place and write checkpoints, state and logs into `out`.

    Args:
        network: any PKEchoNet; its clip length must be the samples'.
        samples: to train on, one entry for each size of frames; a step's are all of one size.
        validation: clips to choose the best epoch by; may be empty.
        recipe: how.
        out: made if it is missing; an earlier run's files in it are replaced.
        processes: of `joined_processes`; None for this one alone on the CPU.
        resume: go on from `out/state.pt`.
        notes: for the checkpoints' headers, beside the recipe and the sizes; text to text.
        on_step: hears of every step that this call takes.

    Returns:
        the best checkpoint, or the last one without validation.

    Raises:
        UnusableInput: a loss that is not finite, or weights that are not when they would be
            written; the checkpoints and the state on disk stay as they are.
        UsageError: `out` cannot be written, or the run to resume began with other inputs.
        CheckpointError: there is no run to resume.
    """
    processes = processes or Processes(0, 1, torch.device("cpu"))
    run = _Run(network, samples, recipe, processes)
    inputs = _inputs(network, samples, validation, recipe, processes)
    state = read_state(out / STATE, inputs) if resume else None
    if state is not None:
        run.restore(state)
    best = state.best_dsc if state is not None else -1.0
    with open_log(out / LOG, keep=run.step, enabled=processes.writes) as log:
        while run.step < run.steps:
            progress = run.take_step()
            saves = progress.ends_epoch or progress.step % recipe.save_every == 0
            if saves:
                _check_finite(network, progress.step)
            if progress.ends_epoch:
                score = validation_dsc(network, validation, processes.device, recipe.precision)
                progress = _with_score(progress, score)
                told = _notes(samples, recipe, progress) | dict(notes or {})
                best = _close_epoch(network, out, progress, best, processes, told)
            log.write(vars(progress))
            if saves:
                log.flush()
                if processes.writes:
                    write_state(run.state(best, inputs), out / STATE)
            on_step(progress)
    network.eval()
    has_best = best >= 0
    return Trained(out / (BEST if has_best else LAST), best if has_best else None)


class _Run:
    """The network, its optimizer, and how far they are."""

    def __init__(
        self, network: PKEchoNet, samples: Sequence[Samples], recipe: Recipe, processes: Processes
    ) -> None:
        self.samples, self.recipe, self.processes = samples, recipe, processes
        # channels last: a step of ResNet-18 takes a fifth (128x128) to a third (320x320) less time
        self.network = network.to(processes.device).train()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # not annotated
        self.optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
        self.wrapped: nn.Module = processes.wrapped(network)
        self.per_epoch = steps_per_epoch([len(each) for each in samples], recipe.batch)
        self.steps = recipe.epochs * self.per_epoch
        self.step = 0

    def restore(self, state: RunState) -> None:
        self.network.load_state_dict(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        self.step = state.step

    def state(self, best_dsc: float, inputs: dict[str, Any]) -> RunState:
        return RunState(
            self.step, best_dsc, inputs, self.network.state_dict(), self.optimizer.state_dict()
        )

    def take_step(self) -> Progress:
        """One optimiser step.

        Raises:
            UnusableInput: the loss is not finite; the weights are as before.
        """
        recipe, number = self.recipe, self.step + 1
        rate = recipe.learning_rate * (1 - self.step / self.steps) ** recipe.power
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # one stream of random numbers per step and process, for augmentation and dropout
        torch.manual_seed(_stream(recipe.seed, number, self.processes.rank))
        generator = torch.Generator().manual_seed(_stream(recipe.seed, number, self.processes.rank))
        batch = augment(self._batch(), recipe.augmentation, generator)
        loss, dsc = self._update(batch)
        loss, dsc = self.processes.mean(loss, dsc)
        if not math.isfinite(loss):
            raise UnusableInput(f"the loss is {loss} at step {number}", remedy=_CALMER)
        self.step = number
        epoch = math.ceil(number / self.per_epoch)
        ends = number % self.per_epoch == 0
        return Progress(number, self.steps, epoch, loss, dsc, rate, ends)

    def _batch(self) -> Batch:
        """This process's samples of the step, on its device."""
        epoch, place = divmod(self.step, self.per_epoch)
        generator = torch.Generator().manual_seed(_stream(self.recipe.seed, -1 - epoch, 0))
        counts = [len(each) for each in self.samples]
        which, wanted = epoch_batches(counts, self.recipe.batch, generator)[place]
        batch = self.samples[which].batch(self.processes.share(wanted))
        return Batch(*(tensor.to(self.processes.device) for tensor in vars(batch).values()))

    def _update(self, batch: Batch) -> tuple[float, float]:
        """Loss and batch DSC; the weights move only if the loss is finite."""
        device = self.processes.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            predictions: list[Tensor] = self.wrapped(batch.clips)
        loss = deep_loss(
            predictions,
            batch.truth,
            batch.distance,
            batch.labelled,
            boundary_weight=self.recipe.boundary_weight,
        )
        value = float(loss.detach())
        if math.isfinite(value) or self.processes.count > 1:
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if self.recipe.gradient_norm:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.gradient_norm)
            if math.isfinite(value):
                self.optimizer.step()
        return value, _batch_dsc(predictions[-1], batch)


def _batch_dsc(logits: Tensor, batch: Batch) -> float:
    """Dice of all labelled frames of the batch taken together."""
    with torch.no_grad():
        counted = batch.labelled.view(*batch.labelled.shape, 1, 1, 1)
        hard, truth = (logits > 0) & counted, (batch.truth > 0.5) & counted
        return float(2 * (hard & truth).sum() / (hard.sum() + truth.sum()).clamp(min=1))


def _stream(seed: int, step: int, rank: int) -> int:
    """A seed for one purpose: different for every (seed, step, rank)."""
    return ((seed + 1) * 1_000_003 + step * 1_009 + rank) % (1 << 63)


def _with_score(progress: Progress, score: float) -> Progress:
    return replace(progress, validation_dsc=None if math.isnan(score) else score)


def _check_finite(network: PKEchoNet, step: int) -> None:
    """A finite loss may have a gradient that is not; such weights must not replace good ones.

    Raises:
        UnusableInput: a weight or a statistic is NaN or infinite.
    """
    for name, tensor in network.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise UnusableInput(f"{name} is not finite after step {step}", remedy=_CALMER)


def _notes(samples: Sequence[Samples], recipe: Recipe, progress: Progress) -> dict[str, str]:
    """What a checkpoint's header says of its training."""
    sizes = ("x".join(map(str, each.frames.shape[-2:])) for each in samples)
    notes = {"epoch": progress.epoch, "step": progress.step, "sizes": ", ".join(sizes)}
    return {f"training.{name}": str(value) for name, value in (notes | recipe.as_dict()).items()}


def _close_epoch(
    network: PKEchoNet,
    out: Path,
    progress: Progress,
    best: float,
    processes: Processes,
    notes: dict[str, str],
) -> float:
    """Write the epoch's checkpoint, and the best one if it is; returns the best DSC so far."""
    score = progress.validation_dsc
    names = [LAST]
    if score is not None and score > best:
        names.append(BEST)
    if processes.writes:
        for name in names:
            _save(network, out / name, notes)
    return max(best, -1.0 if score is None else score)


def _save(network: PKEchoNet, path: Path, notes: dict[str, str]) -> None:
    try:
        save_checkpoint(network, path, notes=notes)
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", path=path, remedy="Free some space and resume"
        ) from error


def _inputs(
    network: PKEchoNet,
    samples: Sequence[Samples],
    validation: Sequence[Clip],
    recipe: Recipe,
    processes: Processes,
) -> dict[str, Any]:
    """What must be the same for a run to resume; plain values that torch saves without pickling."""
    return {
        "recipe": repr(sorted(recipe.as_dict().items())),
        "network": repr(network.config),
        "set of samples": " ".join(each.sha256() for each in samples),
        "set of validation clips": _validation_sha256(validation),
        "number of processes": processes.count,
    }


def _validation_sha256(clips: Sequence[Clip]) -> str:
    """Of pictures and labels: the best DSC so far is only comparable on the same clips."""
    digest = hashlib.sha256()
    for clip in clips:
        truth = b"" if clip.truth is None else clip.truth.tobytes()
        digest.update(f"{clip.content_sha256} {clip.labelled}".encode() + truth)
    return digest.hexdigest()
