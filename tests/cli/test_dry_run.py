"""`--dry-run`: the same keys as the run, nothing written, and the same refusals."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Refuses = Callable[..., str]
Type = Callable[[str], Any]

COMPILE = "compile network.safetensors --data data --size 96 --clips 2 --gates gates.toml"
PRUNE = "prune network.safetensors --phantoms 1 --size 96 --ratio 0.4"
STAGES = ["draw the clips", "export", "choose", "quantize", "engine-cpu", "verify"]


def everything(root: Path) -> dict[str, str]:
    """Each file of a world, its cache included -> what is in it, and when it was written."""
    return {
        str(path): f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def plan(world: Path, typed: Type, tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """The stages of a line's dry run, of which nothing may be left."""

    def run(line: str) -> list[dict[str, Any]]:
        before, file = everything(world), tmp_path / "plan.json"
        outcome = typed(f"{line} --dry-run --json {file}")
        assert outcome.code == 0, outcome.err
        assert everything(world) == before
        stages: list[dict[str, Any]] = json.loads(file.read_text())["stages"]
        return stages

    return run


Plan = Callable[[str], list[dict[str, Any]]]


def states(plan: list[dict[str, Any]]) -> dict[str, str]:
    return {each["stage"]: each["depends_on"] or each["state"] for each in plan}


def test_what_was_run_before_is_all_there(plan: Plan) -> None:
    found = plan(f"{COMPILE} --out new.pkb")

    assert list(states(found)) == STAGES
    cached = dict.fromkeys(STAGES[1:-1], "cached")
    assert states(found) == {STAGES[0]: "always", **cached, STAGES[-1]: "always"}
    first, *middle, last = found
    assert [each["expected_s"] for each in middle] == [0.0] * 4
    assert first["expected_s"] >= 0
    assert last["expected_s"] > 0


def test_what_the_run_then_reuses_is_what_was_said(world: Path, plan: Plan, typed: Type) -> None:
    """The plan's keys are the run's: one stage is other, those after it too."""
    line = f"{COMPILE} --rule minmax/minmax+bias --no-restore --out new.pkb"
    said = plan(line)
    assert states(said) == {
        "draw the clips": "always",
        "export": "cached",
        "choose": "to do",
        "quantize": "choose",
        "engine-cpu": "choose",
        "verify": "always",
    }

    assert typed(line).out.count("(reused)") == 1

    assert set(states(plan(f"{line} --overwrite")).values()) == {"always", "cached"}
    assert typed(f"{line} --overwrite").out.count("(reused)") == 4


def test_a_stage_that_is_gone_is_told_from_those_that_are_not(world: Path, plan: Plan) -> None:
    (exported,) = (world / "cache").glob("export-*")
    (engine,) = (world / "cache").glob("engine-cpu-*")
    shutil.rmtree(exported)
    next(engine.rglob("*.bin")).write_bytes(b"damaged")

    found = states(plan(f"{COMPILE} --out new.pkb"))

    assert [found[name] for name in STAGES[1:-1]] == ["to do", "cached", "cached", "to do"]


def test_other_recordings_may_give_other_clips(world: Path, plan: Plan) -> None:
    video = sorted((world / "data" / "Videos").iterdir())[0]
    video.write_bytes(video.read_bytes() + b"\0")

    found = states(plan(f"{COMPILE} --out new.pkb"))

    assert found["export"] == "cached"
    assert [found[name] for name in STAGES[2:-1]] == ["draw the clips"] * 3


