"""The network: as large as the paper's, trainable everywhere, and used at batch size 1."""

from __future__ import annotations

import itertools

import pytest
import torch

from pkecho_edge.errors import CheckpointError, UsageError
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet, count_gmacs, count_parameters


@pytest.mark.parametrize(
    ("backbone", "millions", "gmacs"),
    [("resnet18", 11.78, 42.1), ("resnet34", 21.89, 79.9), ("resnet50", 25.71, 108.6)],
)
def test_size_and_cost_are_the_papers(backbone: str, millions: float, gmacs: float) -> None:
    with torch.device("meta"):
        network = PKEchoNet(NetworkConfig(backbone))

    assert count_parameters(network) / 1e6 == pytest.approx(millions, rel=0.005)
    assert count_gmacs(network, (320, 320)) == pytest.approx(gmacs, rel=0.005)


def test_counting_leaves_the_network_as_it_was(network: PKEchoNet) -> None:
    before = torch.backends.mha.get_fastpath_enabled()

    network.train()
    count_gmacs(network, (96, 96))

    assert network.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in network.parameters())
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_every_refinement_of_every_frame_in_eval(network: PKEchoNet, clips: torch.Tensor) -> None:
    with torch.inference_mode():
        logits = network(clips)

    assert [tuple(x.shape) for x in logits] == [(2, 3, 1, 64, 96)] * 4
    assert all(x.dtype == torch.float32 for x in logits)


def test_only_the_labelled_frames_in_training(network: PKEchoNet, clips: torch.Tensor) -> None:
    with torch.inference_mode():
        expected = network(clips)
        network.training = True  # its layers stay in eval mode, so that values can be compared
        labelled = network(clips)

    assert [tuple(x.shape) for x in labelled] == [(2, 2, 1, 64, 96)] * 4
    for all_frames, two in zip(expected, labelled, strict=True):
        torch.testing.assert_close(two, all_frames[:, [0, -1]])


def test_refinements_differ_from_each_other(network: PKEchoNet, clips: torch.Tensor) -> None:
    with torch.inference_mode():
        logits = network(clips)

    for before, after in itertools.pairwise(logits):
        assert (before - after).abs().max() > 1e-3


def test_gradients_reach_every_parameter(network: PKEchoNet, clips: torch.Tensor) -> None:
    predictions = network.train()(clips)
    torch.stack([logits.sigmoid().mean() for logits in predictions]).sum().backward()

    without = [
        name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()
    ]

    assert without == []


def test_the_batch_trap(network: PKEchoNet, clips: torch.Tensor) -> None:
    """Cross-video attention reads the whole batch: a clip is only itself at B = 1."""
    with torch.inference_mode():
        alone = network(clips[:1])[-1][0]
        with_a_mate = network(clips)[-1][0]
        alone_again = network(clips[:1])[-1][0]

    assert torch.equal(alone, alone_again)
    assert (alone - with_a_mate).abs().max() > 1e-3 * alone.abs().max()


def test_the_unrefined_prediction_knows_no_batch(network: PKEchoNet, clips: torch.Tensor) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(network(clips[:1])[0][0], network(clips)[0][0])


@pytest.mark.parametrize("shape", [(1, 4, 1, 64, 64), (1, 3, 3, 64, 64), (1, 3, 1, 60, 64)])
def test_impossible_clips_are_refused(network: PKEchoNet, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="multiples of 32"):
        network(torch.zeros(shape))


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "resnet101"},
        {"frames": 1},
        {"frames": 10.0},
        {"kernel_channels": 48},
        {"refinements": 9},
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(CheckpointError):
        NetworkConfig.from_dict(changes)


def test_a_configuration_survives_its_dictionary() -> None:
    config = NetworkConfig("resnet50", frames=6, kernel_channels=64, refinements=2)

    assert NetworkConfig.from_dict(config.as_dict()) == config
