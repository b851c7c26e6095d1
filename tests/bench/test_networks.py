"""Which network a benchmark runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pkecho_edge.bench.engines import bench_clips
from pkecho_edge.bench.networks import choose_network, random_network
from pkecho_edge.errors import UsageError
from pkecho_edge.lowering.onnx_export import export_clip_onnx
from pkecho_edge.model.checkpoint import default_checkpoint_path


def test_without_a_choice_it_is_the_packaged_network() -> None:
    chosen = choose_network(None, None)

    assert (chosen.backbone, chosen.weights) == ("resnet18", "the packaged checkpoint")
    assert choose_network(None, "resnet18").weights == chosen.weights
    assert not chosen.network.training


@pytest.mark.parametrize("backbone", ["resnet34", "resnet50"])
def test_another_backbone_has_random_weights_that_can_be_lowered(
    backbone: str, tmp_path: Path
) -> None:
    chosen = choose_network(None, backbone)

    report = export_clip_onnx(
        chosen.network, (96, 96), tmp_path / "clip.onnx", bench_clips((96, 96), 10, 1)[0].frames
    )

    assert (chosen.backbone, chosen.weights) == (backbone, "random weights")
    assert report.parity < 5e-5  # not near the limit at which the export refuses


def test_impossible_choices_are_refused() -> None:
    with pytest.raises(UsageError, match="resnet101"):
        choose_network(None, "resnet101")
    with pytest.raises(UsageError, match="has resnet18, not resnet34"):
        choose_network(default_checkpoint_path(), "resnet34")


def test_random_weights_disturb_nobody_elses_draws() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    network, again = random_network("resnet18"), random_network("resnet18")

    assert torch.equal(torch.rand(1), expected)
    assert all(
        torch.equal(one, other)
        for one, other in zip(network.parameters(), again.parameters(), strict=True)
    )
