"""A small world in which every command works, so that one thing at a time can be spoilt in it.

    network.safetensors  a narrow ResNet-18 with random weights
    data/                two recordings in TRAIN, two in TEST, 96x96
    set.json             a calibration set of the two in TRAIN
    gates.toml           limits that this network keeps
    heart.pkb/           what compile makes of all that

It is made once and copied for each test, which works in its copy: `world` is the current folder.
With PKECHO_EDGE_BAD_INPUT_TABLE=FILE in the environment, whatever `refuses` saw is also written to
FILE as the table of the user guide (in one process: -p no:xdist).
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pkecho_edge.cli import main as command_line

COMPILE = "compile network.safetensors --data data --size 96 --clips 2 --gates gates.toml"


@dataclass(frozen=True)
class Outcome:
    """What a command line printed, and its exit code."""

    code: int
    out: str
    err: str


Type = Callable[[str], Outcome]
Refuses = Callable[..., str]
Row = tuple[str, str, int, str]


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Type:
    """Run a command line in this process, given as a user types it."""

    def run(line: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pkecho-edge", *shlex.split(line)])
        with pytest.raises(SystemExit) as end:
            command_line.main()
        captured = capfd.readouterr()
        return Outcome(int(end.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def narrow_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the world."""
    path = tmp_path_factory.mktemp("network") / "network.safetensors"
    _write_checkpoint(path)
    return path


@pytest.fixture(scope="session")
def good_world(
    narrow_network: Path,
    time_briefly: Callable[[pytest.MonkeyPatch], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The world that all others are copies of, with its cache of finished stages in `cache`."""
    root = tmp_path_factory.mktemp("good")
    _write_dataset(root / "data")
    shutil.copy(narrow_network, root)
    (root / "gates.toml").write_text(
        "[gates]\ndsc_drift = 100\ndsc_drift_worst_clip = 100\nhd95_drift = 1000\n"
        "ef_drift = 100\nspeedup = 0\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        _prepare(patch, root)
        time_briefly(patch)
        for line in (
            f"{COMPILE} --out heart.pkb --quiet",
            "calibrate data --size 96 --clips 2 --out set.json --quiet",
        ):
            patch.setattr(sys, "argv", ["pkecho-edge", *shlex.split(line)])
            with pytest.raises(SystemExit) as end:
                command_line.main()
            assert not end.value.code, line
    return root


def _write_dataset(root: Path) -> None:
    from pkecho_edge.data.echonet import write_echonet
    from pkecho_edge.data.phantom import draw_spec, phantom_clip_recording

    splits = ("TRAIN", "TRAIN", "TEST", "TEST")
    recordings = (
        replace(phantom_clip_recording(draw_spec(seed, "good"), size=(96, 96)), split=split)
        for seed, split in enumerate(splits, start=500)
    )
    write_echonet(root, recordings)


def _write_checkpoint(path: Path) -> None:
    import torch

    from pkecho_edge.model.checkpoint import save_checkpoint
    from pkecho_edge.model.configuration import NetworkConfig, Widths
    from pkecho_edge.model.network import PKEchoNet

    torch.manual_seed(0)
    inner = (((16,), (16,)), ((24,), (24,)), ((32,), (32,)), ((32,), (32,)))
    config = NetworkConfig(widths=Widths(16, (16, 24, 32, 32), inner))
    save_checkpoint(PKEchoNet(config).eval(), path)


def _prepare(patch: pytest.MonkeyPatch, root: Path) -> None:
    """Work in `root`, and keep caches and temporary files there."""
    (root / "temporary").mkdir(exist_ok=True)
    patch.chdir(root)
    patch.setenv("PKECHO_EDGE_CACHE", str(root / "cache"))
    patch.setattr(tempfile, "tempdir", str(root / "temporary"))


@pytest.fixture
def world(
    good_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timed_briefly: None
) -> Path:
    """This test's own copy, and the current folder."""
    root = tmp_path / "world"
    shutil.copytree(good_world, root, symlinks=True)
    _prepare(monkeypatch, root)
    return root


@pytest.fixture
def refuses(world: Path, typed: Type, table: list[Row], request: pytest.FixtureRequest) -> Refuses:
    """Run a command that must fail as the user guide promises; returns the line it printed.

    One line on stderr that begins with "error:" and no traceback, the exit code, and nothing left
    behind: no file of the world is new, gone or changed, but for finished stages in the cache.

    Args:
        line: the command as typed.
        code: the exit code.
        says: words of the line.
        case: what is wrong, in the words of the user guide; default: the test's parameter id.
    """

    def run(line: str, code: int, *says: str, case: str = "") -> str:
        before = fingerprints(world)
        outcome = typed(line)
        assert outcome.code == code, f"exit code {outcome.code}: {outcome.err}"
        assert outcome.err.startswith("error: "), outcome.err
        assert outcome.err.count("\n") == 1, outcome.err
        assert outcome.err.endswith("\n")
        assert re.search(r"\. [A-Z]", outcome.err), f"no word on what to do: {outcome.err}"
        assert "Traceback" not in outcome.out + outcome.err
        for words in says:
            assert words in outcome.err
        assert fingerprints(world) == before
        unfinished = [p.name for p in (world / "cache").rglob(".*")]
        assert unfinished == []
        case = case or request.node.callspec.id
        table.append((case, line, code, outcome.err.strip().replace(f"{world}/", "")))
        return outcome.err

    return run


def fingerprints(root: Path) -> dict[str, str]:
    """Every file, folder and link below `root` but the finished stages -> what is in it."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "a folder" if path.is_dir() else "something else"
    return {name: what for name, what in found.items() if not name.startswith("cache/")}


@pytest.fixture(scope="session")
def table() -> Iterator[list[Row]]:
    """Rows of the user guide's table, in the order of the tests; of a case only the first."""
    rows: list[Row] = []
    yield rows
    if path := os.environ.get("PKECHO_EDGE_BAD_INPUT_TABLE"):
        lines = ["| input | command | exit code | line printed |", "|---|---|---|---|"]
        first = {case: row for case, *row in reversed(rows)}
        lines += [
            f"| {case} | `{_cell(line)}` | {code} | `{_cell(printed)}` |"
            for case, (line, code, printed) in reversed(first.items())
        ]
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cell(text: str) -> str:
    """Text between backticks in a table's cell; very long words are shortened."""
    text = re.sub(r"(\S{20})\S{200,}(?=\S{20})", r"\1...", text)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text.replace("|", "\\|").replace("`", "'")
