"""Every benchmark as it is typed, on a narrow network at 96x96, a few rounds each."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pkecho_edge.bench import roofline
from pkecho_edge.bench.engines import bench_clips
from pkecho_edge.bench.turns import take_turns
from pkecho_edge.cli.verbs import build_app
from pkecho_edge.data.clip import Clip

PROMISED = {"engine", "mode", "backbone", "size", "precision", "fps", "latency_ms_p50"} | {
    "latency_ms_p99",
    "cv",
    "ratio_to_eager",
}

BENCHMARKS = ("peers", "roofline", "layers", "scaling")

Bench = Callable[..., tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow ResNet-18 with random weights."""
    import torch

    from pkecho_edge.model.checkpoint import save_checkpoint
    from pkecho_edge.model.configuration import NetworkConfig, Widths
    from pkecho_edge.model.network import PKEchoNet

    torch.manual_seed(0)
    inner = (((16,), (16,)), ((24,), (24,)), ((32,), (32,)), ((32,), (32,)))
    config = NetworkConfig(widths=Widths(16, (16, 24, 32, 32), inner))
    path = tmp_path_factory.mktemp("bench") / "narrow.safetensors"
    save_checkpoint(PKEchoNet(config).eval(), path)
    return path


@pytest.fixture
def bench(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Run `bench NAME` with the narrow network; what it printed, and its JSON.

    One clip calibrates and turns are short: what a figure is, not how good it is, is tested here.
    """
    for name in BENCHMARKS:
        module = import_module(f"pkecho_edge.bench.{name}")
        monkeypatch.setattr(module, "bench_clips", _one_clip)
        if hasattr(module, "take_turns"):
            monkeypatch.setattr(module, "take_turns", partial(take_turns, seconds=0.005))
    monkeypatch.setattr(roofline, "PEAK_SHAPES", ((64, 16), (32, 16)))

    def run(name: str, *options: str) -> tuple[str, dict[str, Any]]:
        file = tmp_path / "figures.json"
        line = ["bench", name, *options, "--json", str(file), str(checkpoint)]
        outcome = CliRunner().invoke(build_app("bench"), line, catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
        return outcome.output, json.loads(file.read_text())

    return run


def _one_clip(size: tuple[int, int], length: int, count: int = 1) -> list[Clip]:
    return bench_clips(size, length, 1)


@pytest.mark.slow
def test_peers(bench: Bench) -> None:
    printed, document = bench("peers", "--size", "96", "--rounds", "3", "--no-torch-compile")

    rows = document["rows"]
    assert all(row.keys() >= PROMISED | {"size_mb", "load_ms", "memory_mb"} for row in rows)
    assert rows[0]["engine"] == "PyTorch eager"
    assert rows[0]["ratio_to_eager"] == pytest.approx(1)
    by_use = {(row["engine"], row["mode"], row["precision"]): row for row in rows}
    assert len(by_use) == len(rows)
    for (engine, mode, precision), row in by_use.items():
        if mode == "clip":  # one timing, two uses: a result per frame costs a whole clip
            sliding = by_use[engine, "sliding", precision]
            assert sliding["fps"] == pytest.approx(row["fps"] / 10)
        assert row["fps"] > 0
        assert row["latency_ms_p99"] >= row["latency_ms_p50"]
    assert ("pkecho-edge, cpu", "stream", "int8 + bf16") in by_use
    assert ("pkecho-edge, cpu", "sliding", "int8 + f32") in by_use
    ours = by_use["pkecho-edge, cpu", "clip", "int8 + f32"]["size_mb"]
    assert ours < by_use["lowered, OpenVINO", "clip", "f32"]["size_mb"]
    assert len(document["ratios"]) == 12
    assert any("torch.compile left out" in note for note in document["notes"])
    assert document["machine"]["cpu"]
    for words in ("narrow.safetensors", "recorded", "live", "one push per frame", "last mask"):
        assert words in printed
    figures = [line for line in printed.splitlines() if "x  " not in line and ":" not in line]
    assert max(map(len, figures)) <= 80


def test_roofline(bench: Bench) -> None:
    _, document = bench("roofline", "--size", "96", "--rounds", "3")

    assert [peak["precision"] for peak in document["peaks"]] == ["int8", "bf16", "f32"]
    assert len(document["rows"]) == 4
    for row in document["rows"]:
        assert row.keys() >= PROMISED
        assert 0 < row["graph_gmacs"] < row["network_gmacs"]
        peak = document["peaks"][0]["gmacs_per_s"]
        assert row["graph_gmacs_per_s"] / peak == pytest.approx(row["graph_fraction"])


@pytest.mark.parametrize("mode", ["clip", "stream"])
def test_layers(bench: Bench, mode: str) -> None:
    printed, document = bench("layers", "--size", "96", "--mode", mode, "--top", "3", "--runs", "3")

    rows, parts = document["rows"], {part["name"] for part in document["parts"]}
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    assert document["layers_ms"] == pytest.approx(sum(row["ms"] for row in rows))
    assert parts == {"encoder stem", "reduction", "head"} | {
        f"{part}.{index}" for part in ("encoder stages", "upsamplers") for index in range(4)
    }
    assert sum(kind["layers"] for kind in document["kinds"]) == len(rows)
    assert "Convolution" in printed


@pytest.mark.slow
def test_scaling(bench: Bench) -> None:
    _, document = bench(
        *("scaling", "--size", "96", "--sizes", "96", "--backbones", "18"),
        *("--thread-counts", "1", "--streams", "1,2", "--rounds", "3"),
    )

    rows = document["rows"]
    assert all(row.keys() >= PROMISED | {"axis", "value", "threads", "streams"} for row in rows)
    points = [(row["axis"], row["value"], row["mode"]) for row in rows]
    assert points[:9] == [
        (axis, value, mode)
        for axis, value in (("size", "96"), ("backbone", "resnet18"), ("threads", "1"))
        for mode in ("clip", "clip", "stream")
    ]
    assert points[9:] == [("streams", "1", "stream"), ("streams", "2", "stream")]
    assert rows[0]["fps"] == rows[3]["fps"]  # one engine at the crossing of two axes, timed once
    assert all(row["fps"] > 0 for row in rows)


def test_startup(good_world: Path, tmp_path: Path) -> None:
    document = on_bundle(good_world / "heart.pkb", tmp_path, "startup", "--starts", "1")

    assert [row["engine"] for row in document["rows"]] == [
        "runtime",
        "OpenVINO",
        "OpenVINO, model cache",
    ]
    for row in document["rows"]:
        assert row["total_ms"] == pytest.approx(row["open_ms"] + row["load_ms"] + row["push_ms"])
        assert 0 < row["rest_mb"] <= row["peak_mb"]


def test_overhead(good_world: Path, tmp_path: Path) -> None:
    options = ("overhead", "--rounds", "3", "--frames", "1100")
    document = on_bundle(good_world / "heart.pkb", tmp_path, *options)

    rows, growth = document["rows"], document["growth"]
    assert all(row.keys() >= PROMISED | {"p50_ratio", "p99_ratio"} for row in rows)
    assert rows[0]["p50_ratio"] == rows[0]["p99_ratio"] == 1
    for row in rows:
        expected = rows[0]["latency_ms_p50"] / row["latency_ms_p50"]
        assert row["p50_ratio"] == pytest.approx(expected)
    assert growth["growth_mb"] == pytest.approx(growth["end_mb"] - growth["settled_mb"])


def on_bundle(bundle: Path, folder: Path, *line: str) -> dict[str, Any]:
    """Run a benchmark that takes a bundle; its JSON."""
    file = folder / "figures.json"
    command = ["bench", *line, str(bundle), "--json", str(file)]
    outcome = CliRunner().invoke(build_app("bench"), command, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    document: dict[str, Any] = json.loads(file.read_text())
    return document


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("peers --backbone resnet101", "resnet101"),
        ("roofline --backbone vgg", "vgg"),
        ("layers --mode video", "video"),
        ("layers --precision f16", "f16"),
        ("scaling --sizes 96,100", "100"),
        ("scaling --backbones 18,101", "101"),
        ("scaling --thread-counts 0", "'0'"),
        ("scaling --streams two", "two"),
        ("startup --size 97", "97"),
        ("overhead --frames 1000", "1000"),
        ("startup nowhere.pkb", "not a bundle"),
    ],
)
def test_bad_options_are_refused_before_any_work(line: str, says: str) -> None:
    from pkecho_edge.errors import UsageError

    with pytest.raises(UsageError, match=says) as refusal:
        CliRunner().invoke(build_app("bench"), ["bench", *line.split()], catch_exceptions=False)

    assert refusal.value.remedy
