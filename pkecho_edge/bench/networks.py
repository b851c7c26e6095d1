"""Which network a benchmark runs: a checkpoint's, or a backbone with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pkecho_edge.data.sources import phantoms
from pkecho_edge.data.standard import CALIBRATION_SEEDS
from pkecho_edge.errors import UsageError
from pkecho_edge.model.checkpoint import default_checkpoint_path, load_checkpoint
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.model.resnet import BACKBONES, BasicBlock, Bottleneck

__all__ = ["BenchNetwork", "choose_network", "random_network"]

_DAMPING = 0.2


@dataclass(frozen=True)
class BenchNetwork:
    """A network and where its weights come from, in a few words for the reader."""

    network: PKEchoNet
    weights: str

    @property
    def backbone(self) -> str:
        """For example "resnet18"."""
        return self.network.config.backbone


def choose_network(checkpoint: Path | None, backbone: str | None) -> BenchNetwork:
    """The checkpoint's network, else the packaged one, else random weights for a backbone.

    Args:
        checkpoint: None for none.
        backbone: "resnet18", "resnet34" or "resnet50"; None for whatever the checkpoint has.

    Raises:
        UsageError: an unknown backbone, or another one than the given checkpoint's.
        CheckpointError: the checkpoint cannot be loaded.
    """
    if backbone is not None and backbone not in BACKBONES:
        raise UsageError(
            f"unknown backbone {backbone!r}", remedy=f"Use one of {', '.join(BACKBONES)}"
        )
    if checkpoint is None:
        packaged = load_checkpoint(default_checkpoint_path())
        if backbone in (None, packaged.config.backbone):
            return BenchNetwork(packaged.eval(), "the packaged checkpoint")
        return BenchNetwork(random_network(str(backbone)), "random weights")
    network = load_checkpoint(checkpoint)
    if backbone not in (None, network.config.backbone):
        raise UsageError(
            f"the checkpoint has {network.config.backbone}, not {backbone}",
            path=checkpoint,
            remedy="Give a checkpoint or a backbone, not both",
        )
    return BenchNetwork(network.eval(), checkpoint.name)


def random_network(backbone: str) -> PKEchoNet:
    """The same random weights every time; whoever draws numbers next is not disturbed.

    Batch norms take their statistics from one phantom clip and damp each residual branch, as
    training does. Without that, features grow or mix from block to block until rounding alone sets
    the lowered graph of a deep backbone apart from the network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PKEchoNet(NetworkConfig(backbone=backbone))
        _settle(network)
    return network.eval()


def _settle(network: PKEchoNet) -> None:
    """Damp the residual branches and let the batch norms see a clip."""
    for module in network.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            last = module.bn2 if isinstance(module, BasicBlock) else module.bn3
            nn.init.constant_(last.weight, _DAMPING)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # take the statistics of this pass as they are
    frames = next(iter(phantoms(CALIBRATION_SEEDS[:1], (96, 96)))).frames
    with torch.no_grad():
        network.train()(torch.from_numpy(frames)[None].float() / 255)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
