"""`pkecho-edge tune` as typed: once for real on a small network, and what it refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pkecho_edge import candidates
from pkecho_edge.bundle.reader import read_bundle
from pkecho_edge.cli.tune_table import candidates_table
from pkecho_edge.tuning import scoring
from pkecho_edge.tuning.search import Candidate, Scored

TUNE = (
    "tune network.safetensors --phantoms --size 96 --clips 2 --verify-clips 4 --mode clip "
    "--ratios 0.3,0.99 --prune-steps 0 --lesson-phantoms 2 "
    "--rule minmax/minmax+bias --float-precision f32 --gates gates.toml "
    "--max-dsc-drop 100 --max-ef-drift 1000"
)

STAGES = ("export", "choose", "quantize", "engine-cpu")
BUILT = ["-30 %: prune", *(f"-30 % INT8/f32: {x}" for x in STAGES)]
PLANNED = {
    "draw the clips": "always",
    "answers, clip": "depends",
    "-30 %: prune": "to do",
    **{f"-30 % INT8/f32: {stage}": "depends" for stage in STAGES},
    "-30 % INT8/f32: score, clip": "depends",
    "-30 % float/f32: choose": "depends",
    "-30 % float/f32: quantize": "depends",
    "-30 % float/f32: engine-cpu": "depends",
    "-30 % float/f32: score, clip": "depends",
    "-99 %: prune": "refused",
    "time all engines in turns": "always",
    "the best: verify": "always",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timed_briefly: None) -> Path:
    """The current folder, with a narrow network in it; few and short clips, brief timings."""
    import torch

    from pkecho_edge.model.checkpoint import save_checkpoint
    from pkecho_edge.model.configuration import NetworkConfig, Widths
    from pkecho_edge.model.network import PKEchoNet

    torch.manual_seed(7)  # masks that are neither empty nor whole
    inner = (((16,), (16,)), ((24,), (24,)), ((32,), (32,)), ((32,), (32,)))
    config = NetworkConfig(frames=3, widths=Widths(16, (16, 24, 32, 32), inner))
    save_checkpoint(PKEchoNet(config).eval(), tmp_path / "network.safetensors")
    (tmp_path / "gates.toml").write_text(
        "[gates]\ndsc_drift_worst_clip = 100\nhd95_drift = 1000\nspeedup = 0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PKECHO_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scoring, "SCORED_CLIPS", 4)
    monkeypatch.setattr(candidates, "ROUNDS", 1)
    monkeypatch.setattr(candidates, "take_turns", partial(candidates.take_turns, seconds=0.02))
    return tmp_path


@pytest.fixture
def plan(place: Path, typed: Any, tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Stage -> what a dry run says of it, and that it writes nothing else."""

    def run() -> dict[str, Any]:
        before = {path for path in place.rglob("*") if path.name != "plan.json"}
        outcome = typed(f"{TUNE} --overwrite --dry-run --json plan.json")
        assert outcome.code == 0, outcome.err
        assert {path for path in place.rglob("*") if path.name != "plan.json"} == before
        stages = json.loads((place / "plan.json").read_text())["stages"]
        names = [each["stage"] for each in stages]
        assert len(set(names)) == len(names)
        assert all(each["depends_on"] in (None, *names) for each in stages)
        return {each["stage"]: each for each in stages}

    return run


