"""What a training step costs beyond the network itself. On demand: `pytest -m bench -s`."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pkecho_edge.data.standard import TRAINING_SEEDS, clip_recordings
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.training.loop import _Run
from pkecho_edge.training.losses import deep_loss
from pkecho_edge.training.processes import Processes
from pkecho_edge.training.recipe import Recipe
from pkecho_edge.training.samples import draw_samples

ROUNDS = 15
LIMIT = 1.15


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.bench
def test_a_step_takes_little_more_than_forward_loss_and_backward() -> None:
    """ResNet-18, batch 8, 128x128; the two are timed turn by turn, each with its own network."""
    samples = draw_samples(
        clip_recordings(TRAINING_SEEDS[:16], (128, 128)),
        (128, 128),
        length=10,
        windows=1,
        seed=0,
        on_skip=lambda _: None,
    )
    recipe = Recipe()
    run = _Run(PKEchoNet(), [samples], recipe, Processes(0, 1, torch.device("cpu")))
    bare = PKEchoNet().train().to(memory_format=torch.channels_last)  # as the loop has it
    batch = samples.batch(range(8))

    def forward_loss_backward() -> None:
        bare.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            predictions = bare(batch.clips)
        deep_loss(predictions, batch.truth, batch.distance, batch.labelled).backward()

    for _ in range(2):
        run.take_step()
        forward_loss_backward()
    pairs = [(timed(run.take_step), timed(forward_loss_backward)) for _ in range(ROUNDS)]
    ours, theirs = (np.median(side) for side in zip(*pairs, strict=True))
    ratio = float(np.median([ours_s / theirs_s for ours_s, theirs_s in pairs]))
    print(f"step {ours:.3f} s, bare {theirs:.3f} s, ratio {ratio:.3f} (median of {ROUNDS} pairs)")
    assert ratio <= LIMIT
