"""Cutting channels: what is worth nothing can go without a trace, and everything still fits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pkecho_edge.errors import UsageError
from pkecho_edge.lowering.clip_graph import ClipGraph
from pkecho_edge.lowering.stream_graph import StreamGraph
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.pruning.channels import IMPORTANCES, channel_importance, keep_channels
from pkecho_edge.pruning.places import widths_of

CLIP = torch.rand(1, 3, 1, 96, 96, generator=torch.Generator().manual_seed(0))


def logits(network: PKEchoNet) -> torch.Tensor:
    with torch.no_grad():
        return network(CLIP)[-1]


def alike(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Up to what FP32 rounds off in a deep network with random weights."""
    return float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())


def losses(network: PKEchoNet):
    yield network(CLIP)[-1].square().mean()


def silenced(network: PKEchoNet, place: str, channel: int) -> None:
    """Let one channel be 0 for every input: its BatchNorm scales and shifts to nothing."""
    places = {
        "inner.1.0.0": ["encoder_layer2.0.bn1"],
        "outputs.2": [
            name
            for name, module in network.named_modules()
            if isinstance(module, nn.BatchNorm2d)
            and name.startswith("encoder_layer3.")
            and (name.endswith("downsample.1") or name.endswith(f"bn{last(network)}"))
        ],
    }
    for name in places[place]:
        norm = network.get_submodule(name)
        norm.weight.data[channel] = 0
        norm.bias.data[channel] = 0


def last(network: PKEchoNet) -> int:
    return 3 if network.config.backbone == "resnet50" else 2


def test_a_channel_that_says_nothing_goes_without_a_trace(network: PKEchoNet) -> None:
    silenced(network, "inner.1.0.0", 5)
    worth = channel_importance(network, "batchnorm")
    widths = widths_of(network.config)

    pruned = keep_channels(network, worth, widths | {"inner.1.0.0": widths["inner.1.0.0"] - 1})

    assert int(worth["inner.1.0.0"].argmin()) == 5
    assert alike(logits(pruned), logits(network))


def test_a_residual_channel_leaves_every_block_of_its_stage(network: PKEchoNet) -> None:
    silenced(network, "outputs.2", 7)
    worth = {name: torch.ones(width) for name, width in widths_of(network.config).items()}
    worth["outputs.2"][7] = 0
    widths = widths_of(network.config)

    pruned = keep_channels(network, worth, widths | {"outputs.2": widths["outputs.2"] - 1})

    # its affinity estimator saw a constant in that channel, so scores move a little, alike for all
    stage = pruned.encoder_layer3
    assert {block.conv1.in_channels for block in list(stage)[1:]} == {widths["outputs.2"] - 1}
    assert pruned.estimator3.estimator[0].groups == widths["outputs.2"] - 1
    with torch.no_grad():
        features = [n.encode(CLIP[0])[0] for n in (network, pruned)]
    kept = [channel for channel in range(widths["outputs.2"]) if channel != 7]
    assert len(kept) == pruned.config.channel_widths.outputs[2]
    assert alike(*features)


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_the_result_rebuilds_lowers_and_keeps_its_history(
    network: PKEchoNet, importance: str
) -> None:
    worth = channel_importance(network, importance, losses, [CLIP[0]])
    widths = {name: max(8, width // 16 * 8) for name, width in widths_of(network.config).items()}
    widths["stem"] = 16 if network.config.backbone == "resnet50" else 8  # its projection stays

    pruned = keep_channels(network, worth, widths)

    assert widths_of(pruned.config) == widths
    assert logits(pruned).shape == logits(network).shape
    frames = (CLIP[0] * 255).to(torch.uint8)
    with torch.no_grad():
        assert alike(ClipGraph(pruned, (96, 96))(frames), pruned(frames[None] / 255)[-1][0])
    assert (
        StreamGraph(pruned, (96, 96)).history_shape == StreamGraph(network, (96, 96)).history_shape
    )


def test_importance_is_one_on_average_and_leaves_the_network_alone(network: PKEchoNet) -> None:
    before = logits(network)

    worth = channel_importance(network, "magnitude")

    assert {name: len(values) for name, values in worth.items()} == widths_of(network.config)
    assert all(float(values.mean()) == pytest.approx(1, rel=1e-4) for values in worth.values())
    assert torch.equal(logits(network), before)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_taylor_sees_what_the_loss_depends_on(network: PKEchoNet) -> None:
    """A channel whose readers have no weight for it moves no loss, however large its own are."""
    for block in (network.encoder_layer4[0],):
        block.conv2.weight.data[:, 3] = 0
        block.bn1.weight.data[3] *= 1
    worth = channel_importance(network, "taylor", losses)["inner.3.0.0"]

    assert float(worth[3]) < 0.2 * float(worth.median())


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("luck", "no importance 'luck'"),
        ("taylor", "taylor needs recordings"),
        ("reconstruction", "reconstruction needs recordings"),
    ],
)
def test_an_importance_that_cannot_be_is_refused(network: PKEchoNet, kind: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        channel_importance(network, kind)


@pytest.mark.parametrize("width", [0, 1000])
def test_an_impossible_width_is_refused(network: PKEchoNet, width: int) -> None:
    worth = channel_importance(network, "magnitude")

    with pytest.raises(UsageError, match="stem cannot keep"):
        keep_channels(network, worth, widths_of(network.config) | {"stem": width})
