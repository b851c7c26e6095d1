"""The device kit from end to end, against a stand-in: what it builds, keeps and refuses."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pkecho_edge.device import pkecho_device
from pkecho_edge.device.result import read_result
from tests.device.conftest import Kit, builds

SOURCE = Path(__file__).parents[2] / "pkecho_edge" / "device" / "pkecho_device.py"


def test_it_is_python_3_8_and_needs_nothing_but_numpy() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 8))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert imported - set(sys.stdlib_module_names) == {"numpy", "tensorrt", "torch"}


def test_it_lies_in_the_bundle_and_is_listed(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    listed = {entry["path"] for entry in manifest["files"]}

    assert (bundle / "device" / "pkecho_device.py").read_bytes() == SOURCE.read_bytes()
    assert {"device/pkecho_device.py", "engine/recipe.json", "engine/weights.bin"} <= listed
    assert {"golden/clip-float/logits.npy", "golden/stream-float/logits.npy"} <= listed
    assert manifest["profile"] == "orin-jetpack5"


@pytest.mark.parametrize(
    ("version", "graph"),
    [
        ("8.5.2.2", "clip.int8.onnx"),
        ("10.3.0", "clip.int8-typed.onnx"),
        ("11.4.1", "clip.int8-typed.onnx"),
    ],
)
def test_a_whole_run(kit: Kit, tmp_path: Path, version: str, graph: str) -> None:
    outcome = kit("--precisions", "int8,fp16", STAND_IN_VERSION=version)

    assert outcome.code == 0, outcome.err
    assert outcome.result is not None
    assert builds(tmp_path) == 4  # two modes, two precisions
    plans = {(plan["mode"], plan["precision"]): plan for plan in outcome.result["plans"]}
    assert plans["clip", "int8"]["graph"] == graph
    assert all(plan["self_test"]["passed"] for plan in plans.values())
    assert all(plan["latency"]["ms_p50"] > 0 for plan in plans.values())
    assert plans["clip", "int8"]["latency"]["results_per_call"] == 10
    assert plans["stream", "int8"]["latency"]["results_per_call"] == 1
    assert set(outcome.result["chosen"]) == {"clip", "stream"}
    assert outcome.result["device"]["tensorrt"] == version
    assert outcome.result["baseline"] is None
    assert ("is newer than the profile's" in outcome.err) == (version != "8.5.2.2")
    assert outcome.out.count("<- chosen") == 2

    read = read_result(tmp_path / "result.json")
    assert read.bundle_id == outcome.result["bundle_id"]
    assert read.plan("clip") is not None


def test_the_same_version_keeps_the_graph_s_masks(kit: Kit) -> None:
    """The stand-in runs the very graph that the golden vectors were made with."""
    outcome = kit()

    assert outcome.result is not None
    for plan in outcome.result["plans"]:
        assert plan["self_test"]["pixels_differ_fraction"] == 0


def test_a_second_start_builds_nothing(kit: Kit, tmp_path: Path) -> None:
    assert kit().code == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "plans").glob("*-int8*")}

    again = kit()

    assert again.code == 0
    assert builds(tmp_path) == 2
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "plans").glob("*-int8*")} == before
    assert again.result is not None
    assert not any(plan["built"] for plan in again.result["plans"])


def test_a_self_test_builds_and_writes_nothing(kit: Kit, tmp_path: Path) -> None:
    assert kit().code == 0
    files = {p: p.read_bytes() for p in (tmp_path / "plans").iterdir()}

    outcome = kit("--self-test")

    assert outcome.code == 0
    assert outcome.result is None
    assert builds(tmp_path) == 2
    assert {p: p.read_bytes() for p in (tmp_path / "plans").iterdir()} == files


def test_a_self_test_without_plans_is_refused(kit: Kit) -> None:
    outcome = kit("--self-test")

    assert outcome.code == 5
    assert "there is no cache" in outcome.err


def test_plans_of_another_device_are_rejected_or_built_anew(kit: Kit, tmp_path: Path) -> None:
    assert kit().code == 0

    rejected = kit("--no-build", STAND_IN_VERSION="10.3.0")
    rebuilt = kit(STAND_IN_VERSION="10.3.0")

    assert rejected.code == 5
    here = "Stand-in (sm_87, 8 SMs, 7 GB, TensorRT {}, driver 12.6)"
    assert f"built for {here.format('8.5.2.2')}" in rejected.err
    assert f"this is {here.format('10.3.0')}" in rejected.err
    assert rebuilt.code == 0
    assert builds(tmp_path) == 4
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 2  # the old ones are gone


def test_a_damaged_plan_is_built_again_and_never_run(kit: Kit, tmp_path: Path) -> None:
    assert kit().code == 0
    (plan,) = (tmp_path / "plans").glob("clip-int8-*.plan")
    plan.write_bytes(plan.read_bytes()[:-1])

    refused = kit("--no-build")
    mended = kit()

    assert refused.code == 6
    assert "is not the one that its record names" in refused.err
    assert mended.code == 0
    assert builds(tmp_path) == 3


def test_a_kill_at_any_moment_leaves_the_old_plan_or_the_new_one(
    kit: Kit, bundle: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    assert kit().code == 0
    command = [sys.executable, str(bundle / "device" / "pkecho_device.py"), "--rebuild", "--quiet"]
    command += ["--cache", str(tmp_path / "plans"), "--precisions", "int8", "--rounds", "1"]
    command += ["--result", str(tmp_path / "killed.json")]
    for delay in (0.8, 1.6, 2.4):  # tests/device/test_cache.py dies at every step
        process = subprocess.Popen(command, env={**environment, "STAND_IN_SLEEP": "0.2"})
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()

        after = kit("--self-test")

        assert after.code == 0, (delay, after.err)
    assert kit().code == 0
    assert not list((tmp_path / "plans").glob("*.partial"))


def test_two_kits_do_not_share_a_cache(
    kit: Kit, bundle: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, str(bundle / "device" / "pkecho_device.py"), "--quiet"]
    command += ["--cache", str(tmp_path / "plans"), "--precisions", "int8"]
    process = subprocess.Popen(command, env={**environment, "STAND_IN_SLEEP": "60"}, cwd=tmp_path)
    try:
        while not (tmp_path / "builds").exists():
            assert process.poll() is None
            time.sleep(0.05)

        second = kit()
    finally:
        process.terminate()
        code = process.wait(timeout=20)

    assert second.code == 5
    assert "another kit works in" in second.err
    assert code == 143
    assert not list((tmp_path / "plans").glob("*.plan"))


def test_a_build_that_takes_too_much_memory_is_stopped(kit: Kit, tmp_path: Path) -> None:
    outcome = kit("--memory-mb", "300", STAND_IN_HOG_MB="600", STAND_IN_SLEEP="20")

    assert outcome.code == 5
    assert "more than the 300 MB it may" in outcome.err
    assert not list((tmp_path / "plans").glob("*.plan"))
    assert not list((tmp_path / "plans").glob("*.partial"))


def test_a_builder_that_gives_up_says_why(kit: Kit) -> None:
    outcome = kit(STAND_IN_FAIL=".onnx")

    assert outcome.code == 5
    assert "built no plan (Could not find any implementation for node conv1)" in outcome.err
    assert outcome.result is not None
    assert outcome.result["chosen"] == {}
    assert outcome.result["reason"]["clip"].startswith("no plan can be used: int8: TensorRT")


def test_a_precision_that_fails_does_not_end_the_run(kit: Kit, tmp_path: Path) -> None:
    outcome = kit("--precisions", "int8,fp32", STAND_IN_FAIL="int8.onnx")

    assert outcome.code == 0, outcome.err
    assert outcome.result is not None
    assert outcome.result["chosen"] == {"clip": "fp32", "stream": "fp32"}
    failed = [plan for plan in outcome.result["plans"] if plan["precision"] == "int8"]
    assert all("Could not find any implementation" in plan["error"] for plan in failed)
    read = read_result(tmp_path / "result.json")  # the host takes it all the same
    assert [plan.error is None for plan in read.plans] == [False, True, False, True]

    # what is in use is what a device tests at its start
    assert kit("--self-test", "--precisions", "int8").code == 5
    chosen = kit("--self-test", precisions="")
    assert chosen.code == 0, chosen.err
    assert "clip fp32: self-test passed" in chosen.err
    assert "int8" not in chosen.err


def test_what_a_parser_does_not_know_is_named(kit: Kit) -> None:
    outcome = kit(STAND_IN_REFUSE="Resize")

    assert outcome.code == 5
    line = next(line for line in outcome.err.splitlines() if "cannot parse" in line)
    assert "clip.int8.onnx" in line
    assert "(Resize): No importer for Resize" in line


def test_a_plan_that_cannot_be_loaded_is_built_again(kit: Kit, tmp_path: Path) -> None:
    """A driver that was updated without its version: only loading tells."""
    assert kit().code == 0
    (plan,) = (tmp_path / "plans").glob("clip-int8-*.plan")
    record = tmp_path / "plans" / "clip-int8.json"
    spoilt = plan.read_bytes().replace(b"8.5.2.2", b"8.5.2.1")
    plan.write_bytes(spoilt)
    named = json.loads(record.read_text())
    record.write_text(json.dumps({**named, "sha256": hashlib.sha256(spoilt).hexdigest()}))

    refused = kit("--no-build")
    mended = kit()

    assert refused.code == 5
    assert "the clip int8 plan cannot be loaded" in refused.err
    assert mended.code == 0, mended.err
    assert builds(tmp_path) == 3


def test_the_gpu_s_own_time_is_told_apart(kit: Kit) -> None:
    outcome = kit("--rounds", "3")

    assert outcome.result is not None
    for plan in outcome.result["plans"]:
        assert 0 < plan["latency"]["gpu_ms_p50"] <= plan["latency"]["ms_p50"]


def test_a_larger_board_of_the_same_chip_is_another_device(kit: Kit) -> None:
    """Every Orin calls its GPU "Orin": a disk that moved must not take its plans along."""
    assert kit().code == 0

    moved = kit("--no-build", FAKE_SMS="16")

    assert moved.code == 5
    assert "built for Stand-in (sm_87, 8 SMs" in moved.err
    assert "this is Stand-in (sm_87, 16 SMs" in moved.err


def test_a_damaged_timing_cache_is_never_given_to_tensorrt(kit: Kit, tmp_path: Path) -> None:
    assert kit().code == 0
    (timings,) = (tmp_path / "plans").glob("timing-*.cache")
    timings.write_bytes(timings.read_bytes()[:-1] + b"x")

    outcome = kit("--rebuild")

    assert outcome.code == 0, outcome.err
    assert builds(tmp_path) == 4
    whole = timings.read_bytes()
    assert hashlib.sha256(whole[32:]).digest() == whole[:32]  # made anew


def test_a_builder_that_raises_gives_one_line(kit: Kit) -> None:
    outcome = kit(STAND_IN_RAISE="std::bad_alloc")

    assert outcome.code == 5
    assert "building failed (MemoryError('std::bad_alloc'))" in outcome.err
    assert "Traceback" not in outcome.err
    assert "Traceback" in kit("--debug", STAND_IN_RAISE="std::bad_alloc").err


def test_a_gpu_without_room_for_a_plan_is_told_and_nothing_is_built_twice(
    kit: Kit, tmp_path: Path
) -> None:
    assert kit().code == 0

    full = kit(FAKE_ROOM_KB="64")

    assert full.code == 5
    assert "no plan can be used: int8: the GPU driver's cuMemAlloc_v2 failed with 2" in full.err
    assert full.result is not None
    assert builds(tmp_path) == 2


def test_a_self_test_needs_no_room_to_build(kit: Kit) -> None:
    """It is a health check beside an application that has the memory."""
    assert kit().code == 0

    assert kit("--self-test", FAKE_FREE_MB="100").code == 0
    # on a board the system gives caches back: the driver's figure alone refuses too much
    assert kit("--rebuild", FAKE_FREE_MB="100", FAKE_INTEGRATED="1").code == 0


def test_quiet_says_nothing(kit: Kit) -> None:
    outcome = kit("--quiet", STAND_IN_VERSION="10.3.0")

    assert outcome.code == 0
    assert outcome.out == outcome.err == ""


def test_a_profile_s_fourth_number_refuses_nobody() -> None:
    assert not pkecho_device.older("10.3.0", "10.3.0.30")
    assert pkecho_device.older("10.2.9", "10.3")
    assert not pkecho_device.older("10.10.1", "10.3.0")


def test_a_check_looks_and_builds_nothing(kit: Kit, tmp_path: Path) -> None:
    right, wrong = kit("--check"), kit("--check", FAKE_SM="90")

    assert right.code == 0
    bundle, device = right.out.splitlines()
    assert bundle.endswith("files are whole; for orin-jetpack5")
    assert device == "Stand-in (sm_87, 8 SMs, 7 GB, TensorRT 8.5.2.2, driver 12.6)"
    assert wrong.code == 5
    assert not (tmp_path / "plans").exists()


@pytest.mark.parametrize("option", ["--result", "--cache"])
def test_nothing_is_written_into_the_bundle(kit: Kit, bundle: Path, option: str) -> None:
    outcome = kit(option, bundle / "inside")

    assert outcome.code == 2
    assert "lies in the bundle" in outcome.err
    assert not (bundle / "inside").exists()


def test_a_result_that_cannot_be_written_is_told_before_building(kit: Kit, tmp_path: Path) -> None:
    outcome = kit("--result", tmp_path / "nowhere" / "result.json")

    assert outcome.code == 5
    assert builds(tmp_path) == 0


def test_a_child_does_not_outlive_a_killed_kit(
    bundle: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, str(bundle / "device" / "pkecho_device.py"), "--quiet"]
    command += ["--cache", str(tmp_path / "plans"), "--precisions", "int8"]
    process = subprocess.Popen(command, env={**environment, "STAND_IN_SLEEP": "120"}, cwd=tmp_path)
    _wait_for(lambda: bool(_builders(tmp_path)))
    process.kill()
    process.wait()

    _wait_for(lambda: not _builders(tmp_path))


def test_ctrl_c_ends_the_build_and_keeps_what_was_there(
    kit: Kit, bundle: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    assert kit().code == 0
    command = [sys.executable, str(bundle / "device" / "pkecho_device.py"), "--rebuild"]
    command += ["--cache", str(tmp_path / "plans"), "--precisions", "int8"]
    process = subprocess.Popen(
        command,
        env={**environment, "STAND_IN_SLEEP": "120"},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs, and all that they start, ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        _wait_for(lambda: bool(_builders(tmp_path)))
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    finally:
        process.kill()
        process.communicate()

    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted; what was built is kept"
    assert "Traceback" not in said
    _wait_for(lambda: not _builders(tmp_path))
    assert kit("--self-test").code == 0
    assert not list((tmp_path / "plans").glob("*.partial"))


def _builders(folder: Path) -> list[str]:
    """Processes that build into a cache below the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"--build-one" in words and any(str(folder).encode() in word for word in words):
                found.append(path.parent.name)
    return found


