"""Which widths a budget buys."""

from __future__ import annotations

import math

import pytest
import torch

from pkecho_edge.errors import UsageError
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet, count_gmacs
from pkecho_edge.pruning.choose import SCOPES, choose_widths, network_gmacs
from pkecho_edge.pruning.cost import LatencyTable, LayerGrid, gmacs_cost, latency_cost
from pkecho_edge.pruning.layers import ConvLayer
from pkecho_edge.pruning.places import widths_of, with_widths

SIZE = (128, 128)


def equal(config: NetworkConfig) -> dict[str, torch.Tensor]:
    return {name: torch.ones(width) for name, width in widths_of(config).items()}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_the_budget_is_kept_and_hardly_undercut(scope: str, backbone: str) -> None:
    config = NetworkConfig(backbone)
    whole = network_gmacs(config, widths_of(config), SIZE)

    chosen = choose_widths(config, equal(config), 0.8, SIZE, scope=scope)

    assert 0.9 * 0.2 * whole < chosen.gmacs <= 0.2 * whole
    rebuilt = PKEchoNet(with_widths(config, chosen.widths))  # every projection is where it was
    assert count_gmacs(rebuilt, SIZE) == pytest.approx(chosen.gmacs, rel=1e-9)
    assert all(width % 8 == 0 and width >= 8 for width in chosen.widths.values())
    assert PKEchoNet(config).state_dict().keys() == rebuilt.state_dict().keys()


def test_channels_of_equal_worth_go_everywhere_alike() -> None:
    config = NetworkConfig()
    full = widths_of(config)

    chosen = choose_widths(config, equal(config), 0.6, SIZE)

    shares = [chosen.widths[name] / width for name, width in full.items()]
    assert max(shares) / min(shares) < 1.6


def test_a_place_of_worthless_channels_goes_first() -> None:
    config = NetworkConfig()
    worth = equal(config)
    worth["inner.2.1.0"] = torch.cat([torch.ones(32), torch.full((224,), 1e-3)])

    chosen = choose_widths(config, worth, 0.1, SIZE)

    assert chosen.widths["inner.2.1.0"] <= 40
    assert chosen.widths["inner.2.0.0"] > 200


def test_a_place_of_more_weight_keeps_more() -> None:
    config = NetworkConfig()
    alike = dict.fromkeys(widths_of(config), 1.0)

    before = choose_widths(config, equal(config), 0.6, SIZE, weight=alike)
    after = choose_widths(config, equal(config), 0.6, SIZE, weight=alike | {"outputs.1": 5.0})

    assert after.widths["outputs.1"] > 1.3 * before.widths["outputs.1"]
    assert after.gmacs <= 0.4 * network_gmacs(config, widths_of(config), SIZE)


def test_latency_spares_what_is_cheap_in_time() -> None:
    config = NetworkConfig()
    macs = gmacs_cost(SIZE)

    def dear_layer_4(layer: ConvLayer, inputs: int, outputs: int) -> float:
        return macs(layer, inputs, outputs) * (10 if "layer4" in layer.name else 1)

    by_macs = choose_widths(config, equal(config), 0.5, SIZE)
    by_time = choose_widths(config, equal(config), 0.5, SIZE, scope="latency", cost=dear_layer_4)

    assert by_time.widths["inner.3.1.0"] < by_macs.widths["inner.3.1.0"] / 2
    assert by_time.widths["inner.2.1.0"] > by_macs.widths["inner.2.1.0"]


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, float("nan")])
def test_an_impossible_ratio_is_refused(ratio: float) -> None:
    config = NetworkConfig()
    with pytest.raises(UsageError, match="not between 0 and 1"):
        choose_widths(config, equal(config), ratio, SIZE)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_ratio_out_of_reach_says_how_far_one_can_go(scope: str) -> None:
    config = NetworkConfig()

    with pytest.raises(UsageError, match="out of reach") as refused:
        choose_widths(config, equal(config), 0.999, SIZE, scope=scope)

    most = float(refused.value.remedy.removeprefix("Use at most "))
    choose_widths(config, equal(config), most, SIZE, scope=scope)
    with pytest.raises(UsageError, match="out of reach"):
        choose_widths(config, equal(config), most + 0.01, SIZE, scope=scope)


