"""The baseline: the FP32 PyTorch eager network that every engine is measured against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pkecho_edge.model.network import PKEchoNet

__all__ = ["baseline_runner"]


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
