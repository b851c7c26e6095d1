"""Prune, recover, compile and verify as typed, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from pkecho_edge.files import claimed_folder

COMPILE = "compile network.safetensors --data data --size 96 --clips 2 --gates gates.toml"
PRUNE = "prune network.safetensors --data data --size 96 --ratio 0.4"


def notes(path: Path) -> dict[str, object]:
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["pkecho_edge"])
    return json.loads(header["notes"]["pruning"])


def answering_no(path: Path) -> None:
    """Let a pruned network call no pixel ventricle, where the world's own calls every one so."""
    from pkecho_edge.model.checkpoint import load_checkpoint, read_notes, save_checkpoint

    network = load_checkpoint(path)
    network.kss.bias[-1].data -= 1e4
    save_checkpoint(network, path, notes=read_notes(path))


def test_a_pruned_checkpoint_is_held_against_its_baseline(
    world: Path, typed: Callable[[str], Any]
) -> None:
    pruned = typed(f"{PRUNE} --steps 6 --out small.safetensors --json small.json")
    assert pruned.code == 0, pruned.err
    report = json.loads((world / "small.json").read_text())
    assert "steps = 6" in (world / "small.safetensors.toml").read_text()
    assert report["rounds"][-1]["gmacs"] <= 0.6 * report["gmacs"]
    assert report["rounds"][-1]["steps"] == 6
    assert report == notes(world / "small.safetensors")

    again = typed(f"{PRUNE} --steps 6 --out same.safetensors")
    assert "(reused)" in again.out
    assert (world / "same.safetensors").read_bytes() == (world / "small.safetensors").read_bytes()

    answering_no(world / "small.safetensors")
    (world / "gates.toml").write_text("[gates]\nagreement_dsc = 50\nspeedup = 0\n")
    line = COMPILE.replace("network.safetensors", "small.safetensors")
    compiled = typed(f"{line} --mode clip --rule minmax/minmax+bias --out small.pkb")

    assert compiled.code == 3, compiled.err
    assert "agreement_dsc (clip) 0 %" in compiled.err
    manifest = json.loads((world / "small.pkb/manifest.json").read_text())
    kept = json.loads((world / "small.pkb/model/pruning.json").read_text())
    assert kept == report
    assert manifest["lineage"]["checkpoint_sha256"] == report["baseline_sha256"]
    listed = {entry["path"]: entry["sha256"] for entry in manifest["files"]}
    assert manifest["lineage"]["pruning_sha256"] == listed["model/pruning.json"]
    measured = json.loads((world / "small.pkb/reports/report.json").read_text())
    # against itself it would agree with every pixel
    assert measured["modes"]["clip"]["accuracy"]["agreement"]["dsc"]["mean"] < 1
    choice = measured["lineage"]["quantization"]["restoring"]
    assert choice["failed_before"]
    assert not choice["restored"]  # no layer brings that back

    verified = typed("verify small.pkb --data data --gates gates.toml")
    assert verified.code == 3  # it finds the same baseline


def test_a_pruned_checkpoint_is_pruned_further(world: Path, typed: Callable[[str], Any]) -> None:
    less = PRUNE.replace("0.4", "0.2") + " --steps 0 --round-to 1"
    first = typed(f"{less} --out first.safetensors --quiet")
    assert (first.code, first.out) == (0, "")

    second = typed(f"{less} --out second.safetensors".replace("network", "first"))

    assert second.code == 0, second.err
    before, after = notes(world / "first.safetensors"), notes(world / "second.safetensors")
    assert after["baseline_sha256"] == before["baseline_sha256"] == before["parent_sha256"]
    assert after["parent_sha256"] != before["parent_sha256"]
    assert after["earlier"] == before
    assert after["rounds"][-1]["gmacs"] < before["rounds"][-1]["gmacs"]


def test_what_is_only_cut_wants_no_recordings(world: Path, typed: Callable[[str], Any]) -> None:
    only = "prune network.safetensors --size 96 --ratio 0.4 --steps 0"
    plain = typed(f"{only} --no-refit --importance magnitude --out plain.safetensors")

    assert plain.code == 0, plain.err
    assert "lessons" not in plain.out
    (done,) = notes(world / "plain.safetensors")["rounds"]
    assert (done["agreement_before"], done["agreement"]) == (None, None)

    refitted = typed(f"{PRUNE} --steps 0 --out refitted.safetensors")

    assert "lessons at 96x96" in refitted.out
    (done,) = notes(world / "refitted.safetensors")["rounds"]
    assert f"{done['agreement_before']:.2f} %" in refitted.out
    assert done["agreement"] is None