@pytest.mark.parametrize("round_to", [1, 5, 8, 16, 64])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_said_to_be_in_reach_is(scope: str, backbone: str, round_to: int) -> None:
    config = NetworkConfig(backbone=backbone)
    with pytest.raises(UsageError, match="out of reach") as refused:
        choose_widths(config, equal(config), 0.999, SIZE, scope=scope, round_to=round_to)

    most = float(refused.value.remedy.removeprefix("Use at most "))
    found = choose_widths(config, equal(config), most, SIZE, scope=scope, round_to=round_to)

    full = widths_of(config)
    assert found.gmacs <= (1 - most) * network_gmacs(config, full, SIZE) + 1e-9
    for place, width in found.widths.items():
        assert width == full[place] or (width < full[place] and width % round_to == 0)


def test_a_network_that_is_small_enough_stays_as_it_is() -> None:
    config = NetworkConfig()
    once = choose_widths(config, equal(config), 0.5, SIZE)
    smaller = with_widths(config, once.widths)
    whole = network_gmacs(config, widths_of(config), SIZE)

    again = choose_widths(smaller, equal(smaller), 0.5, SIZE, whole=whole)

    assert again.widths == once.widths


def test_a_width_that_takes_longer_does_not_bar_the_way() -> None:
    """A layer of 480 to 504 channels takes as long as one of 512; of 472 it takes half."""
    config = NetworkConfig()
    macs = gmacs_cost(SIZE)

    def jagged(layer: ConvLayer, inputs: int, outputs: int) -> float:
        plain = macs(layer, inputs, outputs)
        if layer.outputs != "inner.3.1.0":
            return 0.01 * plain
        return 10.0 * (0.5 if outputs <= 472 else 1 + outputs % 8 + (outputs < 512))

    found = choose_widths(config, equal(config), 0.05, SIZE, scope="latency", cost=jagged)

    assert found.widths["inner.3.1.0"] <= 472


def test_what_a_large_last_step_took_too_much_comes_back() -> None:
    """Where whole ranges of widths take as long, a place gives up a range at once."""
    config = NetworkConfig()
    macs = gmacs_cost(SIZE)
    whole = network_gmacs(config, widths_of(config), SIZE)

    def in_ranges(layer: ConvLayer, inputs: int, outputs: int) -> float:
        return macs(layer, 64 * math.ceil(inputs / 64), 64 * math.ceil(outputs / 64))

    for ratio in (0.5, 0.6, 0.7, 0.8):
        found = choose_widths(
            config, equal(config), ratio, SIZE, scope="latency", round_to=16, cost=in_ranges
        )
        assert 0.97 * (1 - ratio) * whole < found.gmacs <= (1 - ratio) * whole


def test_a_grid_is_exact_on_its_points_and_linear_between() -> None:
    grid = LayerGrid((8, 16), (8, 32), ((1.0, 3.0), (2.0, 6.0)))

    assert grid.at(8, 8) == 1.0
    assert grid.at(16, 32) == 6.0
    assert grid.at(8, 20) == 2.0
    assert grid.at(12, 8) == 1.5
    assert grid.at(64, 64) == 6.0  # held beyond what was measured
    assert grid.at(1, 1) == 1.0
    table = LatencyTable({"a": grid})
    assert LatencyTable.from_dict(table.as_dict()) == table
    assert latency_cost(table)(ConvLayer("a", "stem", "stem", 3, 1, 4), 16, 8) == 2.0


@pytest.mark.parametrize(
    ("inputs", "outputs", "ms"),
    [
        ((), (8,), ()),
        ((16, 8), (8,), ((1.0,), (1.0,))),
        ((8,), (8, 16), ((1.0,),)),
        ((8,), (8,), ((0.0,),)),
        ((8,), (8,), ((float("nan"),),)),
    ],
)
def test_a_grid_that_cannot_be_is_refused(inputs, outputs, ms) -> None:
    with pytest.raises(ValueError, match=r"not|above"):
        LayerGrid(inputs, outputs, ms)
