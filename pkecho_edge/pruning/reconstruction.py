"""What a channel adds to those that are kept already, for the convolutions that read it.

Two channels that say nearly the same are worth little more than one of them, however large their
weights are. So the channels of a place are taken one by one, each time the one with which most of
what its readers make of the place can be rebuilt by a linear map of those taken so far: a Cholesky
factorization with pivots of the features' covariance, seen through the readers' weights. (Choice
by what the next layer says: Luo, Wu, Lin, ICCV 2017; He, Zhang, Sun, ICCV 2017.) `refit` then gives
the readers the weights of that map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.pruning.layers import ConvLayer, network_layers
from pkecho_edge.pruning.places import widths_of

__all__ = ["reader_counts", "rebuilt_shares"]

_PIXELS = 20_000
"""Of a batch of frames, at most, that a covariance is taken over."""

_NOISE = 1e-6
"""Of the mean variance of a place's channels: what is left of a channel below it is rounding."""

_APART = 1e-6
"""Part by which the share of a channel is less than that of the one before, so that order shows."""


def reader_counts(network: PKEchoNet) -> dict[str, float]:
    """place -> convolutions that read it; a depthwise one passes its channels on one by one."""
    return {place: float(len(_readers(network, place))) for place in widths_of(network.config)}


def rebuilt_shares(
    network: PKEchoNet, forward: Callable[[Tensor], object], frames: Sequence[Tensor]
) -> dict[str, Tensor]:
    """What each channel adds, in parts of what the readers make of the place as a whole.

    Args:
        network: in eval mode; it is left as it is.
        forward: passes f32 [N, 1, H, W] through every convolution of `network_layers`.
        frames: such, in [0, 1], N > 0, of any sizes that the network takes; without any every
            channel is worth the same.

    Returns:
        place -> f32 [channels], none below 0, together 1: the share of its readers' variance that a
        channel adds to what those before it rebuild, the mean over the readers. In the order in
        which they are taken, shares do not grow.
    """
    moments = {layer.name: _Moments() for layer in _all_readers(network)}
    hooks = [
        network.get_submodule(name).register_forward_pre_hook(each)
        for name, each in moments.items()
    ]
    try:
        with torch.no_grad():
            for each in frames:
                forward(each)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        place: _shares(
            width, [_Reader.of(network, layer, moments) for layer in _readers(network, place)]
        )
        if frames
        else torch.full((width,), 1 / width)
        for place, width in widths_of(network.config).items()
    }


def _all_readers(network: PKEchoNet) -> list[ConvLayer]:
    layers = network_layers(network.config)
    return [each for each in layers if isinstance(each.inputs, str) and not each.depthwise]


def _readers(network: PKEchoNet, place: str) -> list[ConvLayer]:
    return [each for each in _all_readers(network) if each.inputs == place]


class _Moments:
    """A hook that sums up what enters a convolution."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | float = 0.0
        self._products: Tensor | float = 0.0
        self._chance = torch.Generator().manual_seed(0)

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].transpose(0, 1).flatten(1)  # [C, pixels of all frames]
        if x.shape[1] > _PIXELS:
            x = x[:, torch.randint(x.shape[1], (_PIXELS,), generator=self._chance)]
        self._count += x.shape[1]
        self._sum = self._sum + x.sum(1).double()
        self._products = self._products + (x @ x.T).double()

    def covariance(self) -> Tensor:
        """f64 [C, C]."""
        assert isinstance(self._sum, Tensor)
        mean = self._sum / self._count
        return self._products / self._count - torch.outer(mean, mean)


@dataclass
class _Reader:
    """One convolution and the channels that it reads, less what those taken so far rebuild.

    Attributes:
        covariance: f64 [C, C], of what is left of the channels.
        read: f64 [C, C], covariance @ W.T @ W, of weights that make the whole 1.
        noise: a variance that is none.
    """

    covariance: Tensor
    read: Tensor
    noise: float

    @classmethod
    def of(cls, network: PKEchoNet, layer: ConvLayer, moments: Mapping[str, _Moments]) -> _Reader:
        """Before any channel is taken."""
        weight = network.get_parameter(f"{layer.name}.weight").detach().double()
        gram = torch.einsum("oikl,ojkl->ij", weight, weight)
        covariance = moments[layer.name].covariance()
        read = covariance @ gram
        tiny = torch.finfo(torch.float64).tiny
        noise = _NOISE * float(covariance.diagonal().mean().clamp(min=tiny))
        return cls(covariance, read / read.trace().clamp(min=tiny), noise)

    def gains(self) -> Tensor:
        """f64 [C]: by how much the variance that is left falls with each channel."""
        variance = self.covariance.diagonal()
        gains = (self.read * self.covariance).sum(1) / variance.clamp(min=self.noise)
        return gains.where(variance > self.noise, 0).clamp(min=0)

    def take(self, channel: int) -> None:
        """What the channel says goes from all others, and from itself."""
        column, read = self.covariance[:, channel].clone(), self.read[channel].clone()
        if column[channel] <= self.noise:
            return
        self.covariance -= torch.outer(column, column / column[channel])
        self.read -= torch.outer(column / column[channel], read)


def _shares(width: int, readers: Sequence[_Reader]) -> Tensor:
    taken = torch.zeros(width, dtype=torch.bool)
    shares, last = torch.zeros(width, dtype=torch.float64), torch.inf
    for _ in range(width):
        together = torch.stack([reader.gains() for reader in readers]).mean(0)
        channel = int(together.masked_fill(taken, -1).argmax())
        # a later channel may add more than an earlier one, where both say it together; it must not
        # be kept without that one, which was taken first
        last = min(last * (1 - _APART), float(together[channel]))
        shares[channel], taken[channel] = last, True
        for reader in readers:
            reader.take(channel)
    return (shares / shares.sum().clamp(min=torch.finfo(torch.float64).tiny)).float()