def test_compile_prunes_in_the_street(world: Path, typed: Callable[[str], Any]) -> None:
    built = typed(
        f"{COMPILE} --mode clip --prune 0.4 --prune-steps 0 --rule minmax/minmax+bias "
        "--no-restore --out cut.pkb"
    )

    assert built.code == 0, built.err
    manifest = json.loads((world / "cut.pkb/manifest.json").read_text())
    kept = json.loads((world / "cut.pkb/model/pruning.json").read_text())
    assert "prune_steps = 0" in (world / "cut.pkb.toml").read_text()
    assert kept["rounds"][0]["widths"]["stem"] < 16
    assert manifest["lineage"]["configuration"]["network"]["widths"]["stem"] < 16
    assert manifest["lineage"]["checkpoint_sha256"] == kept["baseline_sha256"]
    card = (world / "cut.pkb/MODEL_CARD.md").read_text()
    (told,) = (line for line in card.splitlines() if line.startswith("| pruned |"))
    assert "see model/pruning.json; ratio 0.4; scope global; importance reconstruction" in told
    sizes = manifest["lineage"]["configuration"]["model"]
    assert sizes["gmacs"] < 0.65 * sizes["baseline_gmacs"]
    assert sizes["parameters"] < sizes["baseline_parameters"]


@pytest.mark.parametrize("ratio", ["0", "1", "-0.5", "nan"])
def test_an_impossible_ratio(refuses: Callable[..., str], ratio: str) -> None:
    refuses(
        f"prune network.safetensors --ratio={ratio} --steps 0",
        2,
        "not between 0 and 1",
        case=f"a pruning ratio of {ratio}",
    )


def test_a_ratio_out_of_reach(refuses: Callable[..., str]) -> None:
    refuses(
        "prune network.safetensors --ratio 0.99 --size 96 --steps 0",
        2,
        "out of reach",
        "Use at most 0.",
        case="layers that cannot be pruned further",
    )


def test_two_runs_do_not_share_a_recovery(
    world: Path, refuses: Callable[..., str], typed: Callable[[str], Any]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pkecho_edge.recovering.distil", interrupted)
        assert typed(f"{PRUNE} --steps 3 --out small.safetensors").code == 130
    (state,) = (world / "cache" / "recoveries").iterdir()
    with claimed_folder(state):
        line = f"{PRUNE} --steps 3 --out small.safetensors"
        refuses(line, 2, "another run recovers this network", case="two runs of one recovery")
    assert typed(f"{PRUNE} --steps 3 --out small.safetensors").code == 0
    assert not state.exists()


def test_a_baseline_that_differs_in_more_than_widths(
    world: Path, refuses: Callable[..., str]
) -> None:
    """A note can be written by anybody."""
    from dataclasses import replace

    from pkecho_edge.model.checkpoint import load_checkpoint, save_checkpoint
    from pkecho_edge.model.network import PKEchoNet

    digest = hashlib.sha256((world / "network.safetensors").read_bytes()).hexdigest()
    config = load_checkpoint(world / "network.safetensors").config
    note = json.dumps({"baseline_sha256": digest, "parent_sha256": digest})
    short = PKEchoNet(replace(config, frames=4)).eval()
    save_checkpoint(short, world / "short.safetensors", notes={"pruning": note})
    refuses(
        "prune short.safetensors --data data --size 96 --steps 2 --baseline network.safetensors",
        7,
        "differs from its baseline in more than widths",
        case="pruning note of another network",
    )


def test_recordings_that_are_none(refuses: Callable[..., str], world: Path) -> None:
    (world / "empty").mkdir()
    refuses(
        f"{PRUNE.replace('--data data', '--data empty')} --steps 2",
        7,
        "empty",
        case="no recordings to recover on",
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--scope everywhere", "no scope 'everywhere'"),
        ("--importance luck", "no importance 'luck'"),
        ("--rounds 9", "9 rounds"),
        ("--size 100", "not possible"),
        ("--device tpu", "tpu"),
        ("--target onnxruntime --scope latency", "as target cpu runs them, not onnxruntime"),
    ],
)
def test_options_that_there_are_not(refuses: Callable[..., str], options: str, says: str) -> None:
    refuses(f"prune network.safetensors {options} --steps 0", 2, says, case=f"prune {options}")


def test_a_checkpoint_is_not_overwritten(
    refuses: Callable[..., str], world: Path, typed: Callable[[str], Any]
) -> None:
    refuses(
        f"{PRUNE} --steps 0 --out network.safetensors --overwrite",
        2,
        "is the checkpoint to prune",
        case="pruning a checkpoint into itself",
    )
    (world / "there.safetensors").write_bytes(b"x")
    refuses(f"{PRUNE} --steps 0 --out there.safetensors", 2, "exists", case="a file that is there")


def test_a_baseline_that_is_another(
    refuses: Callable[..., str], world: Path, typed: Callable[[str], Any]
) -> None:
    typed(f"{PRUNE} --steps 0 --out first.safetensors --quiet")
    refuses(
        "prune first.safetensors --steps 0 --baseline first.safetensors --size 96",
        7,
        "is not the checkpoint",
        case="a baseline that is another checkpoint",
    )
