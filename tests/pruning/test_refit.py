"""Refitting: what stays says what the whole said, as nearly as it can, and nothing else changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.pruning import refit as module
from pkecho_edge.pruning.channels import channel_importance, keep_channels, kept_channels
from pkecho_edge.pruning.layers import network_layers
from pkecho_edge.pruning.places import widths_of
from pkecho_edge.pruning.refit import refit


def pictures(seed: int, count: int = 6, side: int = 96) -> Tensor:
    """Smooth ones: their pixels depend on each other, as those of recordings do."""
    coarse = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


FRAMES = [pictures(0, 40), pictures(1, 20, side=64)]
OTHERS = pictures(2)


def cut(
    network: PKEchoNet, worth: Mapping[str, Tensor], widths: Mapping[str, int]
) -> tuple[PKEchoNet, dict[str, Tensor]]:
    kept = {place: kept_channels(worth[place], width) for place, width in widths.items()}
    return keep_channels(network, worth, widths), kept


def said(network: PKEchoNet, frames: Tensor = OTHERS) -> list[Tensor]:
    """What the estimators and the head say, whose number of channels no width changes."""
    found = []
    with torch.no_grad():
        features = network.encoder_layer0(frames)
        for stage, estimator in network.stages():
            features = stage(features)
            found.append(estimator.estimator(features))
        return [*found, network.kss.reduce(features)]


def apart(ours: PKEchoNet, theirs: PKEchoNet) -> list[float]:
    """By how much each of them is off, in parts of its spread."""
    pairs = zip(said(ours), said(theirs), strict=True)
    return [float((a - b).square().mean() / b.var()) for a, b in pairs]


def test_what_was_not_cut_stays_as_it_is(network: PKEchoNet) -> None:
    worth, widths = channel_importance(network, "magnitude"), widths_of(network.config)
    whole, kept = cut(network, worth, widths)

    assert max(apart(refit(whole, network, kept, FRAMES), network)) < 1e-6


@pytest.mark.parametrize("place", ["inner.1.0.0", "inner.2.0.0", "inner.3.1.0"])
def test_a_twin_takes_over_what_its_twin_said(network: PKEchoNet, place: str) -> None:
    stage, block = (int(part) for part in place.split(".")[1:3])
    inside = network.get_submodule(f"encoder_layer{stage + 1}.{block}")
    inside.conv1.weight.data[5] = inside.conv1.weight.data[3]
    for values in (inside.bn1.weight.data, inside.bn1.bias.data):
        values[5] = values[3]
    for values in (inside.bn1.running_mean, inside.bn1.running_var):
        values[5] = values[3]
    worth = {name: torch.ones(width) for name, width in widths_of(network.config).items()}
    worth[place][5] = 0
    widths = widths_of(network.config)
    pruned, kept = cut(network, worth, widths | {place: widths[place] - 1})

    assert max(apart(pruned, network)) > 1e-3
    assert max(apart(refit(pruned, network, kept, FRAMES), network)) < 1e-4


def test_a_narrow_network_says_more_nearly_what_the_whole_said(network: PKEchoNet) -> None:
    """On frames that it was not refitted on, at every output, whatever was cut."""
    worth = channel_importance(network, "magnitude")
    widths = {place: width - width // 4 for place, width in widths_of(network.config).items()}
    if network.config.backbone == "resnet50":
        widths["stem"] = widths_of(network.config)["stem"]
    pruned, kept = cut(network, worth, widths)

    before = apart(pruned, network)
    after = apart(refit(pruned, network, kept, FRAMES), network)

    assert all(b < 0.7 * a for a, b in zip(before, after, strict=True)), (before, after)


def test_the_last_convolution_of_a_block_makes_up_for_the_shortcut(
    network: PKEchoNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first block whose shortcut has lost inputs comes nearer to the parent's."""
    worth = channel_importance(network, "magnitude")
    widths = widths_of(network.config)
    pruned, kept = cut(network, worth, widths | {"outputs.1": widths["outputs.1"] - 8})

    def missed(ours: PKEchoNet) -> float:
        found = []
        for each, channels in ((ours, slice(None)), (network, kept["outputs.2"])):
            with torch.no_grad():
                features = each.encoder_layer2(each.encoder_layer1(each.encoder_layer0(FRAMES[0])))
                found.append(each.encoder_layer3[0](features)[:, channels])
        return float((found[0] - found[1]).square().mean() / found[1].var())

    with_it = missed(refit(pruned, network, kept, FRAMES))
    monkeypatch.setattr(module, "_closes", lambda *_: False)
    without = missed(refit(pruned, network, kept, FRAMES))

    assert with_it < 0.95 * without, (with_it, without)


def test_neither_network_changes_and_every_layer_is_told(network: PKEchoNet) -> None:
    worth = channel_importance(network, "magnitude")
    widths = {place: width - 4 for place, width in widths_of(network.config).items()}
    pruned, kept = cut(network, worth, widths)
    states = [copy.deepcopy(each.state_dict()) for each in (pruned, network)]
    told: list[None] = []

    refitted = refit(pruned, network, kept, FRAMES, lambda: told.append(None))

    assert len(told) == len(network_layers(network.config))
    for state, each in zip(states, (pruned, network), strict=True):
        assert all(torch.equal(state[name], now) for name, now in each.state_dict().items())
    assert not refitted.training


def test_without_frames_it_is_a_copy(network: PKEchoNet) -> None:
    worth = channel_importance(network, "magnitude")
    pruned, kept = cut(network, worth, widths_of(network.config) | {"inner.3.0.0": 8})

    same = refit(pruned, network, kept, [])

    assert same is not pruned
    assert all(torch.equal(a, b) for a, b in zip(said(same), said(pruned), strict=True))


def test_channels_that_say_nothing_leave_finite_weights(network: PKEchoNet) -> None:
    worth = channel_importance(network, "magnitude")
    pruned, kept = cut(network, worth, widths_of(network.config) | {"inner.3.0.0": 8})

    black = refit(pruned, network, kept, [torch.zeros(2, 1, 96, 96)])

    assert all(bool(torch.isfinite(each).all()) for each in black.state_dict().values())
