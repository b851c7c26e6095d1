"""The documents: the reference is that of the program, and what they tell to type exists."""

from __future__ import annotations

import functools
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from pkecho_edge.cli.verbs import VERBS, build_app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
WALKED = ("README.md", "docs/tutorial.md", "docs/guide-ml.md", "docs/guide-firmware.md")
WALKED += ("docs/guide-quality.md",)


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """docs/make_cli_reference.py."""
    path = ROOT / "docs/make_cli_reference.py"
    spec = importlib.util.spec_from_file_location("make_cli_reference", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("columns", ["40", "200"])
def test_the_reference_is_that_of_the_program(
    maker: ModuleType, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    fresh = maker.PAGE.read_text(encoding="utf-8") == maker.page()

    assert fresh, f"docs/cli.md is stale. Run: {maker.COMMAND}"


def test_the_reference_has_every_command_and_option_that_is_parsed(maker: ModuleType) -> None:
    told = {verb.name: verb for verb in maker.verbs()}
    parsed = dict(commands())

    assert told.keys() == parsed.keys()
    for name, command in parsed.items():
        usages = " ".join(each.usage for each in told[name].parameters)
        words = set(re.findall(r"--?[a-z][a-z-]*", usages))
        assert words == set(options(command)), name


@functools.cache
def program() -> Any:
    """The program as typer has built it: click's class or typer's copy."""
    return typer.main.get_command(build_app(*VERBS))


def commands(of: Any = None, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every verb: ("bench peers", its command)."""
    for name, command in (of or program()).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def options(command: Any) -> list[str]:
    """The names of its options: --size, --no-restore, -q."""
    return [
        name for each in command.params for name in (*each.opts, *each.secondary_opts)
        if name.startswith("-") and name != "--help"
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_headings_that_there_are(name: str) -> None:
    page = ROOT / name
    dead = []
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        place = (page.parent / target).resolve() if target else page
        if "://" not in target and place.suffix == ".md" and anchor not in anchors(place):
            dead.append(f"{target}#{anchor}")

    assert dead == []


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


# What is to be typed


def typed(text: str) -> list[str]:
    """The command lines of a page's code blocks: `$ pkecho-edge ...`, or indented by four."""
    lines, inside, found = iter(text.splitlines()), False, []
    for line in lines:
        if line.lstrip().startswith("```"):
            inside = not inside
        start = r"(?:\$ )" if inside else r"(?: {4}(?:\$ )?)"
        if not re.match(rf"{start}(?:\w+=\S+ )*pkecho-edge ", line):
            continue
        while line.endswith("\\"):
            line = line[:-1] + next(lines).strip()
        found.append(line.strip().removeprefix("$ "))
    return found


def calls(line: str) -> list[list[str]]:
    """The calls of pkecho-edge in a line of shell as words, without what is said beside it."""
    words = shlex.split(re.sub(r"\s{2,}.*", "", line), comments=True)
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "||", ";", "|", ">"):
            parts.append([])
        else:
            parts[-1].append(word)
    stripped = [[*_without_settings(part)] for part in parts]
    return [part[1:] for part in stripped if part[:1] == ["pkecho-edge"]]


def _without_settings(words: list[str]) -> Iterator[str]:
    began = False
    for word in words:
        began = began or not re.fullmatch(r"[A-Z_]+=.*", word)
        if began and word != "...":
            yield word


def parse(words: list[str]) -> None:
    """As the program would, without doing anything."""
    command, path = program(), []
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            break
        path.append(words[0])
        assert words[0] in command.commands, f"there is no command {' '.join(path)!r}"
        command, words = command.commands[words[0]], words[1:]
    if words != ["--help"] and words != ["--version"]:
        command.make_context(" ".join(path), list(words))


@pytest.mark.parametrize("name", NAMES)
def test_every_command_to_type_is_understood(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = typed((ROOT / name).read_text(encoding="utf-8"))

    for line in lines:
        for words in calls(line):
            try:
                parse(words)
            except Exception as error:
                said = getattr(error, "format_message", lambda error=error: str(error))()
                pytest.fail(f"{name}: {line}\n{said}")

    assert lines or name not in WALKED


@pytest.mark.parametrize("name", NAMES)
def test_every_option_in_a_sentence_exists(name: str) -> None:
    known = dict(commands())
    wrong = []
    for code in re.findall(r"`(pkecho-edge [^`]+)`", (ROOT / name).read_text(encoding="utf-8")):
        words = code.split()[1:]
        verb = next((v for v in (" ".join(words[:2]), words[0]) if v in known), "")
        for option in re.findall(r"(?<=\s)--[a-z][a-z-]*", code):
            if option not in ("--help", *(options(known[verb]) if verb else ["--version"])):
                wrong.append(code)

    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "pkecho-edge phantom --clips none --out x",
        "pkecho-edge phantom --out x --colour red",
        "pkecho-edge compile a.safetensors b.safetensors",
        "pkecho-edge fly --to moon",
        "pkecho-edge phantom --clips 3",
        "A=1 pkecho-edge doctor && pkecho-edge sign heart.pkb  # without its key",
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    with pytest.raises(Exception, match=r"."):
        list(map(parse, calls(line)))


def test_commands_are_found_in_a_page() -> None:
    page = "Say\n\n```console\n$ pkecho-edge a \\\n    --b  # c\nanswer\n```\n\n    pkecho-edge d\n"

    assert [calls(line) for line in typed(page)] == [[["a", "--b"]], [["d"]]]


# Lines of errors


def test_the_error_lines_of_troubleshooting_are_the_programs() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    listed = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    source = " ".join(path.read_text("utf-8") for path in (ROOT / "pkecho_edge").rglob("*.py"))
    # a text that is split over lines of source is whole again
    said = listed + re.sub(r'"\s+f?"', "", source)
    cells = re.findall(r"^\| ([^|]+) \|", page, flags=re.MULTILINE)

    quoted = [
        piece.strip(" .,:")
        for cell in cells
        if "the shell's own" not in cell
        for code in re.findall(r"`([^`]+)`", cell)
        for piece in code.split("...")
    ]
    pieces = [piece for piece in quoted if len(piece) > 6]

    assert len(pieces) > 30
    assert [piece for piece in pieces if piece not in said] == []
