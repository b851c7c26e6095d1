"""The command line from end to end: the packaged network on a small dataset on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pkecho_edge.bundle.reader import read_bundle
from pkecho_edge.cli import main as command_line
from pkecho_edge.data.echonet import write_echonet
from pkecho_edge.data.phantom import draw_spec, phantom_clip_recording, phantom_recording
from pkecho_edge.data.recording import Recording
from pkecho_edge.data.standard import TUNING_SEEDS
from pkecho_edge.errors import EnvironmentMismatch
from pkecho_edge.runtime import Engine, open_bundle
from pkecho_edge.training import material

SIZE = (128, 128)
RULE = ("--rule", "minmax/minmax+bias")
"""Other tests try every rule; of a network of this size that takes a minute."""


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], timed_briefly: None
) -> Run:
    def call(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pkecho-edge", *map(str, arguments)])
        try:
            command_line.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "echonet"
    splits = ["TRAIN"] * 4 + ["TEST"] * 5
    write_echonet(
        root,
        (
            replace(_drawn(seed, whole=seed == 508), split=split)
            for seed, split in enumerate(splits, start=500)
        ),
    )
    return root


def _drawn(seed: int, *, whole: bool) -> Recording:
    """A systole of ten frames, or a whole recording, which takes longer to draw and to segment."""
    spec = draw_spec(seed, "good")
    return (phantom_recording if whole else phantom_clip_recording)(spec, size=SIZE)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def compiled(
    dataset: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """The packaged network, compiled once for all tests of this file."""
    bundle = tmp_path_factory.mktemp("out") / "heart.pkb"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pkecho_edge.cli.main", "compile", "--data", dataset),
            *("--clips", "4", "--out", bundle, "--gates", _relaxed_speed(bundle.parent), *RULE),
        ],
        env={"PKECHO_EDGE_CACHE": str(cache), "PATH": "", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )
    return bundle, Outcome(done.returncode, done.stdout, done.stderr)


def _relaxed_speed(folder: Path) -> Path:
    """Tests share the machine with each other: speed is measured, but judged elsewhere."""
    gates = folder / "gates.toml"
    gates.write_text("[gates]\nspeedup = 0.0\n")
    return gates


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKECHO_EDGE_CACHE", str(cache))


def test_compile_makes_a_bundle_and_says_where(compiled: tuple[Path, Outcome]) -> None:
    bundle, outcome = compiled

    assert outcome.code == 0, outcome.err
    assert (bundle / "manifest.json").is_file()
    assert f"verify {bundle}" in outcome.out.replace("\n", "")
    assert "4 clips" in outcome.out
    report = json.loads((bundle / "reports" / "report.json").read_text())
    assert report["verdict"] == "pass"
    clip, stream = report["modes"]["clip"], report["modes"]["stream"]
    assert clip["accuracy"]["n_clips"] == stream["accuracy"]["n_clips"] == 5
    assert stream["data"]["n_frames"] > clip["data"]["n_frames"] == 50
    assert stream["data"]["n_labelled_frames"] == stream["data"]["n_frames"]
    assert {(gate["mode"], gate["name"]) for gate in report["gates"]} >= {
        (mode, name)
        for mode in ("clip", "stream")
        for name in ("dsc_drift", "hd95_drift", "ef_drift", "speedup")
    }
    units = {gate.name: gate.unit for gate in read_bundle(bundle).manifest.gates}
    assert units["hd95_drift"] == "px"
    assert units["dsc_drift"] == units["ef_drift"] == "points"
    assert clip["live"] is stream["live_long"] is None
    assert stream["live"]["n_sequences"] == 5
    assert stream["live"]["n_frames"] == stream["data"]["n_frames"]
    by_frame = stream["live"]["sequences"][0]
    assert by_frame["identifier"] == stream["accuracy"]["clips"][0]["identifier"]
    assert any("calibrated on 4 clips" in warning for warning in report["warnings"])


def test_one_mode_alone_is_compiled_and_verified(
    compiled: tuple[Path, Outcome], dataset: Path, run: Run, tmp_path: Path
) -> None:
    both, _ = compiled
    bundle, gates = tmp_path / "live.pkb", _relaxed_speed(tmp_path)
    arguments = ("--data", dataset, "--gates", gates)

    made = run("compile", *arguments, "--clips", "4", "--mode", "stream", *RULE, "--out", bundle)
    verified = run("verify", bundle, *arguments)

    assert made.code == verified.code == 0, made.err + verified.err
    assert "clip" not in {path.name for path in (bundle / "golden").iterdir()}
    report = json.loads((tmp_path / "live.report" / "report.json").read_text())
    assert list(report["modes"]) == ["stream"]
    with open_bundle(bundle) as live, open_bundle(both) as whole:
        assert live.modes == ("stream",)
        assert all(result.passed for result in live.self_test().values())
        assert set(whole.self_test()) == {"clip", "stream"}
        frames = phantom_recording(draw_spec(3_000_500), size=(128, 128)).frames[:, None]
        assert np.array_equal(live.stream_logits(frames), whole.stream_logits(frames))
        with pytest.raises(EnvironmentMismatch, match="no 'clip' engine, only stream"):
            live.logits(frames[:10])
    _check_compared(run("verify", both, "--against", bundle, *arguments), both, bundle)


def _check_compared(outcome: Outcome, both: Path, live: Path) -> None:
    """What `verify` says of a bundle against one that holds the same stream engine alone."""
    assert outcome.code == 0, outcome.err
    report = json.loads((both.with_suffix(".report") / "report.json").read_text())
    assert list(report["modes"]) == ["stream"]
    # the same stream engine: not a pixel differs
    agreement = report["modes"]["stream"]["accuracy"]["agreement"]
    assert agreement["pixel_disagreement"]["worst"] == 0
    assert report["lineage"]["against"]["bundle_id"] == read_bundle(live).manifest.bundle_id
    assert any("baseline here is the bundle pkb-" in text for text in report["warnings"])
    assert "clip: not compared, only one bundle has it" in report["warnings"]
    page = (both.with_suffix(".report") / "report.html").read_text()
    assert "Are the engines alike?" in page
    assert "whole window" not in outcome.out + page


def test_the_golden_self_test_needs_no_data(
    compiled: tuple[Path, Outcome], run: Run, tmp_path: Path
) -> None:
    bundle, _ = compiled

    outcome = run(
        "verify", bundle, "--self-test", "--json", tmp_path / "s.json", "--junit",
        tmp_path / "s.xml",
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    assert "verdict: PASS (golden vectors alone: no accuracy, no speed)" in outcome.out
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["verdict"] == "pass"
    assert found["modes"]["stream"]["max_abs_logit_difference"] == 0
    assert (tmp_path / "s.xml").read_text().count("<testcase ") == 2
    assert not bundle.with_suffix(".report.json").exists()


def test_a_self_test_that_fails_is_exit_code_3(
    compiled: tuple[Path, Outcome], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = Engine.stream_logits
    monkeypatch.setattr(Engine, "stream_logits", lambda self, frames: -real(self, frames))

    outcome = run("verify", compiled[0], "--self-test", "--junit", tmp_path / "s.xml")

    assert outcome.code == 3
    assert "the golden self-test failed: stream. Build" in outcome.err
    assert 'failures="1"' in (tmp_path / "s.xml").read_text()


def test_the_stream_says_what_the_clip_does_of_the_newest_frame(
    compiled: tuple[Path, Outcome],
) -> None:
    bundle, _ = compiled
    frames = phantom_recording(draw_spec(3_000_500), size=(128, 128)).frames[:, None]

    with open_bundle(bundle) as engine:
        live = engine.stream_logits(frames)
        for end in range(10, len(frames) + 1):
            assert np.array_equal(live[end - 1], engine.logits(frames[end - 10 : end])[-1])


def test_inspect_checks_every_file(compiled: tuple[Path, Outcome], run: Run) -> None:
    bundle, _ = compiled

    good = run("inspect", bundle)
    engine = bundle / "engine" / "weights.bin"
    original = engine.read_bytes()
    engine.write_bytes(bytes([original[0] ^ 1]) + original[1:])
    try:
        bad = run("inspect", bundle)
    finally:
        engine.write_bytes(original)

    assert good.code == 0
    assert "match the manifest" in good.out
    assert bad.code == 6
    assert "weights.bin" in bad.err
    assert bad.err.count("\n") == 1


def test_verify_writes_a_report_beside_the_bundle(
    compiled: tuple[Path, Outcome], dataset: Path, run: Run, tmp_path: Path
) -> None:
    bundle, _ = compiled
    before = sorted(path.stat().st_mtime_ns for path in bundle.rglob("*"))

    outcome = run(
        "verify", bundle, "--data", dataset, "--json", tmp_path / "figures.json",
        "--junit", tmp_path / "gates.xml", "--gates", bundle.parent / "gates.toml",
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["gates"]
    assert (tmp_path / "gates.xml").read_text().count("<testcase ") == len(figures["gates"])
    assert (bundle.with_suffix(".report") / "report.json").is_file()
    assert sorted(path.stat().st_mtime_ns for path in bundle.rglob("*")) == before


def test_long_sequences_are_followed_when_they_are_asked_for(
    compiled: tuple[Path, Outcome], dataset: Path, run: Run, tmp_path: Path
) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text("[gates]\nspeedup = 0.0\nflicker = 5.0\ned_es_shift = 5.0\n")

    outcome = run(
        "verify", compiled[0], "--data", dataset, "--gates", gates, "--out", tmp_path / "out",
        "--long", "70", "--sequences", "2", "--json", tmp_path / "figures.json",
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    assert "2 sequences, 140 frames" in outcome.out
    figures = json.loads((tmp_path / "figures.json").read_text())
    stream = figures["modes"]["stream"]
    assert (stream["live_long"]["n_sequences"], stream["live_long"]["n_frames"]) == (2, 140)
    assert stream["live_long"]["curve"][-1]["last"] == 69
    assert stream["live"]["n_sequences"] == 5
    assert figures["modes"]["clip"]["live_long"] is None
    found = {(gate["mode"], gate["name"]): gate["pass"] for gate in figures["gates"]}
    assert found["stream", "flicker"] is found["stream", "ed_es_shift"] is True
    assert ("clip", "flicker") not in found


def test_long_sequences_need_a_stream_engine(
    compiled: tuple[Path, Outcome], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = read_bundle(compiled[0])
    clips = replace(real.manifest, engines=real.manifest.engines[:1])
    assert [engine.mode for engine in clips.engines] == ["clip"]
    without = replace(real, manifest=clips)
    monkeypatch.setattr("pkecho_edge.bundle.reader.read_bundle", lambda _: without)

    outcome = run("verify", compiled[0], "--long", "50")

    assert outcome.code == 2
    assert "no stream engine" in outcome.err


def test_verify_fails_with_3_when_accuracy_is_out_of_bounds(
    compiled: tuple[Path, Outcome], dataset: Path, run: Run, tmp_path: Path
) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text("[gates]\nef_drift = 0.0\nspeedup = 0.0\n")

    outcome = run("verify", compiled[0], "--data", dataset, "--gates", gates, "--out", tmp_path)

    assert outcome.code == 3
    assert "ef_drift" in outcome.err


def test_verify_fails_with_4_when_only_speed_is(
    compiled: tuple[Path, Outcome], dataset: Path, run: Run, tmp_path: Path
) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text("[gates]\nspeedup = 10000.0\n")

    outcome = run("verify", compiled[0], "--data", dataset, "--gates", gates, "--out", tmp_path)

    assert outcome.code == 4


def test_verifying_on_the_calibration_clips_is_refused(
    compiled: tuple[Path, Outcome], dataset: Path, run: Run
) -> None:
    outcome = run("verify", compiled[0], "--data", dataset, "--split", "TRAIN")

    assert outcome.code == 7
    assert "both calibration and verification" in outcome.err


def test_another_checkpoint_is_no_baseline(
    compiled: tuple[Path, Outcome], dataset: Path, run: Run, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"something else")

    outcome = run("verify", compiled[0], "--data", dataset, "--baseline", other)

    assert outcome.code == 7
    assert "is not the checkpoint that the bundle was made from" in outcome.err


def test_a_second_compile_reuses_the_stages_and_keeps_the_bundle(
    compiled: tuple[Path, Outcome], dataset: Path, run: Run, tmp_path: Path
) -> None:
    bundle, _ = compiled
    gates = _relaxed_speed(tmp_path)
    arguments = ("compile", "--data", dataset, "--clips", "4", "--gates", gates, *RULE)

    refused = run(*arguments, "--out", bundle)
    again = run(*arguments, "--out", tmp_path / "again.pkb")

    assert refused.code == 2
    assert again.code == 0, again.err
    assert again.out.count("(reused)") == 4
    first = json.loads((bundle / "manifest.json").read_text())
    second = json.loads((tmp_path / "again.pkb" / "manifest.json").read_text())
    assert first.pop("reports") != second.pop("reports")
    assert first == second
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_calibrate_writes_a_set_that_compile_takes(
    compiled: tuple[Path, Outcome], dataset: Path, run: Run, tmp_path: Path
) -> None:
    chosen = tmp_path / "set.json"

    made = run("calibrate", dataset, "--clips", "3", "--out", chosen)
    outcome = run(
        "compile", "--data", dataset, "--calibration", chosen, "--out", tmp_path / "b.pkb",
        "--gates", _relaxed_speed(tmp_path), *RULE,
    )  # fmt: skip

    assert made.code == 0, made.err
    assert "fewer than the recommended" in made.err
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "b.pkb/model/calibration.json").read_text()) == json.loads(
        chosen.read_text()
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("compile", "nowhere.pt", "--phantoms", "--clips", "1"), 7, "nowhere.pt"),
        (("compile", "nowhere.pt"), 2, "--data DIR or --phantoms"),
        (("compile", "--size", "100"), 2, "multiples of 32"),
        (("compile", "--target", "toaster", "--clips", "1"), 2, "toaster"),
        (("verify",), 2, "no bundle"),
        (("verify", "nowhere.pkb"), 2, "not a bundle"),
        (("inspect", "nowhere.pkb"), 2, "not a bundle"),
        (("calibrate", "nowhere"), 7, "nowhere"),
        (("phantom", "--out", "x", "--seed", "9000000"), 2, "held-out"),
        (("phantom", "--out", "x", "--layout", "dicom"), 2, "dicom"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...],
    code: int,
    says: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    outcome = run(*arguments)

    assert outcome.code == code, outcome.err
    assert says in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_broken_video_is_left_out_and_named(dataset: Path, run: Run, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(dataset, damaged)
    video = sorted((damaged / "Videos").iterdir())[0]
    video.write_bytes(b"")

    outcome = run("calibrate", damaged, "--out", tmp_path / "set.json")

    assert outcome.code == 0, outcome.err
    assert f"left out {video.stem}" in outcome.err
    assert "3 clips" in outcome.out


def test_phantom_writes_what_calibrate_reads(run: Run, tmp_path: Path) -> None:
    made = run("phantom", "--out", tmp_path / "d", "--clips", "2", "--size", "96", "--seed", "7")

    assert made.code == 0, made.err
    assert sorted(p.name for p in (tmp_path / "d" / "Videos").iterdir()) == [
        "phantom-0000007.avi",
        "phantom-0000008.avi",
    ]


def test_train_writes_a_checkpoint(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material, "TUNING_SEEDS", TUNING_SEEDS[:2])
    outcome = run(
        "train", "--out", tmp_path, "--phantoms", "2", "--size", "96", "--epochs", "1",
        "--batch", "2",
    )  # fmt: skip

    assert outcome.code == 0, outcome.err
    assert (tmp_path / "last.safetensors").stat().st_size > 1_000_000
    assert "epoch 1, step 1 of 1: loss" in outcome.out
    assert f"compile {tmp_path}" in outcome.out.replace("\n", "")


def test_targets_and_doctor(run: Run, tmp_path: Path) -> None:
    targets = run("targets", "--json", tmp_path / "targets.json")
    doctor = run("doctor")

    assert targets.code == doctor.code == 0
    assert [row["target"] for row in json.loads((tmp_path / "targets.json").read_text())["targets"]]
    assert "resnet18" in doctor.out


def test_bench_peers_puts_eager_first(narrow_network: Path, run: Run, tmp_path: Path) -> None:
    arguments = ("--size", "96", "--rounds", "3", "--no-torch-compile")  # it takes a minute alone
    figures = tmp_path / "peers.json"
    outcome = run("bench", "peers", narrow_network, *arguments, "--json", figures)

    assert outcome.code == 0, outcome.err
    rows = json.loads(figures.read_text())["rows"]
    assert rows[0]["ratio_to_eager"] == pytest.approx(1.0)
    assert {row["precision"] for row in rows} >= {"f32", "int8 + f32"}
    assert {"lowered, NNCF", "unlowered, NNCF"} <= {row["engine"] for row in rows}
    assert {row["mode"] for row in rows} == {"clip", "sliding", "stream"}


def test_help_answers_at_once() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pkecho_edge.cli.main", "--help"],
            check=True,
            capture_output=True,
        )
        seconds.append(time.perf_counter() - start)

    # generous, because tests run side by side; docs/results.md has the figure of an idle machine
    assert min(seconds) < 1.5
