"""Two runs of `compile`: the same bytes apart, one winner together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pkecho_edge.bundle.reader import check_bundle

from .kill_compile import bundle_hashes


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of six phantoms."""
    root = tmp_path_factory.mktemp("runs")
    _start(root, "phantom", "--clips", "6", "--size", "96", "--out", "data").communicate()
    (root / "gates.toml").write_text("[gates]\nspeedup = 0.0\n")
    return root


def _start(root: Path, *arguments: str, cache: str = "cache") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pkecho_edge.cli.main", *arguments, "--quiet"],
        cwd=root,
        env={**os.environ, "PKECHO_EDGE_CACHE": str(root / cache)},
        stderr=subprocess.PIPE,
        text=True,
    )


def _compile(root: Path, out: str, cache: str) -> subprocess.Popen[str]:
    options = ["--data", "data", "--size", "96", "--clips", "2", "--gates", "gates.toml"]
    return _start(root, "compile", *options, "--out", out, cache=cache)


def test_two_compiles_of_the_same_inputs_give_the_same_bytes(root: Path) -> None:
    runs = [_compile(root, f"{name}.pkb", f"cache-{name}") for name in ("first", "second")]
    for run in runs:
        _, printed = run.communicate()
        assert run.returncode == 0, printed

    first, second = (bundle_hashes(root / f"{name}.pkb") for name in ("first", "second"))
    assert len(first) > 8
    assert first == second


def test_of_two_compiles_into_one_folder_one_wins_and_the_other_says_so(root: Path) -> None:
    runs = [_compile(root, "out/one.pkb", "cache-first") for _ in range(2)]
    printed = [run.communicate()[1].strip() for run in runs]

    codes = [run.returncode for run in runs]
    assert sorted(codes) == [0, 2], printed
    lost = printed[codes.index(2)]
    assert "\n" not in lost
    # the slower one to start finds the other at work or, if it was very slow, its bundle
    assert "one.pkb: is being written by another run" in lost or "exists already" in lost
    check_bundle(root / "out" / "one.pkb")
    assert {p.name for p in (root / "out").iterdir()} == {"one.pkb", "one.pkb.toml"}
