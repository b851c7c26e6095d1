"""One process, or several that `torchrun` started: who am I, and what do the others say.

Splitting a batch over processes changes the network's result: cross-video attention attends among
the clips of one process only. Two processes with four clips each are not one with eight.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from pkecho_edge.errors import UsageError
from pkecho_edge.model.network import PKEchoNet

__all__ = ["Processes", "chosen_device", "joined_processes"]


@dataclass(frozen=True)
class Processes:
    """The processes of one training run.

    Attributes:
        rank: of this one, 0 for the one that writes.
        count: of all.
        device: this one's.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, batch: list[int]) -> list[int]:
        """This process's part of a batch; every process has at least one sample.

        Raises:
            UsageError: the batch has fewer samples than there are processes.
        """
        if len(batch) < self.count:
            raise UsageError(
                f"a batch of {len(batch)} for {self.count} processes",
                remedy="Use a larger batch or fewer processes",
            )
        return batch[self.rank :: self.count]

    def wrapped(self, network: PKEchoNet) -> nn.Module:
        """The network, averaging its gradients over the processes."""
        if self.count == 1:
            return network
        # a 1x1 kernel, channels last, has strides that say the same in two ways
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return nn.parallel.DistributedDataParallel(network)

    def mean(self, *values: float) -> list[float]:
        """Of each value over the processes; the same everywhere."""
        tensor = torch.tensor(values, dtype=torch.float64, device=_reduction_device(self.device))
        if self.count > 1:
            dist.all_reduce(tensor)
        averaged: list[float] = (tensor / self.count).tolist()
        return averaged


def _reduction_device(device: torch.device) -> torch.device:
    return device if device.type == "cuda" else torch.device("cpu")


def chosen_device(name: str) -> torch.device:
    """The device of "cpu", "cuda", or "auto" for CUDA where there is one.

    Raises:
        UsageError: another name, or CUDA is asked for and not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {name!r}", remedy="Use auto, cpu or cuda")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UsageError("there is no CUDA device", remedy="Use --device cpu")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


@contextmanager
def joined_processes(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that `torchrun` started; alone without it.

    Args:
        device: "cpu", "cuda", or "auto" for CUDA where there is one.

    Raises:
        UsageError: see `chosen_device`.
    """
    cuda = chosen_device(device).type == "cuda"
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    where = torch.device("cuda", local) if cuda else torch.device("cpu")
    if count == 1:
        yield Processes(0, 1, where)
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes(rank, count, where)
    finally:
        dist.destroy_process_group()
