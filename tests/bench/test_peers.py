"""Peers: which ratios are reported, and what the toolchains' own way really is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from pkecho_edge.bench.peers import (
    EAGER,
    LAST_MASK_NNCF,
    LOWERED_NNCF,
    OURS,
    UNLOWERED_NNCF,
    peer_ratios,
)
from pkecho_edge.bench.rows import BenchRow, make_row, noisy
from pkecho_edge.bench.unlowered import as_floats, export_unlowered
from pkecho_edge.data.clip import Clip
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet

ROW = BenchRow(EAGER, "clip", "resnet18", (96, 96), "f32", 20.0, 500.0, 510.0, 0.01, 1.0)


def test_ratios_divide_like_by_like() -> None:
    rows = [ROW]
    for floats, factor in (("f32", 1), ("bf16", 2)):
        precision = f"int8 + {floats}"
        for engine, mode, fps in (
            (UNLOWERED_NNCF, "clip", 100.0),
            (UNLOWERED_NNCF, "sliding", 10.0),
            (LAST_MASK_NNCF, "clip", 125.0),
            (LAST_MASK_NNCF, "sliding", 12.5),
            (LOWERED_NNCF, "clip", 160.0),
            (OURS, "clip", 200.0 * factor),
            (OURS, "stream", 160.0 * factor),
        ):
            rows.append(replace(ROW, engine=engine, mode=mode, precision=precision, fps=fps))

    values = [ratio.value for ratio in peer_ratios(rows)]

    assert values[:7] == pytest.approx([2, 1.6, 1.25, 10, 16, 12.8, 8])
    assert values[7:] == pytest.approx([4, 3.2, 2.5, 20, 32, 25.6, 16])
    labels = [ratio.label for ratio in peer_ratios(rows)]
    assert len(set(labels)) == len(labels)
    assert all("sliding" in label for label in labels if "stream" in label and "NNCF" in label)

    without = [row for row in rows if (row.engine, row.precision) != (LOWERED_NNCF, "int8 + bf16")]
    assert len(peer_ratios(without)) == len(labels) - 1


def test_a_row_counts_results_per_second() -> None:
    latencies = [40_000_000] * 9 + [100_000_000]

    clip = make_row("e", "clip", "resnet18", (96, 96), "f32", latencies, 10, eager_fps=50)
    sliding = make_row("e", "sliding", "resnet18", (96, 96), "f32", latencies, 1, eager_fps=50)

    assert clip.fps == pytest.approx(250)
    assert clip.ratio_to_eager == pytest.approx(5)
    assert sliding.fps == pytest.approx(25)
    assert clip.latency_ms_p50 == sliding.latency_ms_p50 == pytest.approx(40)
    assert noisy([clip]) == [clip]  # 100 ms among 40 ms
    assert noisy([ROW]) == []


def test_a_single_call_has_no_spread_and_counts_as_noisy() -> None:
    row = make_row("e", "clip", "resnet18", (96, 96), "f32", [10], 10)

    assert row.to_dict()["cv"] is None
    assert row.ratio_to_eager is None
    assert noisy([row]) == [row]


@pytest.mark.parametrize(("last_mask_only", "outputs"), [(False, 4), (True, 1)])
def test_the_unlowered_export_gives_floats_in_and_every_mask_out(
    tmp_path: Path, last_mask_only: bool, outputs: int, clip: Clip, network: PKEchoNet
) -> None:
    path = tmp_path / "network.onnx"
    export_unlowered(network, clip.frames, path, last_mask_only=last_mask_only)

    graph = onnx.load(path).graph
    taken = graph.input[0].type.tensor_type
    assert taken.elem_type == onnx.TensorProto.FLOAT
    assert [d.dim_value for d in taken.shape.dim] == [1, 10, 1, 96, 96]
    assert len(graph.output) == outputs
    assert as_floats(clip.frames).max() <= 1


@pytest.fixture(scope="module")
def network() -> PKEchoNet:
    return PKEchoNet(NetworkConfig()).eval()


@pytest.fixture(scope="module")
def clip() -> Clip:
    from pkecho_edge.bench.engines import bench_clips

    return bench_clips((96, 96), 10, 1)[0]
