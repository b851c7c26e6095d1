"""PyTorch itself among the peers: eager, and torch.compile where there is a C++ compiler."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pkecho_edge.bench.unlowered import as_floats
from pkecho_edge.model.network import PKEchoNet

__all__ = ["compiled_call", "use_threads", "weights_mb"]


def use_threads(threads: int) -> None:
    """PyTorch's threads from here on; 0 leaves them as they are, one per core."""
    if threads:
        torch.set_num_threads(threads)


def weights_mb(network: PKEchoNet) -> float:
    """Of all parameters and buffers in memory, in MB of 10^6 bytes."""
    tensors: list[torch.Tensor] = list(network.state_dict().values())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6


def compiled_call(
    network: PKEchoNet, frames: NDArray[np.uint8]
) -> tuple[Callable[[], object], float] | str:
    """The network through torch.compile's default compiler, inductor.

    Args:
        network: in evaluation mode.
        frames: u8 [T, 1, H, W].

    Returns:
        one inference of the clip, and what the first took with compiling, in milliseconds; or, in
        one line, why there is none.
    """
    compiled = torch.compile(network)
    clip = torch.from_numpy(as_floats(frames))

    def infer() -> None:
        with torch.inference_mode():
            compiled(clip)

    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own parts
            infer()
    except Exception as error:  # no compiler, or one that fails: many types, none documented
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0]}"
    return infer, (time.perf_counter() - start) * 1e3