def _wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def test_a_plan_that_computes_something_else_is_not_used(kit: Kit) -> None:
    outcome = kit(STAND_IN_WRONG="1")

    assert outcome.code == 3
    assert outcome.result is not None
    assert outcome.result["chosen"] == {}
    assert "self-test failed" in outcome.err


def _remove_tensorrt(bundle: Path, environment: dict[str, str]) -> None:
    environment["PYTHONPATH"] = ""


def _tamper(bundle: Path, environment: dict[str, str]) -> None:
    path = bundle / "engine" / "clip.int8.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def _add_a_file(bundle: Path, environment: dict[str, str]) -> None:
    (bundle / "engine" / "more.onnx").write_bytes(b"")


def _link_weights(bundle: Path, environment: dict[str, str]) -> None:
    weights = bundle / "engine" / "weights.bin"
    weights.rename(bundle.parent / "weights.bin")
    weights.symlink_to(bundle.parent / "weights.bin")


def _remove_the_manifest(bundle: Path, environment: dict[str, str]) -> None:
    (bundle / "manifest.json").unlink()


def _change(**changes: str) -> object:
    return lambda bundle, environment: environment.update(changes)


BAD = {
    "no TensorRT": (_remove_tensorrt, 5, "TensorRT's Python package cannot be imported"),
    "an old TensorRT": (_change(STAND_IN_VERSION="8.4.1"), 5, "this is TensorRT 8.4.1"),
    "a TensorRT older than the profile's": (
        _change(STAND_IN_VERSION="8.5.1.7"),
        5,
        "profile orin-jetpack5 is for TensorRT 8.5.2, this is 8.5.1.7",
    ),
    "no driver": (_change(PKECHO_CUDA_LIBRARY="/nowhere.so"), 5, "there is no NVIDIA driver"),
    "no GPU": (_change(FAKE_NO_GPU="1"), 5, "no GPU is there"),
    "too little memory": (_change(FAKE_FREE_MB="100"), 5, "100 MB of GPU memory are free"),
    "another device": (
        _change(FAKE_SM="90", FAKE_GPU="H100", STAND_IN_SM="90"),
        5,
        "profile orin-jetpack5 is for sm_87, this is sm_90 (H100)",
    ),
    "a tampered graph": (_tamper, 6, "engine/clip.int8.onnx is not the file"),
    "a file more": (_add_a_file, 6, "engine/more.onnx is not listed"),
    "a link": (_link_weights, 6, "engine/weights.bin is a link"),
    "no manifest": (_remove_the_manifest, 6, "manifest.json cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_surroundings_give_one_line(
    kit: Kit, bundle: Path, environment: dict[str, str], tmp_path: Path, name: str
) -> None:
    spoil, code, words = BAD[name]
    spoil(bundle, environment)

    outcome = kit()

    assert outcome.code == code, outcome.err
    (line,) = outcome.err.strip().splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert ". " in line
    assert not list(tmp_path.glob("plans/*.plan"))
    assert outcome.result is None


def test_a_cache_that_cannot_be_written_is_refused(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "plans").write_text("a file where the folder should be")

    outcome = kit()

    assert outcome.code == 5
    assert "cannot be written" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [("--precisions", "int4"), ("--rounds", "0"), ("--rebuild", "--self-test"), ("--unknown",)],
)
def test_usage_errors_end_with_2(kit: Kit, arguments: tuple[str, ...]) -> None:
    assert kit(*arguments).code == 2


