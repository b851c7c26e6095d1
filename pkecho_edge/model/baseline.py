"""The baseline: the FP32 PyTorch eager network that every engine is measured against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pkecho_edge.model.network import PKEchoNet

__all__ = ["baseline_runner", "baseline_stream_runner"]


def baseline_runner(
    network: PKEchoNet,
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The network as a function of one clip: u8 [T, 1, H, W] -> last logits f32 [T, 1, H, W]."""
    network.eval()

    def run(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            clip = torch.from_numpy(frames)[None].float() / 255
            logits: NDArray[np.float32] = network(clip)[-1][0].numpy()
        return logits

    return run


def baseline_stream_runner(
    network: PKEchoNet,
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The network as live use sees it: u8 [N, 1, H, W], N >= 1 -> logits f32 [N, 1, H, W].

    Each frame's logits are those of the window that it ends; before the first frame lie copies of
    it. A window's frames differ from the next one's by one, so what the network makes of a frame
    alone is made once; the figures are those of the whole network on every window.
    """
    network.eval()
    length = network.config.frames

    def run(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        results = []
        with torch.inference_mode():
            window: list[Tensor] = []
            for frame in torch.from_numpy(frames):
                features, affinities = network.encode(frame[None].float() / 255)
                window = [*(window or [features] * length)[1:], features]
                newest = network.kss(torch.cat(window))[-1][-1:]  # [1, 1, H/32, W/32]
                results.append(network.upsample(newest, affinities))
        logits: NDArray[np.float32] = torch.cat(results).numpy()
        return logits

    return run
