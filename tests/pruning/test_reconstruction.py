"""What a channel adds: a twin adds nothing, and a few channels rebuild what depends on few."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.pruning.channels import channel_importance, kept_channels
from pkecho_edge.pruning.layers import network_layers
from pkecho_edge.pruning.places import widths_of
from pkecho_edge.pruning.reconstruction import reader_counts, rebuilt_shares

PLACE, READER = "inner.2.0.0", "encoder_layer3.0.conv2"


def pictures(seed: int, count: int = 12) -> Tensor:
    """Smooth ones, as recordings are."""
    coarse = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(96, 96), mode="bicubic").clamp(0, 1)


FRAMES = [pictures(0), pictures(1)]


def entering(network: PKEchoNet, frames: Tensor) -> Tensor:
    """f64 [pixels, C]: what the place's reader is given."""
    seen: list[Tensor] = []
    reader = network.get_submodule(READER)
    hook = reader.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network.encode(frames)
    hook.remove()
    return seen[0].transpose(0, 1).flatten(1).T.double()


def lost(network: PKEchoNet, kept: Tensor, frames: Tensor) -> float:
    """The share of what the reader makes of the place that no linear map of these rebuilds."""
    x = entering(network, frames)
    x = x - x.mean(0)
    left = x - x[:, kept] @ torch.linalg.lstsq(x[:, kept], x).solution
    weight = network.get_parameter(f"{READER}.weight").detach().double()
    said = [torch.einsum("pi,oikl->poikl", each, weight).sum(2).flatten(1) for each in (left, x)]
    return float(said[0].square().sum() / said[1].square().sum())


def test_shares_are_one_on_average_and_leave_the_network_alone(network: PKEchoNet) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    worth = channel_importance(network, "reconstruction", frames=FRAMES)

    assert {place: len(each) for place, each in worth.items()} == widths_of(network.config)
    assert all(float(each.mean()) == pytest.approx(1, rel=1e-4) for each in worth.values())
    assert all(float(each.min()) >= 0 for each in worth.values())
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_nothing_listens_to_the_network_afterwards(network: PKEchoNet) -> None:
    def forward(frames: Tensor) -> Tensor:
        return network.kss.reduce(network.encode(frames)[0])

    shares = rebuilt_shares(network, forward, FRAMES)

    assert all(float(each.sum()) == pytest.approx(1, rel=1e-4) for each in shares.values())
    assert not any(each._forward_pre_hooks for each in network.modules())


def test_the_only_channel_that_is_read_is_worth_all(network: PKEchoNet) -> None:
    weight = network.get_parameter(f"{READER}.weight").data
    weight[:, [at for at in range(weight.shape[1]) if at != 2]] = 0

    worth = channel_importance(network, "reconstruction", frames=FRAMES)[PLACE]

    assert float(worth[2] / worth.sum()) > 0.999


def test_a_twin_adds_nothing_however_large_its_weights_are(network: PKEchoNet) -> None:
    block = network.encoder_layer3[0]
    block.conv1.weight.data[5] = block.conv1.weight.data[3]
    for norm in (block.bn1.running_mean, block.bn1.running_var, block.bn1.bias.data):
        norm[5] = norm[3]
    block.bn1.bias.data[[3, 5]] = 0.5
    block.bn1.weight.data[[3, 5]] = torch.tensor([1.0, 3.0])
    block.bn1.bias.data[5] *= 3  # three times as much, of the same
    block.conv2.weight.data[:, [3, 5]] *= 4

    worth = channel_importance(network, "reconstruction", frames=FRAMES)[PLACE]

    first, second = worth[[3, 5]].sort(descending=True).values
    assert float(first) > 1
    assert float(second) < 1e-3 * float(first)


def test_those_that_stay_rebuild_more_than_the_largest_do(network: PKEchoNet) -> None:
    """Of what the reader says, on other frames than those that were looked at."""
    width, others = widths_of(network.config)[PLACE] // 2, pictures(2)
    ours, largest = (
        kept_channels(channel_importance(network, kind, frames=FRAMES)[PLACE], width)
        for kind in ("reconstruction", "magnitude")
    )

    assert lost(network, ours, others) < 0.8 * lost(network, largest, others)


def test_the_share_that_stays_is_what_a_linear_map_rebuilds(network: PKEchoNet) -> None:
    """Summed over the channels that are kept: found by least squares on the same frames."""
    frames = pictures(3)
    worth = channel_importance(network, "reconstruction", frames=[frames])[PLACE]
    for width in (2, 6):
        kept = kept_channels(worth, width)
        share = float(worth[kept].sum() / worth.sum())

        assert 1 - share == pytest.approx(lost(network, kept, frames), abs=0.02)


def test_every_convolution_but_the_first_and_the_depthwise_reads_a_place(
    network: PKEchoNet,
) -> None:
    layers = network_layers(network.config)
    depthwise = sum(layer.depthwise for layer in layers)

    assert sum(reader_counts(network).values()) == len(layers) - 1 - depthwise