def test_a_wrong_clock_breaks_nothing_and_is_told(kit: Kit, bundle: Path) -> None:
    future = time.time() + 5 * 365 * 86400
    os.utime(bundle / "manifest.json", (future, future))

    outcome = kit()

    assert outcome.code == 0
    assert outcome.result is not None
    assert outcome.result["clock"] == "implausible"


def test_trtexec_lines_build_the_same_plans(kit: Kit, tmp_path: Path) -> None:
    outcome = kit("--trtexec")

    first, *lines = outcome.out.splitlines()
    assert outcome.code == 0
    assert first == f"mkdir -p {tmp_path / 'plans'}"
    assert len(lines) == 6
    assert builds(tmp_path) == 0
    for line in lines:  # nothing of it may end up in the bundle
        words = dict(word.partition("=")[::2] for word in shlex.split(line)[1:])
        assert Path(words["--onnx"]).is_file()
        written = (words["--saveEngine"], words["--timingCacheFile"])
        assert all(Path(name).parent == tmp_path / "plans" for name in written)
    int8 = next(line for line in lines if "clip.int8.onnx" in line)
    assert "--fp16 --int8" in int8
    assert "/upsamplers.0/neighbours.0/Exp:fp32" in int8
    assert all("--noTF32" in line for line in lines)