def test_a_new_cache_knows_no_times(
    world: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKECHO_EDGE_CACHE", str(world / "new"))
    outcome = typed(f"{COMPILE} --out new.pkb --dry-run")

    assert outcome.code == 0, outcome.err
    assert outcome.out.count("not known yet") == 7
    assert "Expected: not known yet; 3 stages may turn out to be cached." in outcome.out
    assert not (world / "new").exists()


def test_what_is_cached_says_nothing_of_the_time_of_the_rest(
    world: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeless = shutil.copytree(os.environ["PKECHO_EDGE_CACHE"], world / "timeless")
    (timeless / "durations.json").unlink()
    monkeypatch.setenv("PKECHO_EDGE_CACHE", str(timeless))
    outcome = typed(f"{COMPILE} --out new.pkb --dry-run")

    assert outcome.out.count("cached") == 4
    assert "Expected: not known yet.\n" in outcome.out
    assert "Medians" not in outcome.out


def test_the_median_of_earlier_runs_is_expected(world: Path, plan: Plan, typed: Type) -> None:
    path = world / "cache" / "durations.json"
    document = json.loads(path.read_text())
    (stages,) = document["machines"].values()
    stages["engine-cpu 96x96"] = [70.0, 90.0, 50.0]
    stages["verify 96x96, data, split TEST, clip stream"] = [7200.0]
    path.write_text(json.dumps(document))
    for engine in (world / "cache").glob("engine-cpu-*"):
        shutil.rmtree(engine)

    expected = {each["stage"]: each["expected_s"] for each in plan(f"{COMPILE} --out new.pkb")}

    assert (expected["engine-cpu"], expected["verify"]) == (70.0, 7200.0)
    told = typed(f"{COMPILE} --out new.pkb --dry-run").out
    assert "3 runs, 50.0 s to 2 min" in told
    assert "2.0 h" in told


def test_another_size_has_times_of_its_own(plan: Plan) -> None:
    found = {each["stage"]: each for each in plan(COMPILE.replace("96", "128") + " --out new.pkb")}

    assert found["export"]["state"] == "to do"
    assert found["export"]["expected_s"] is None


@pytest.mark.parametrize(
    ("target", "here", "more", "said"),
    [
        ("jetson", True, "", True),
        ("jetson", True, "--no-in-place", False),
        ("jetson", False, "", False),
        ("cpu", True, "", False),
    ],
)
def test_a_machine_that_may_be_the_device_builds_plans(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, target: str, here: bool, more: str, said: bool
) -> None:
    monkeypatch.setattr("pkecho_edge.planning.may_be_device", lambda: here)

    found = states(plan(f"{COMPILE} --target {target} {more} --out new.pkb"))

    assert (found.get("plans, on this device") == "always") is said
    assert list(found)[-1] == ("plans, on this device" if said else "verify")


def test_pruning_comes_first_and_all_else_depends_on_it(plan: Plan, typed: Type) -> None:
    on_phantoms = COMPILE.replace("--data data", "--phantoms --lesson-phantoms 1")
    line = f"{on_phantoms} --prune 0.4 --prune-steps 0 --out new.pkb"
    found = states(plan(line))
    assert list(found) == ["draw the clips", "lessons", "prune", *STAGES[1:]]
    assert [found["lessons"], found["prune"]] == ["to do", "to do"]
    assert [found[name] for name in STAGES[1:-1]] == ["prune"] * 4

    assert typed(f"{PRUNE} --steps 0 --out small.safetensors").code == 0

    found = states(plan(line))
    assert found["prune"] == "cached"
    assert found["export"] == "to do"


def test_prune_says_its_stages(plan: Plan, typed: Type) -> None:
    line = f"{PRUNE} --steps 0 --importance taylor --out small.safetensors"
    assert states(plan(line)) == {"lessons": "to do", "prune": "to do"}

    assert typed(line).code == 0

    assert states(plan(f"{line} --overwrite")) == {"lessons": "cached", "prune": "cached"}


def test_lessons_of_recordings_depend_on_their_content(plan: Plan) -> None:
    found = states(plan(PRUNE.replace("--phantoms 1", "--data data") + " --out small.safetensors"))

    assert found == {"lessons": "the recordings' content", "prune": "the recordings' content"}


def test_times_of_layers_that_are_not_measured_yet_decide(plan: Plan) -> None:
    found = states(plan(f"{PRUNE} --steps 0 --scope latency --out small.safetensors"))

    assert found == {"layer-costs": "to do", "lessons": "to do", "prune": "layer-costs"}


def test_what_is_only_cut_looks_at_no_recordings(plan: Plan) -> None:
    only_cut = "--steps 0 --no-refit --importance magnitude --out small.safetensors"

    assert states(plan(f"{PRUNE} {only_cut}")) == {"prune": "to do"}


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("compile network.safetensors --data data --mode sideways", 2, "'sideways'"),
        ("compile network.safetensors --data data --out heart.pkb", 2, "heart.pkb: exists already"),
        ("compile network.safetensors --data data --out gates.toml --overwrite", 2, "not a bundle"),
        ("compile network.safetensors --data data --out gates.toml/x.pkb", 2, "cannot be written"),
        ("compile network.safetensors --data nowhere --out new.pkb", 7, "no such folder"),
        ("compile nowhere.pt --data data --out new.pkb", 7, "there is no such file"),
        ("compile gates.toml --data data --out new.pkb", 7, "gates.toml: it is not a checkpoint"),
        ("compile network.safetensors --data data --calibration nowhere --out new.pkb", 7, "read"),
        ("compile network.safetensors --data data --target cuda --out new.pkb", 5, "cuda"),
        ("compile network.safetensors --data data --prune 0.999 --out new.pkb", 2, "0.999"),
        ("compile network.safetensors --data data --security-version 0 --out n.pkb", 2, "version"),
        ("prune network.safetensors --ratio 0.999 --out new.safetensors", 2, "0.999"),
        ("prune network.safetensors --out network.safetensors", 2, "is the checkpoint to prune"),
        ("prune network.safetensors --size 100 --out new.safetensors", 2, "multiples of 32"),
        ("prune network.safetensors --data nowhere --out new.safetensors", 7, "no such folder"),
        ("tune network.safetensors --data nowhere", 7, "no such folder"),
        ("tune network.safetensors --data data --also network.safetensors", 7, "was pruned"),
        ("tune network.safetensors --data data --target jetson", 2, "on their device"),
        ("tune network.safetensors --data data --out gates.toml", 2, "not a folder"),
    ],
)
def test_what_the_run_refuses_at_once_the_dry_run_refuses_alike(
    world: Path, refuses: Refuses, line: str, code: int, says: str
) -> None:
    told = refuses(f"{line} --dry-run", code, says, case="dry run of what is refused")

    assert refuses(line, code, says, case="unknown mode") == told


def test_a_calibration_set_of_the_verifications_patients_is_refused_alike(
    world: Path, typed: Type, refuses: Refuses
) -> None:
    assert typed("calibrate data --size 96 --clips 2 --out set.json").code == 0
    swapped = (world / "data/FileList.csv").read_text().replace("TRAIN", "TEST")
    (world / "data/FileList.csv").write_text(swapped)
    line = f"{COMPILE} --calibration set.json --out new.pkb"

    refuses(
        f"{line} --dry-run", 7, "serves both", case="dry run, calibration overlapping verification"
    )
