"""Which samples each step of an epoch sees."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

__all__ = ["epoch_batches", "steps_per_epoch"]


def steps_per_epoch(counts: Sequence[int], batch: int) -> int:
    """Steps that show every sample once.

    Args:
        counts: samples of each size, at least 1 each.
        batch: samples per step.
    """
    return sum(math.ceil(count / batch) for count in counts)


def epoch_batches(
    counts: Sequence[int], batch: int, generator: torch.Generator
) -> list[tuple[int, list[int]]]:
    """The steps of one epoch in random order: (which size, `batch` indices among its samples).

    A batch is of one size. The last one of a size is filled up from that size's first, so that
    every step sees as many samples.

    Args:
        counts: samples of each size, at least 1 each.
        batch: samples per step; where a size has fewer, they repeat.
        generator: on the CPU; it alone decides.
    """
    steps = []
    for which, count in enumerate(counts):
        order: list[int] = torch.randperm(count, generator=generator).tolist()
        for start in range(0, count, batch):
            steps.append((which, [order[(start + i) % count] for i in range(batch)]))
    if len(counts) == 1:
        return steps  # shuffled already
    return [steps[i] for i in torch.randperm(len(steps), generator=generator).tolist()]
