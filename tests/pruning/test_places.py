"""Widths by name: every one is there once, and a configuration survives the way there and back."""

from __future__ import annotations

import pytest

from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet, count_gmacs
from pkecho_edge.pruning.layers import network_layers
from pkecho_edge.pruning.places import STEM, places_of, widths_of, with_widths


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50"])
def test_a_configuration_survives_the_way_there_and_back(backbone: str) -> None:
    config = NetworkConfig(backbone)

    assert with_widths(config, widths_of(config)) == config
    assert tuple(widths_of(config)) == places_of(config)


def test_the_stem_and_layer_1_of_basic_blocks_have_one_width() -> None:
    basic, bottleneck = NetworkConfig("resnet18"), NetworkConfig("resnet50")

    assert "outputs.0" not in places_of(basic)
    assert "outputs.0" in places_of(bottleneck)
    assert with_widths(basic, widths_of(basic) | {STEM: 8}).channel_widths.outputs[0] == 8


def test_layers_are_the_networks_convolutions(network: PKEchoNet) -> None:
    modules = dict(network.named_modules())
    widths = widths_of(network.config)

    layers = network_layers(network.config)

    for layer in layers:
        module = modules[layer.name]
        assert layer.channels(widths) == (module.in_channels, module.out_channels), layer.name
        assert (layer.kernel, layer.stride) == (module.kernel_size[0], module.stride[0])
        assert layer.depthwise == (module.groups > 1)
    named = {layer.name for layer in layers}
    convolutions = {n for n, m in modules.items() if hasattr(m, "kernel_size") and "pool" not in n}
    assert {n for n in convolutions if n != "kss.predictor_conv2" and n[-2:] != ".3"} <= named | {
        "encoder_layer0.3"
    }


def test_the_layers_macs_are_those_of_the_network_but_for_a_constant(network: PKEchoNet) -> None:
    size = (96, 64)
    full = widths_of(network.config)
    less = {place: max(8, width - 8) for place, width in full.items()}

    def counted(widths: dict[str, int]) -> float:
        return count_gmacs(PKEchoNet(with_widths(network.config, widths)), size)

    def summed(widths: dict[str, int]) -> float:
        each = sum(layer.macs(widths, size) for layer in network_layers(network.config))
        return network.config.frames * each / 1e9

    assert summed(full) < counted(full)
    assert counted(full) - counted(less) == pytest.approx(summed(full) - summed(less), rel=1e-9)
