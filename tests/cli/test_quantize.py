"""`pkecho-edge quantize`: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

Refuses = Callable[..., str]
Type = Callable[[str], Any]

QUANTIZE = "quantize network.safetensors --data data --size 96 --clips 2 --out new"
ONE_RULE = "--rule minmax/minmax+bias"
KEPT = (
    *(f"encoder.stages.{s}.{b}.convolutions.{c}" for s in range(4) for b in (0, 1) for c in (0, 1)),
    *(f"encoder.stages.{s}.0.downsample" for s in (1, 2, 3)),
    *(f"upsamplers.{u}.{layer}" for u in range(4) for layer in ("depthwise", "scores")),
)
TWO_BLOCKS = " ".join(f"--keep-float {layer}" for layer in KEPT)
"""Stem and reduction alone are looked at, in less time."""


def written(world: Path) -> set[str]:
    return {path.name for path in (world / "new").iterdir()}


def test_both_graphs_and_the_plan_are_written(world: Path, typed: Type) -> None:
    outcome = typed(f"{QUANTIZE} {ONE_RULE} --gates gates.toml --json figures.json")

    assert outcome.code == 0, outcome.err
    assert written(world) == {"clip.qdq.onnx", "stream.qdq.onnx", "plan.json"}
    for mode in ("clip", "stream"):
        kinds = {node.op_type for node in onnx.load(world / f"new/{mode}.qdq.onnx").graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    plan = json.loads((world / "new/plan.json").read_text())
    assert (plan["scheme"], plan["rule"]) == ("cpu", "minmax/minmax+bias")
    assert plan["restoring"]["failed_after"] == []
    assert json.loads((world / "figures.json").read_text()) == {**plan, "explanation": None}


def test_a_gate_that_fails_is_explained_unasked(
    world: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No INT8 keeps every logit of random weights on its side."""
    (world / "strict.toml").write_text("[gates]\npixel_disagreement = 0.0\n")
    monkeypatch.setenv("COLUMNS", "80")

    outcome = typed(
        f"{QUANTIZE} {ONE_RULE} --gates strict.toml --no-restore --json figures.json {TWO_BLOCKS}"
    )

    assert outcome.code == 3, outcome.err
    assert outcome.err.startswith("error: new/plan.json: accuracy gate failed on the trial clips")
    assert "pixel_disagreement" in outcome.err
    assert {"explain.json", "sensitivity.png"} < written(world)
    figures = json.loads((world / "figures.json").read_text())
    assert figures["restoring"] is None
    found = json.loads((world / "new/explain.json").read_text())
    assert figures["explanation"] == found
    assert [row["block"] for row in found["blocks"]] == ["encoder.stem", "reduction"]
    for row in found["blocks"]:
        assert row["block"] in outcome.out
        assert 0 < row["time_share"] < 1
        assert row["snr_db"] > 15
    assert found["triage"]["stages"][0]["name"] == "FP32 ONNX in ONNX Runtime"
    assert "stage" in outcome.out
    table = outcome.out.partition("by block")[2].splitlines()[:8]
    assert max(map(len, table)) <= 80


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        pytest.param("--rule best", 2, ("best", "minmax, percentile"), id="unknown range rule"),
        pytest.param("--scheme npu", 2, ("'npu'", "cpu, cpu-avx2"), id="unknown scheme"),
        pytest.param(
            f"{ONE_RULE} --keep-float stem",
            2,
            ("'stem'", "encoder.stem, encoder.stages.0.0.convolutions.0"),
            id="unknown layer to keep in float",
        ),
        pytest.param("--gates no.toml", 2, ("no.toml",), id="missing gates file, quantize"),
        pytest.param(
            "--size 128 --calibration set.json",
            7,
            ("it is of clips at 96x96",),
            id="calibration set of another size, quantize",
        ),
    ],
)
def test_an_option_is_refused(
    refuses: Refuses, options: str, code: int, says: tuple[str, ...]
) -> None:
    refuses(f"{QUANTIZE} {options}", code, *says)


def test_a_folder_without_recordings_is_refused(world: Path, refuses: Refuses) -> None:
    shutil.rmtree(world / "data")
    (world / "data").mkdir()

    refuses(QUANTIZE, 7, "data", case="folder without recordings, quantize")


def test_a_place_that_is_a_file_is_refused(refuses: Refuses) -> None:
    line = QUANTIZE.replace("--out new", "--out set.json")

    refuses(line, 2, "is not a folder", case="file as --out, quantize")
