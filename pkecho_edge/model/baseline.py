"""The baseline: the FP32 PyTorch eager network that every engine is measured against."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pkecho_edge.model.network import PKEchoNet

__all__ = ["baseline_runner", "baseline_stepper", "baseline_stream_runner", "traced_baseline"]


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
    """`baseline_stepper` of a sequence: u8 [N, 1, H, W], N >= 1 -> logits f32 [N, 1, H, W]."""
    steps = baseline_stepper(network)

    def run(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.stack(list(steps(frames[:, 0])))[:, None]

    return run


def baseline_stepper(
    network: PKEchoNet,
) -> Callable[[Iterable[NDArray[np.uint8]]], Iterator[NDArray[np.float32]]]:
    """The network as live use sees it: frames u8 [H, W] -> logits f32 [H, W], one by one.

    Each frame's logits are those of the window that it ends; before the first frame lie copies of
    it. A window's frames differ from the next one's by one, so what the network makes of a frame
    alone is made once; the figures are those of the whole network on every window. Every call is a
    new stream of any length, and draws a frame when its logits are asked for.
    """
    network.eval()
    length = network.config.frames

    def steps(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        window: list[Tensor] = []
        for frame in frames:
            with torch.inference_mode():  # not across a yield: it would hold for the caller, too
                pixels = torch.from_numpy(frame)[None, None].float() / 255  # [1, 1, H, W]
                features, affinities = network.encode(pixels)
                window = [*(window or [features] * length)[1:], features]
                newest = network.kss(torch.cat(window))[-1][-1:]  # [1, 1, H/32, W/32]
                logits: NDArray[np.float32] = network.upsample(newest, affinities)[0, 0].numpy()
            yield logits

    return steps


def traced_baseline(network: PKEchoNet, size: tuple[int, int]) -> bytes:
    """The network as TorchScript, for machines that have PyTorch but not this package.

    Args:
        network: any.
        size: (H, W); it is fixed in the trace, as is a batch of one.

    Returns:
        a file's bytes: clips f32 [1, T, 1, H, W] -> the last logits f32 [T, 1, H, W].
    """
    network.eval()
    probe = torch.zeros(1, network.config.frames, 1, *size)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        # TorchScript is deprecated, but devices have the PyTorch of years ago, which reads nothing
        # else; and tracing warns of every size that it takes for a constant
        warnings.simplefilter("ignore")
        trace: Callable[..., torch.jit.ScriptModule] = torch.jit.trace
        traced = trace(_LastLogits(network), probe, check_trace=False)
        torch.jit.save(traced, buffer)
    return buffer.getvalue()


class _LastLogits(torch.nn.Module):
    def __init__(self, network: PKEchoNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        out: Tensor = self.network(clips)[-1][0]
        return out
