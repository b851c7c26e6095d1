"""What `doctor` finds, says and asks to install, and which errors point to it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from pkecho_edge import environment, firmware_kit, targets
from pkecho_edge.cli import doctor as verb
from pkecho_edge.cli.verbs import VERBS
from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, UsageError
from pkecho_edge.verify import machine

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Refuses = Callable[..., str]
Type = Callable[[str], Any]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKECHO_EDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let distributions seem not to be installed."""
    find, modules = environment.find_spec, environment._MODULES

    def hide(*names: str) -> None:
        hidden = {modules.get(name, name.replace("-", "_")) for name in names}
        monkeypatch.setattr(
            environment, "find_spec", lambda name: None if name in hidden else find(name)
        )

    return hide


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a program on a PATH that holds no other."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name: str, body: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)

    return put


def block(text: str, title: str) -> str:
    """The lines below a title."""
    return re.split(rf"^{title}.*$", text, flags=re.MULTILINE)[1].split("\n\n")[0]


def test_where_all_is_well_it_ends_with_0_and_narrow_lines(typed: Type) -> None:
    outcome = typed("doctor")

    assert outcome.code == 0, outcome.err
    assert "resnet18, 23.7 MB" in outcome.out
    assert f"there    numpy            {metadata.version('numpy')}" in outcome.out
    assert "works    demo, compile, quantize, calibrate, verify" in outcome.out
    long = [line for line in outcome.out.splitlines() if len(line) > 80 and "cache:" not in line]
    assert long == []  # nor where more is installed than here:
    told = [*environment._PACKAGES.values(), *(each[1:] for each in environment._PROGRAMS.values())]
    assert max(len(purpose) for _, purpose in told) <= 36
    assert "\x1b" not in outcome.out


def test_every_command_and_every_target_is_told_of(typed: Type) -> None:
    out = typed("doctor").out

    named = set(re.findall(r"[a-z]+", block(out, "COMMANDS")))
    commands = set(VERBS)
    assert commands <= named
    assert [line.split()[-1] for line in re.findall(r"^  \S.*$", block(out, "TARGETS"), re.M)] == [
        *targets.names()
    ]


def test_it_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['pkecho-edge', 'doctor', '--quiet']\n"
        "from pkecho_edge.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(sorted({'torch', 'openvino', 'onnx', 'scipy'} & set(sys.modules)))"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
    assert time.monotonic() - started < 15  # a second and a half, where nothing else is at work


def test_figures_for_machines(typed: Type, tmp_path: Path) -> None:
    assert typed(f"doctor --json {tmp_path / 'd.json'}").code == 0

    found = json.loads((tmp_path / "d.json").read_text())
    assert found["missing"] == []
    assert found["machine"]["cpu"]["flags"]
    assert {"name", "speed", "accuracy"} == set(found["int8"])
    assert {"name": "cpu", "missing": ""} in found["targets"]
    assert found["cache"] == {"path": str(tmp_path / "cache"), "writable": True}
    assert not (tmp_path / "cache").exists()
    numpy = next(each for each in found["packages"] if each["name"] == "numpy")
    assert numpy["version"] == metadata.version("numpy")


def test_a_package_that_a_main_command_needs(
    typed: Type, without: Callable[..., None], tmp_path: Path
) -> None:
    without("torch-pruning", "scipy")

    outcome = typed(f"doctor --json {tmp_path / 'd.json'}")

    assert outcome.code == 5
    assert outcome.err.startswith("error: not installed: torch-pruning, scipy. Run: pip install")
    assert outcome.err.count("pkecho-edge doctor") == 1
    commands = block(outcome.out, "COMMANDS")
    assert re.search(r"not here prune, tune\n +missing: torch-pruning, scipy", commands)
    assert re.search(r"not here phantom, data\n +missing: scipy\n", commands)
    assert "works    keygen, sign" in commands
    packages = block(outcome.out, "PACKAGES")
    assert re.search(r"missing  scipy .+\n +pip install 'pkecho-edge\[data\]'", packages)
    assert json.loads((tmp_path / "d.json").read_text())["missing"] == ["torch-pruning", "scipy"]


def test_without_pictures_a_recording_cannot_be_run(
    typed: Type, without: Callable[..., None]
) -> None:
    without("pillow", "pydicom")

    outcome = typed("doctor")

    assert outcome.code == 0, outcome.err
    assert re.search(r"not here run\n +missing: pillow\n", outcome.out)
    for name, purpose in (("pillow", "pictures"), ("pydicom", "DICOM recordings")):
        line = rf"missing  {name} +{purpose}\n +pip install 'pkecho-edge\[data\]'\n"
        assert re.search(line, outcome.out)


def test_a_package_that_none_of_them_needs(typed: Type, without: Callable[..., None]) -> None:
    without("nncf", "cryptography", "nibabel", "pillow", "pydicom")

    outcome = typed("doctor")

    assert outcome.code == 0, outcome.err
    assert re.search(r"not here keygen, sign\n +missing: cryptography", outcome.out)
    assert re.search(r"not here bench peers\n +missing: nncf", outcome.out)
    assert re.search(r"works    bench\n", outcome.out)
    assert "pip install 'pkecho-edge[sign]'" in outcome.out
    assert re.search(r"not here run\n +missing: pillow\n", outcome.out)
    assert re.search(r"not here run of DICOM files\n +missing: pillow, pydicom\n", outcome.out)
    assert re.search(r"works    phantom, data\n", outcome.out)
    assert re.search(r"missing  nibabel +CAMUS\n", outcome.out)