def test_layers_that_overflow_fp16_stay_in_fp32(kit: Kit, tmp_path: Path) -> None:
    assert kit("--precisions", "fp16,fp32").code == 0

    plans = {
        path.name.rpartition("-")[0]: json.loads(path.read_text())
        for path in (tmp_path / "plans").glob("*.plan")
    }
    assert plans["clip-fp16"]["flags"] == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    assert plans["clip-fp16"]["in_fp32"] > 100
    assert plans["clip-fp32"]["flags"] == []


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.8", "3.9"])
def test_it_runs_on_old_pythons(
    bundle: Path, environment: dict[str, str], tmp_path: Path, version: str
) -> None:
    """The whole run, with what PyPI has for that Python; on demand, for it installs packages."""
    found = [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    python = str(found[0]) if found else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"no python{version} on this machine")
    subprocess.run([python, "-m", "venv", tmp_path / "old"], check=True)
    old = tmp_path / "old" / "bin" / "python"
    packages = ["numpy", "onnx", "onnxruntime"]
    install = [old, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *packages]
    if subprocess.run(install, check=False).returncode:
        pytest.skip(f"no packages for Python {version}: is this machine offline?")

    command = [old, bundle / "device" / "pkecho_device.py", "--rounds", "1"]
    command += ["--cache", tmp_path / "plans", "--result", tmp_path / "result.json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    device = read_result(tmp_path / "result.json").device
    assert str(device["python"]).startswith(version)
