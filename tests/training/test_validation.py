"""The figure that chooses the best epoch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pkecho_edge.data.clip import Clip
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.training.validation import validation_dsc

CPU = torch.device("cpu")


class Bright(nn.Module):
    """Segments what is brighter than half; notes whether it is asked as in deployment."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool]] = []

    def forward(self, clips: Tensor) -> list[Tensor]:
        self.seen.append((len(clips), self.training))
        return [0.5 - clips, clips - 0.5]


def clip(side: int, rows: int, labelled: tuple[bool, bool] = (True, True)) -> Clip:
    """Half of each frame is bright; the truth is its first `rows` rows."""
    frames = np.zeros((2, 1, side, side), dtype=np.uint8)
    frames[:, :, : side // 2] = 255
    truth = np.zeros((2, side, side), dtype=np.bool_)
    for index, ok in enumerate(labelled):
        truth[index, :rows] = ok
    return Clip("c", "c", "c", "test", frames, (0, 1), truth, labelled)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_it_is_the_mean_over_frames_then_over_clips(precision: str) -> None:
    network = Bright().train()
    # 100; 2 * 8 / (16 + 8) = 66.67, of the labelled frame alone
    clips = [clip(64, rows=32), clip(32, rows=8, labelled=(False, True))]

    score = validation_dsc(network, clips, CPU, precision)  # type: ignore[arg-type]

    assert score == pytest.approx((100 + 200 / 3) / 2)
    assert network.seen == [(1, False), (1, False)]  # one clip at a time, in evaluation mode
    assert network.training


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_the_recipes_precision_is_used(precision: str) -> None:
    torch.manual_seed(11)
    inner = (((8,), (8,)), ((8,), (8,)), ((8,), (8,)), ((8,), (8,)))
    network = PKEchoNet(NetworkConfig(frames=2, widths=Widths(8, (8, 8, 8, 8), inner)))
    types: list[torch.dtype] = []
    network.encoder_layer1.register_forward_hook(lambda *given: types.append(given[2].dtype))

    score = validation_dsc(network, [clip(64, rows=32)], CPU, precision)

    assert 0 <= score <= 100
    assert set(types) == {torch.bfloat16 if precision == "bf16" else torch.float32}


def test_without_a_label_there_is_no_figure() -> None:
    unlabelled = clip(32, rows=8, labelled=(False, False))
    for clips in ([], [Clip("c", "c", "c", "t", unlabelled.frames, (0, 1))]):
        assert math.isnan(validation_dsc(Bright(), clips, CPU))  # type: ignore[arg-type]
