"""Rounds of pruning and recovery, and what a pruned checkpoint says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pkecho_edge.errors import CheckpointError, UsageError
from pkecho_edge.model.checkpoint import save_checkpoint
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet, count_gmacs
from pkecho_edge.recovering import PruningOrder, read_report, recover, round_ratios
from pkecho_edge.stages import SilentObserver

SIZE = (96, 96)


def network() -> PKEchoNet:
    torch.manual_seed(0)
    inner = (((32,), (32,)), ((32,), (32,)), ((48,), (48,)), ((64,), (64,)))
    widths = Widths(24, (24, 32, 48, 64), inner)
    return PKEchoNet(NetworkConfig(frames=3, widths=widths)).eval()


@pytest.mark.parametrize(
    ("ratio", "rounds", "expected"),
    [
        (0.5, None, (0.5,)),
        (0.75, None, (0.5, 0.75)),
        (0.875, None, (0.5, 0.75, 0.875)),
        (0.75, 1, (0.75,)),
    ],
)
def test_every_round_cuts_the_same_share(
    ratio: float, rounds: int | None, expected: tuple[float, ...]
) -> None:
    assert round_ratios(ratio, rounds) == pytest.approx(expected)


def test_pruning_alone_takes_one_round_and_keeps_the_budget(tmp_path: Path) -> None:
    whole = network()

    pruned, rounds = recover(
        whole,
        [],
        [],
        PruningOrder(0.6, recipe=None),
        SIZE,
        tmp_path,
        observer=SilentObserver(),
    )

    assert len(rounds) == 1
    assert rounds[0].agreement is None
    assert count_gmacs(pruned, SIZE) == pytest.approx(rounds[0].gmacs)
    assert rounds[0].gmacs <= 0.4 * count_gmacs(whole, SIZE)
    assert list(tmp_path.iterdir()) == []


def test_latency_without_times_is_refused(tmp_path: Path) -> None:
    order = PruningOrder(0.5, "latency", recipe=None)
    with pytest.raises(UsageError, match="needs times of layers"):
        recover(network(), [], [], order, SIZE, tmp_path, observer=SilentObserver())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ratio": 1.0}, "not between"),
        ({"scope": "x"}, "no scope 'x'"),
        ({"importance": "x"}, "no importance 'x'"),
        ({"round_to": 0}, "multiples of 0"),
        ({"rounds": 5}, "5 rounds"),
    ],
)
def test_an_order_that_cannot_be_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        PruningOrder(**({"ratio": 0.5} | wrong))  # type: ignore[arg-type]


def test_a_checkpoint_that_was_not_pruned_has_no_report(tmp_path: Path) -> None:
    save_checkpoint(network(), tmp_path / "a.safetensors", notes={"other": "note"})

    assert read_report(tmp_path / "a.safetensors") is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", json.dumps({"baseline_sha256": "../" * 21 + "x", "parent_sha256": "0" * 64})],
)
def test_a_report_that_somebody_damaged_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(network(), path, notes={"pruning": text})

    with pytest.raises(CheckpointError, match="what it says of its pruning"):
        read_report(path)
