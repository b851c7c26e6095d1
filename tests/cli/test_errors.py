"""How an error reaches the user: one line, the exit code, and the traceback only on request."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from pkecho_edge import measuring
from pkecho_edge.cli.verbs import VERBS, build_app

Refuses = Callable[..., str]
Type = Callable[[str], Any]

COMPILE = "compile network.safetensors --data data --size 96 --clips 2 --gates gates.toml"


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pkecho_edge.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["inspect", "nowhere.pkb"], 2, "nowhere.pkb: is not a bundle folder"),
        (["inspect", "heart.pkb/engine"], 6, "manifest.json: is missing"),
        (["calibrate", "[/red]\nnowhere"], 7, "[/red] nowhere"),
        (["inspect"], 2, "Missing argument 'BUNDLE'. Run: pkecho-edge inspect --help"),
    ],
)
def test_a_process_ends_as_main_does(
    world: Path, arguments: list[str], code: int, says: str
) -> None:
    done = in_a_process(*arguments)

    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_long_line_is_not_broken_on_a_narrow_terminal(
    world: Path, refuses: Refuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")

    refuses(f"inspect {'long' * 40}.pkb", 2, "long" * 40, case="missing bundle")


def test_debug_adds_the_traceback(world: Path, typed: Type) -> None:
    outcome = typed("inspect nowhere.pkb --debug")

    assert outcome.code == 2
    assert "Traceback" in outcome.err
    assert "read_bundle" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("error: nowhere.pkb")


def test_debug_of_one_command_does_not_stay_on(world: Path, typed: Type, refuses: Refuses) -> None:
    typed("inspect nowhere.pkb --debug")

    refuses("inspect nowhere.pkb", 2, case="missing bundle")


def breaking(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the accuracy measurement end with `error`, when the bundle is half made."""

    def measure(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(measuring, "measure_accuracy", measure)


def test_an_internal_error_is_one_line_too(
    refuses: Refuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(KeyError("two\nlines [/red]"), monkeypatch)

    refuses(
        f"{COMPILE} --out new.pkb", 1, "internal error: KeyError", "[/red]", "--debug",
        case="a defect of pkecho-edge",
    )  # fmt: skip


def test_an_interrupt_leaves_no_bundle(refuses: Refuses, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(KeyboardInterrupt(), monkeypatch)

    refuses(f"{COMPILE} --out new.pkb", 130, "interrupted", case="Ctrl-C while compile is at work")


def test_a_package_that_is_missing_is_named_with_what_installs_it(
    refuses: Refuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(ModuleNotFoundError("No module named 'onnx'", name="onnx"), monkeypatch)

    said = ("onnx is not installed", "pip install")
    refuses(f"{COMPILE} --out new.pkb", 5, *said, case="package not installed")


def test_a_reader_that_goes_away_is_no_defect(world: Path) -> None:
    """As in `pkecho-edge inspect heart.pkb | head -1`."""
    command = [sys.executable, "-m", "pkecho_edge.cli.main", "inspect", "heart.pkb"]
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)

    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


@pytest.mark.parametrize("name", ["[bold]set[/].json", ":heart:.json", "[/red]"])
def test_a_name_of_markup_is_printed_as_it_is(world: Path, typed: Type, name: str) -> None:
    outcome = typed(f"calibrate data --size 96 --clips 2 --out '{name}'")

    assert outcome.code == 0, outcome.err
    assert f"in {name}" in outcome.out
    assert (world / name).is_file()


@pytest.mark.parametrize("arguments", ["", "bench"])
def test_a_bare_command_shows_its_help(typed: Type, arguments: str) -> None:
    outcome = typed(arguments)

    assert outcome.code == 2
    assert "Usage: pkecho-edge" in outcome.out + outcome.err
    assert "error:" not in outcome.err


def test_help_loads_nothing_that_it_does_not_show() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pkecho_edge.cli.main", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer.rich_utils" in loaded
    assert {"markdown_it", "pygments", "numpy"}.isdisjoint(loaded)
    assert "compile" in done.stdout


def test_an_error_before_the_first_stage_prints_nothing_else(world: Path, typed: Type) -> None:
    for line in ("prune missing.safetensors", "run heart.pkb missing.avi", "calibrate missing"):
        outcome = typed(line)
        assert outcome.code != 0
        assert outcome.out == ""


def test_what_a_help_page_does_without_is_there_for_others(typed: Type) -> None:
    assert typed("--help").code == 0

    from rich.markdown import Markdown
    from rich.traceback import Traceback

    assert None not in (Markdown, Traceback)


def test_the_list_of_verbs_says_what_each_verb_says_of_itself() -> None:
    for name, verb in VERBS.items():
        listed = typer.main.get_command(build_app()).commands[name]
        found = getattr(import_module(f"pkecho_edge.cli.{verb.module}"), verb.attribute)
        told = found.info.help if isinstance(found, typer.Typer) else found.__doc__
        assert verb.summary == " ".join(told.partition("\n\n")[0].split()), name
        assert listed.help == verb.summary


@pytest.mark.parametrize("line", ["compile --help", "bench peers --help", "firmware build --help"])
def test_a_verb_that_is_typed_is_loaded_alone(line: str) -> None:
    program = (
        "import atexit, sys; from pkecho_edge.cli.main import main\n"
        "atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr)); main()\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, *line.split()], capture_output=True, text=True, check=True
    )

    assert f"pkecho-edge {line.removesuffix(' --help')}" in done.stdout
    loaded = set(done.stderr.split())
    assert f"pkecho_edge.cli.{line.split()[0]}" in loaded
    assert "pkecho_edge.cli.train" not in loaded


def test_a_slip_of_the_finger_names_the_verb_that_was_meant() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pkecho_edge.cli.main", "comple"], capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "No such command 'comple'" in done.stderr
    assert "'compile'" in done.stderr