def test_a_search_ends_with_a_bundle_a_picture_and_a_reason(
    place: Path, typed: Any, plan: Callable[[], dict[str, Any]]
) -> None:
    said = plan()
    assert {name: said[name]["state"] for name in PLANNED} == PLANNED
    assert "out of reach" in said["-99 %: prune"]["refusal"]

    outcome = typed(f"{TUNE} --json figures.json")

    assert outcome.code == 0, outcome.err
    bundle = read_bundle(place / "tuned" / "network-cpu.pkb")
    assert [entry.mode for entry in bundle.manifest.engines] == ["clip"]
    assert (place / "tuned" / "pareto.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((place / "tuned" / "tune.json").read_text())
    assert json.loads((place / "figures.json").read_text()) == document
    quantized, in_float, failed = document["candidates"]
    assert quantized["dsc_drift_high"] is not None
    assert quantized["hd95_drift"] is not None
    assert len(in_float["float_layers"]) > len(quantized["float_layers"])
    assert "out of reach" in failed["failed"]
    assert bundle.manifest.lineage.checkpoint_sha256 == document["baseline_sha256"]
    assert f"Chosen:  {document['chosen']} is the fastest of" in outcome.out
    for words in ("frames/s", "DSC drift", "-99 %", "chosen"):
        assert words in outcome.out

    # what the search built is what the bundle was made of
    for stage in ("lower and export", "choose the quantization", "compile for cpu"):
        *_, last = [line for line in outcome.out.splitlines() if f"{stage}: " in line]
        assert "(reused)" in last

    # and what a dry run knows of by now
    said = plan()
    now = {**PLANNED, **dict.fromkeys(BUILT, "cached")}
    assert {name: said[name]["state"] for name in PLANNED} == now
    for name in ("answers, clip", "-30 % INT8/f32: score, clip", "the best: verify"):
        assert said[name]["expected_s"] > 0


def test_the_table_is_whole_at_80_columns_and_says_below_it_what_speaks_against_whom() -> None:
    fits = Scored(Candidate(), 42.13, 0.01, 0.02, 0.3, 0.4, fps=18.0)
    over = replace(
        fits, candidate=Candidate(0.88), breaks=("DSC drift 97.2 > 0.5 points", "EF drift lost")
    )
    failed = Scored(Candidate(0.99), failed="[1/3] of it is out of reach. Ask for less")
    page = Console(width=80, file=io.StringIO(), record=True)

    page.print(candidates_table([fits, over, failed], chosen=fits.candidate))

    table, _, below = page.export_text().partition("└")
    assert "…" not in table
    assert all(len(line) <= 80 for line in table.splitlines())
    assert [line.rstrip("│ ").split()[-1] for line in table.splitlines() if "INT8" in line] == [
        "chosen", "outside", "failed",
    ]  # fmt: skip
    assert [line.strip() for line in below.splitlines()[1:]] == [
        "-88 % INT8/f32: DSC drift 97.2 > 0.5 points; EF drift lost",
        "-99 % INT8/f32: [1/3] of it is out of reach",
    ]


def test_a_dry_run_of_nothing_but_refused_networks_is_refused(place: Path, typed: Any) -> None:
    outcome = typed(f"{TUNE.replace('0.3,0.99', '0.99')} --dry-run")

    assert outcome.code == 2
    assert "out of reach" in outcome.err


def test_a_dry_run_needs_no_cache_to_know_where_a_pruned_network_is_from(
    place: Path, typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = typed(
        "prune network.safetensors --ratio 0.3 --steps 0 --no-refit --importance magnitude "
        "--size 96 --out small.safetensors"
    )
    assert pruned.code == 0, pruned.err
    monkeypatch.setenv("PKECHO_EDGE_CACHE", str(place / "another"))
    line = TUNE.replace("--ratios 0.3,0.99", "--ratios 0 --also small.safetensors")

    outcome = typed(f"{line.replace('--mode clip', '--mode both')} --dry-run --json plan.json")

    assert outcome.code == 0, outcome.err
    stages = [each["stage"] for each in json.loads((place / "plan.json").read_text())["stages"]]
    for network in ("unpruned", "small"):
        assert f"{network} INT8/f32: export" in stages
        assert f"{network} float/f32: score, stream" in stages
    assert not (place / "another").exists()


def test_where_nothing_fits_the_figures_are_written_all_the_same(place: Path, typed: Any) -> None:
    line = TUNE.replace("--ratios 0.3,0.99", "--ratios 0.3")
    outcome = typed(f"{line} --min-fps 1e9 --json figures.json --out slow")

    assert outcome.code == 3
    document = json.loads((place / "figures.json").read_text())
    assert document == json.loads((place / "slow" / "tune.json").read_text())
    assert document["bundle"] is None
    assert all("frames/s" in row["breaks"][0] for row in document["candidates"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--max-dsc-drop 0", "max-dsc-drop is 0"),
        ("--max-ef-drift -1", "max-ef-drift is -1"),
        ("--min-fps 0", "min-fps is 0"),
        ("--ratios ''", "no pruning ratio to try"),
        ("--ratios 0,1", "pruning ratio 1 is not from 0 to below 1"),
        ("--ratios half", "no list of numbers"),
        ("--mode live", "there is no mode 'live'"),
        ("--float-precision int4", "unknown float precision 'int4'"),
        ("--target jetson", "timed on their device"),
        ("--target onnxruntime --prune-scope latency", "as target cpu runs them, not onnxruntime"),
        ("--target abacus", "unknown target 'abacus'"),
        ("--rule guess", "range rule"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    place: Path, typed: Any, options: str, says: str
) -> None:
    outcome = typed(f"tune network.safetensors --phantoms {options}")

    assert outcome.code == 2
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (place / "tuned").exists()
    assert not (place / "cache").exists()


def test_a_folder_of_recordings_and_phantoms_at_once_are_refused(place: Path, typed: Any) -> None:
    outcome = typed("tune network.safetensors --phantoms --data .")

    assert outcome.code == 2
    assert "either --data DIR or --phantoms" in outcome.err
