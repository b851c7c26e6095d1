"""The repository itself: its links, its commands, and what must not get into it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pkecho_edge import errors

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
LINKS = ("calibration", "cli", "targets")

CHECKPOINT = re.compile(r"pkecho_edge/assets/[\w.-]+\.safetensors")
LARGEST_BYTES = 1_000_000

# Written so that no pattern matches its own text here.
FOREIGN = {
    "a path of one machine": r"(?<![\w.])/(?:work|root|home|Users)/|/opt/(?:wheels|pypi)",
    "a document that is not in the repository": r"shared/(?:reference|seeds)|[D]ESIGN\b",
    "where it was made instead of what it is": r"\b(?:[Ww]orkplac[e]|CE[O])\b",
    "a blank that was never filled": r"TO[ ]FILL",
}


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Every file that is or would be committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def text_of(path: Path) -> str:
    """A file's text, or an empty string if it holds no text."""
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode("utf-8", errors="replace")


@pytest.mark.parametrize("name", LINKS)
def test_the_links_at_the_root_lead_to_the_packages(name: str) -> None:
    link = ROOT / name

    assert link.is_symlink()
    assert os.readlink(link) == f"pkecho_edge/{name}"
    assert link.is_dir()


def test_nothing_imports_through_the_links(files: list[Path]) -> None:
    modules = [path for path in files if path.suffix == ".py"]

    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules
        for name in imported(ast.parse(text_of(path)))
        if name.partition(".")[0] in LINKS
    ]

    assert len(modules) > 10
    assert found == []


@pytest.mark.parametrize("source", ["import cli", "def f():\n    from targets.base import Engine"])
def test_an_import_through_a_link_is_found(source: str) -> None:
    assert [name.partition(".")[0] in LINKS for name in imported(ast.parse(source))] == [True]


def imported(tree: ast.AST) -> list[str]:
    """Every module that a source imports absolutely."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return names


@pytest.mark.parametrize("what", FOREIGN)
def test_the_text_speaks_of_the_project_alone(what: str, files: list[Path]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in files
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if re.search(FOREIGN[what], line)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("a path of one machine", ["", "root", "x"]),
        ("a path of one machine", ["", "home", "someone", "x"]),
        ("a document that is not in the repository", ["shared", "seeds", "x"]),
    ],
)
def test_foreign_text_is_found(what: str, words: list[str]) -> None:
    assert re.search(FOREIGN[what], "/".join(words))


def test_no_file_is_large_but_the_packaged_checkpoint(files: list[Path]) -> None:
    large = {
        str(path.relative_to(ROOT)): path.stat().st_size
        for path in files
        if path.stat().st_size > LARGEST_BYTES
    }

    assert {name: size for name, size in large.items() if not CHECKPOINT.fullmatch(name)} == {}


def test_the_readme_opens_with_its_two_commands() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:24])

    assert {"make demo", "make test"} <= set(re.findall(r"make \w+", first_screen))


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_every_make_command_in_a_document_exists(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = (ROOT / document).read_text(encoding="utf-8")

    named = set(re.findall(r"(?:^make|\$ make|`make) (\w+)", text, flags=re.MULTILINE))

    assert named
    assert named <= set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/*.md"]
)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    pages = list(ROOT.glob(document))
    dead = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert pages
    assert dead == []


def test_the_readme_lists_every_exit_code() -> None:
    raised = {getattr(errors, name).exit_code for name in errors.__all__}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("## Exit codes")[2].partition("\n## ")[0]

    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == raised | {0}


def test_the_continuous_integration_runs_the_readmes_tests() -> None:
    script = ROOT / ".ci/run"

    assert os.access(script, os.X_OK)
    assert re.search(r"^make test\b", script.read_text(encoding="utf-8"), re.MULTILINE)
    subprocess.run(["bash", "-n", script], check=True)


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    """The table [project] of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        table: dict[str, object] = tomllib.load(file)["project"]
    return table


def test_a_device_that_only_runs_engines_needs_no_torch(project: dict[str, object]) -> None:
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)

    needed = {name for extra in ("cpu", "onnxruntime") for name in requirements(extras[extra])}

    assert requirements(project["dependencies"]).keys() == {"numpy", "rich", "tomli", "typer"}
    assert needed == {"openvino", "onnxruntime"}


@pytest.mark.parametrize(
    ("version", "admitted"),
    [("2.10.0", False), ("2.11.0", True), ("2.13.0", True), ("2.14.0", False)],
)
def test_the_range_of_torch(version: str, admitted: bool, project: dict[str, object]) -> None:
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)

    assert requirements(extras["train"])["torch"].specifier.contains(version) is admitted


def test_everything_is_installed_without_cuda_or_opencv(project: dict[str, object]) -> None:
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)

    names = closure("all", extras) | closure("dev", extras)

    assert {"torch", "nncf", "openvino"} <= names
    assert not [name for name in names if re.search(r"nvidia|tensorrt|cuda|opencv", name)]


def requirements(lines: object) -> dict[str, Requirement]:
    """Requirements by name."""
    assert isinstance(lines, list)
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def closure(extra: str, extras: dict[str, list[str]]) -> set[str]:
    """The packages that an extra names, also by way of the project's other extras."""
    names = set()
    for name, requirement in requirements(extras[extra]).items():
        inner = requirement.extras if name == "pkecho-edge" else ()
        names |= {name}.union(*(closure(other, extras) for other in inner))
    return names
