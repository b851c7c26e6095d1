"""The paper's Table 2: what must agree with it, and what is this machine's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from pkecho_edge.bench import efficiency
from pkecho_edge.bench.efficiency import PAPER, PAPER_SIZE, EfficiencyRow, measure_efficiency
from pkecho_edge.cli import main as command_line
from pkecho_edge.stages import SilentObserver

SIZE = (96, 96)
PROMISED = {"engine", "mode", "backbone", "size", "precision", "fps", "latency_ms_p50"} | {
    "latency_ms_p99",
    "cv",
    "ratio_to_eager",
}


@pytest.fixture(scope="module")
def rows() -> list[EfficiencyRow]:
    return measure_efficiency(SIZE, 0, 1, SilentObserver(), warmup=0)


def test_cost_and_size_are_the_papers(rows: list[EfficiencyRow]) -> None:
    pixels = SIZE[0] * SIZE[1] / (PAPER_SIZE[0] * PAPER_SIZE[1])

    assert [row.backbone for row in rows] == ["resnet18", "resnet34", "resnet50"]
    for row in rows:
        # cost grows with the pixels but for the kernels, which have none; paper: whole numbers
        assert row.gmacs / pixels == pytest.approx(row.paper.gmacs, rel=0.01)
        assert row.parameters_m == pytest.approx(row.paper.parameters_m, abs=0.1)


def test_speed_is_frames_over_the_median_latency(rows: list[EfficiencyRow]) -> None:
    for row in rows:
        assert row.fps == pytest.approx(10 / row.latency_ms_p50 * 1000)
        assert row.latency_ms_p50 > 0
        assert row.threads == torch.get_num_threads()


def test_rows_have_the_keys_of_every_benchmark(rows: list[EfficiencyRow]) -> None:
    for row in rows:
        document = row.to_dict()
        assert document.keys() >= PROMISED
        assert document["ratio_to_eager"] == 1
        assert document["paper"] == {
            "gmacs": PAPER[row.backbone].gmacs,
            "parameters_m": PAPER[row.backbone].parameters_m,
            "fps": PAPER[row.backbone].fps,
        }


def test_the_command_prints_both_and_writes_json(
    rows: list[EfficiencyRow],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(efficiency, "measure_efficiency", lambda *_: rows)
    line = f"pkecho-edge bench efficiency --size 96 --json {tmp_path / 'f.json'}"
    monkeypatch.setattr(sys, "argv", line.split())
    with pytest.raises(SystemExit) as end:
        command_line.main()

    printed = capsys.readouterr().out
    assert not end.value.code
    for words in ("resnet50", "25.71", "25.7", "109", "258", "RTX 3090", "compare at the paper's"):
        assert words in printed
    assert max(map(len, printed.splitlines())) <= 80
    document = json.loads((tmp_path / "f.json").read_text())
    assert document.keys() == {"machine", "rows"}
    assert [row["backbone"] for row in document["rows"]] == list(PAPER)
    assert document["rows"][0]["cv"] is None  # of a single round nobody knows
