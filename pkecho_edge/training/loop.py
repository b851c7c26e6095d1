"""The training loop: Adam, poly schedule, Dice on every refinement, labels on two frames."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pkecho_edge.data.clip import Clip
from pkecho_edge.errors import UnusableInput, UsageError
from pkecho_edge.model.checkpoint import save_checkpoint
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.training.augmentation import Augmentation, augment
from pkecho_edge.training.losses import deep_dice_loss

__all__ = ["Progress", "TrainingConfig", "train"]


@dataclass(frozen=True)
class TrainingConfig:
    """The recipe.

    Attributes:
        steps: optimiser steps of the schedule.
        stop_after: end after this step of the schedule; None runs all of it.
        batch: clips per step.
        learning_rate: of Adam at the first step, then times (1 - step / steps) ** power.
        power: of the poly schedule.
        seed: of initialisation order, shuffling, dropout and augmentation.
        bfloat16: autocast the forward pass.
        save_every: steps between written checkpoints.
        augmentation: limits of the random changes.
    """

    steps: int = 2000
    batch: int = 8
    learning_rate: float = 1e-3
    power: float = 0.9
    seed: int = 0
    bfloat16: bool = True
    save_every: int = 200
    augmentation: Augmentation = field(default_factory=Augmentation)
    stop_after: int | None = None

    def __post_init__(self) -> None:
        if self.stop_after is not None and not 1 <= self.stop_after <= self.steps:
            raise UsageError(
                f"cannot stop after step {self.stop_after} of {self.steps}",
                remedy="Stop after 1 to --steps",
            )
        if min(self.steps, self.batch, self.save_every) < 1 or self.learning_rate <= 0:
            raise UsageError("steps, batch, save_every and learning_rate must be positive")

    @property
    def last_step(self) -> int:
        """The number of steps that are really taken."""
        return self.stop_after or self.steps


@dataclass(frozen=True)
class Progress:
    """What a step did. loss: sum over refinements; dsc: 1 - last refinement's Dice loss."""

    step: int
    steps: int
    loss: float
    dsc: float
    learning_rate: float


def train(
    network: PKEchoNet,
    clips: Sequence[Clip],
    config: TrainingConfig,
    out: Path,
    on_step: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train in place and write `checkpoint.safetensors` and `log.csv` into `out`.

    Args:
        network: any PKEchoNet; its clip length must be the clips'.
        clips: all of one size; only the first and last frame's truth is used.

    Returns:
        the path of the last checkpoint.

    Raises:
        UnusableInput: no clips, a clip without truth on its first and last frame, or a loss that
            is not finite (the last good checkpoint stays).
    """
    _check(clips)
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.safetensors"
    network.train()
    with (out / "log.csv").open("w", newline="") as file:
        log = csv.writer(file)
        log.writerow(["step", "loss", "dsc", "learning_rate"])
        for step, (frames, truth) in enumerate(_batches(clips, config, generator), start=1):
            rate = config.learning_rate * (1 - (step - 1) / config.steps) ** config.power
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss, dsc = _step(network, optimiser, frames, truth, config, generator)
            if not np.isfinite(loss):
                raise UnusableInput(
                    f"the loss is {loss} at step {step}",
                    path=checkpoint if checkpoint.exists() else None,
                    remedy="Lower the learning rate or train without bfloat16",
                )
            log.writerow([step, f"{loss:.5f}", f"{dsc:.5f}", f"{rate:.3e}"])
            if step % config.save_every == 0 or step == config.last_step:
                file.flush()
                os.fsync(file.fileno())
                save_checkpoint(network, checkpoint, metadata=_notes(config, step, len(clips)))
            on_step(Progress(step, config.last_step, loss, dsc, rate))
    network.eval()
    return checkpoint


def _check(clips: Sequence[Clip]) -> None:
    if not clips:
        raise UnusableInput(
            "there are no clips to train on", remedy="Name a folder with recordings"
        )
    for clip in clips:
        if clip.truth is None or not (clip.labelled[0] and clip.labelled[-1]):
            raise UnusableInput(
                f"clip {clip.identifier!r} has no truth on its first and last frame",
                remedy="Train on clips from ED to ES with both labelled",
            )


def _batches(
    clips: Sequence[Clip], config: TrainingConfig, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """`last_step` batches: u8 [B, T, 1, H, W] and bool [B, 2, 1, H, W], shuffled per epoch."""
    queue: list[int] = []
    for _ in range(config.last_step):
        while len(queue) < config.batch:
            queue += torch.randperm(len(clips), generator=generator).tolist()
        picked, queue = [clips[i] for i in queue[: config.batch]], queue[config.batch :]
        truths = [c.truth[[0, -1], None] for c in picked if c.truth is not None]
        yield (
            torch.from_numpy(np.stack([c.frames for c in picked])),
            torch.from_numpy(np.stack(truths)),
        )


def _step(
    network: PKEchoNet,
    optimiser: torch.optim.Optimizer,
    frames: Tensor,
    truth: Tensor,
    config: TrainingConfig,
    generator: torch.Generator,
) -> tuple[float, float]:
    clips, masks = augment(frames.float() / 255, truth.float(), config.augmentation, generator)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.bfloat16):
        predictions = network(clips)
    loss = deep_dice_loss(predictions, masks)
    if not torch.isfinite(loss):
        return float(loss.detach()), float("nan")  # before it reaches the weights
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    with torch.no_grad():
        hard = predictions[-1] > 0
        overlap = 2 * (hard & masks.bool()).sum() / (hard.sum() + masks.sum()).clamp(min=1)
    return float(loss.detach()), float(overlap)


def _notes(config: TrainingConfig, step: int, clips: int) -> dict[str, str]:
    values = {**asdict(config), "step": step, "clips": clips}
    return {f"training.{name}": str(value) for name, value in values.items()}