def test_a_module_counts_whatever_distribution_brought_it(
    typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = metadata.version

    def of(name: str) -> str:
        if name == "onnxruntime-gpu":
            return "1.99.0"
        if name in ("onnxruntime", "openvino"):
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", of)

    outcome = typed("doctor")

    assert outcome.code == 0, outcome.err
    assert re.search(r"there    onnxruntime +1\.99\.0 ", outcome.out)
    assert re.search(r"there    openvino +- ", outcome.out)


def test_a_folder_of_a_packages_name_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_such_package").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))

    assert environment._installed("no-such-package") is None


def test_programs_are_asked_for_their_versions(
    typed: Type, programs: Callable[[str, str], None]
) -> None:
    programs("cmake", "echo cmake version 3.99.1")
    programs("minisign", "echo minisign 0.77 >&2")
    programs("docker", "echo no number")
    programs("nvidia-smi", "echo no devices were found; exit 6")
    programs("chromium", "exec /bin/sleep 30")
    programs("apt-get", "")

    started = time.monotonic()
    out = block(typed("doctor").out, "PROGRAMS")

    assert time.monotonic() - started < 15
    assert re.search(r"there    cmake +3\.99\.1 +firmware build", out)
    assert re.search(r"there    minisign +0\.77 ", out)
    assert re.search(r"there    docker +- ", out)
    assert re.search(r"there    chromium +- ", out)
    assert re.search(r"fails    nvidia-smi .+\n +it says: no devices were found\n", out)
    assert "apt-get install nvidia-smi" not in out
    assert re.search(r"missing  g\+\+ .+\n +apt-get install g\+\+$", out, re.MULTILINE)
    assert "firmware\n" not in out


def test_without_programs_the_firmware_cannot_be_built(
    typed: Type, programs: Callable[[str, str], None]
) -> None:
    outcome = typed("doctor")

    assert outcome.code == 0
    assert "apt-get" not in outcome.out  # which is not there either
    assert re.search(
        r"not here firmware\n +missing: g\+\+, cmake, make, pkg-config, libsodium", outcome.out
    )


@pytest.mark.parametrize("spoil", ["truncate", "header", "delete"])
def test_a_damaged_packaged_checkpoint(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    (tmp_path / "assets").mkdir()
    (source,) = (Path(environment.__file__).parent / "assets").glob("*.safetensors")
    data = source.read_bytes()
    if spoil != "delete":
        bad = data[:-1] if spoil == "truncate" else b"\xff" * 8 + data[8:]
        (tmp_path / "assets" / "a.safetensors").write_bytes(bad)
    monkeypatch.setattr(environment.resources, "files", lambda name: tmp_path)

    outcome = typed("doctor")

    assert outcome.code == 5
    assert outcome.err.startswith("error: the packaged checkpoint: damaged (")
    assert outcome.err.count("\n") == 1


def test_a_cache_that_cannot_be_written(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PKECHO_EDGE_CACHE", str(tmp_path / "file" / "cache"))

    outcome = typed("doctor")

    assert outcome.code == 5
    assert "the cache cannot be written. Set PKECHO_EDGE_CACHE" in outcome.err


def test_facts_that_are_not_known_are_no_error(
    typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: "")
    monkeypatch.setattr("pkecho_edge.processors.cpu_flags", frozenset)

    outcome = typed("doctor")

    assert outcome.code == 0, outcome.err
    assert "INT8: unknown." in outcome.out
    assert "features: not known" in outcome.out
    assert "memory not known" in outcome.out
    assert "None" not in outcome.out


def test_the_extras_that_it_names_bring_the_packages() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]

    def brings(extra: str) -> set[str]:
        lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
        found = [Requirement(line) for line in lines]
        own = {each.name for each in found}
        return own.union(*(brings(e) for r in found if r.name == "pkecho-edge" for e in r.extras))

    for name, (extra, _) in environment._PACKAGES.items():
        if name != "tensorrt":  # torch-tensorrt brings it
            assert name in brings(extra), name
    assert set(environment.MAIN) <= brings("all") | brings("")


# Errors that point to it


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (MissingDependency("onnx is missing", remedy="Run: pip install x"),
         "Run: pip install x. See what is here: pkecho-edge doctor\n"),
        (EnvironmentMismatch("built for X", path="a.pkb"),
         "a.pkb: built for X. See what is here: pkecho-edge doctor\n"),
        (ModuleNotFoundError("no", name="onnx"),
         "Run: pip install 'pkecho-edge[all]'. See what is here: pkecho-edge doctor\n"),
        (UsageError("is wrong", remedy="Do it right"), "is wrong. Do it right\n"),
    ],
)  # fmt: skip
def test_errors_of_the_environment_point_to_it(
    typed: Type, monkeypatch: pytest.MonkeyPatch, error: Exception, ends: str
) -> None:
    def fails(path: object) -> None:
        raise error

    monkeypatch.setattr("pkecho_edge.bundle.reader.read_bundle", fails)

    outcome = typed("inspect a.pkb")

    assert outcome.code == getattr(error, "exit_code", 5)
    assert outcome.err.endswith(ends)
    assert outcome.err.count("\n") == 1


def test_its_own_error_does_not_point_back(typed: Type, without: Callable[..., None]) -> None:
    without("onnx")

    assert typed("doctor --quiet").err.endswith(f"{verb._REMEDY}\n")


def test_it_looks_for_what_the_firmware_build_asks_for() -> None:
    looked_for = {
        package
        for _, package, purpose in environment._PROGRAMS.values()
        if purpose == "firmware build"
    }

    assert looked_for == set(firmware_kit.PACKAGES)
