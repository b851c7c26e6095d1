"""Channels that stand and fall together, what they are worth, and the network without some of them.

torch-pruning follows a channel through the network: a residual sum ties the channels of its sides,
a depthwise convolution those before and after it. What it finds here are the places of places.py.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pkecho_edge.errors import MissingDependency, UsageError
from pkecho_edge.frame_size import SIZE_STEP
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.pruning.places import STEM, places_of, widths_of, with_widths
from pkecho_edge.pruning.reconstruction import rebuilt_shares

__all__ = ["IMPORTANCES", "channel_importance", "keep_channels", "kept_channels"]

IMPORTANCES = ("reconstruction", "magnitude", "taylor", "batchnorm")
"""By what a channel adds to those that stay, for the convolutions that read it (reconstruction.py),
by the norm of its weights, by what removing it would change of the loss to first order (Molchanov
et al., CVPR 2019), or by its BatchNorm scales (Liu et al., ICCV 2017)."""


class _Prunable(nn.Module):
    """What of the network has widths to choose: the head takes part with its first layer alone."""

    def __init__(self, network: PKEchoNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> list[Tensor]:
        """[N, 1, H, W] -> the estimators' raw scores, and the reduced features."""
        features = self.network.encoder_layer0(frames)
        found = []
        for stage, estimator in self.network.stages():
            features = stage(features)
            if estimator is not None:
                found.append(estimator.estimator(features))
        return [*found, self.network.kss.reduce(features)]


def channel_importance(
    network: PKEchoNet,
    kind: str,
    losses: Callable[[PKEchoNet], Iterable[Tensor]] | None = None,
    frames: Sequence[Tensor] = (),
) -> dict[str, Tensor]:
    """What each channel is worth.

    Args:
        network: trained; it is left as it is.
        kind: one of IMPORTANCES.
        losses: of the network that it is given, one after the other; for "taylor", which asks how
            they would change.
        frames: f32 [N, 1, H, W] in [0, 1] each, for "reconstruction".

    Returns:
        place -> f32 [channels], with a mean of 1 over the channels of a place.

    Raises:
        UsageError: an unknown kind, "taylor" without losses, or "reconstruction" without frames.
    """
    if kind not in IMPORTANCES:
        raise UsageError(
            f"there is no importance {kind!r}", remedy=f"Use one of {', '.join(IMPORTANCES)}"
        )
    if (kind == "taylor" and losses is None) or (kind == "reconstruction" and not frames):
        raise UsageError(f"importance {kind} needs recordings", remedy="Use magnitude")
    network = copy.deepcopy(network).eval().requires_grad_(True)
    if kind == "reconstruction":
        shares = rebuilt_shares(network, _Prunable(network), frames)
        return {place: len(each) * each for place, each in shares.items()}
    if kind == "taylor" and losses is not None:
        for loss in losses(network):
            loss.backward()  # type: ignore[no-untyped-call]
    importance = _importance(kind)
    worth = {}
    with _graph(network) as graph:
        for place in places_of(network.config):
            group = _group(graph, network, place)
            values: Tensor = importance(group).detach().float()
            worth[place] = values / values.mean().clamp(min=torch.finfo(torch.float32).tiny)
    return worth


def kept_channels(worth: Tensor, width: int) -> Tensor:
    """Which channels of a place stay: i64 [width], ascending; of equal ones the first."""
    return torch.argsort(worth, descending=True, stable=True)[:width].sort().values


def keep_channels(
    network: PKEchoNet, worth: Mapping[str, Tensor], widths: Mapping[str, int]
) -> PKEchoNet:
    """A new network with the channels that are worth most.

    Args:
        network: trained; it is left as it is.
        worth: of `channel_importance`.
        widths: place -> how many channels stay, of every place; at most as many as there are.

    Raises:
        UsageError: a width of 0, or more than there are.
    """
    before = widths_of(network.config)
    for place, width in before.items():
        if not 1 <= widths[place] <= width:
            raise UsageError(
                f"{place} cannot keep {widths[place]} of {width} channels",
                remedy="Choose at least 1 and no more than there are",
            )
    pruned = copy.deepcopy(network)
    with _graph(pruned) as graph:
        for place, width in before.items():
            if widths[place] < width:
                staying = set(kept_channels(worth[place], widths[place]).tolist())
                going = [channel for channel in range(width) if channel not in staying]
                _group(graph, pruned, place, going).prune()
    rebuilt = PKEchoNet(with_widths(network.config, widths))
    rebuilt.load_state_dict(pruned.state_dict())
    return rebuilt.eval()


@contextmanager
def _graph(network: PKEchoNet) -> Iterator[Any]:
    """The dependency graph of a network, which is in eval mode and asks for gradients meanwhile.

    Raises:
        MissingDependency: torch-pruning is not installed.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise MissingDependency(
            "torch-pruning is not installed", remedy="Run: pip install 'pkecho-edge[train]'"
        ) from error
    network.eval().requires_grad_(True)
    side = 2 * SIZE_STEP
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters that it did not meet: the head's
        yield torch_pruning.DependencyGraph().build_dependency(
            _Prunable(network), torch.zeros(1, 1, side, side)
        )


def _group(graph: Any, network: PKEchoNet, place: str, channels: list[int] | None = None) -> Any:
    """These channels of a place (all of them by default), wherever they reach."""
    import torch_pruning

    root = _root(network, place)
    going = list(range(root.out_channels)) if channels is None else channels
    return graph.get_pruning_group(root, torch_pruning.prune_conv_out_channels, idxs=going)


def _root(network: PKEchoNet, place: str) -> nn.Conv2d:
    """A convolution whose output channels are those of a place."""
    kind, *numbers = place.split(".")
    if place == STEM:
        name = "encoder_layer0.0"
    elif kind == "outputs":
        stage = int(numbers[0]) + 1
        block = network.get_submodule(f"encoder_layer{stage}.0")
        last = "conv3" if hasattr(block, "conv3") else "conv2"
        name = f"encoder_layer{stage}.0.{last}"
    else:
        stage, number, layer = (int(n) for n in numbers)
        name = f"encoder_layer{stage + 1}.{number}.conv{layer + 1}"
    found = network.get_submodule(name)
    assert isinstance(found, nn.Conv2d)
    return found


def _importance(kind: str) -> Any:
    from torch_pruning import importance

    if kind == "taylor":
        return importance.GroupTaylorImportance(normalizer=None)
    if kind == "batchnorm":
        return importance.BNScaleImportance(normalizer=None)
    return importance.GroupMagnitudeImportance(normalizer=None)
