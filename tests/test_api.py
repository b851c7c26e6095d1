"""The verbs as functions: the command line's defaults, its errors, and lines that can be off."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pkecho_edge as pk
from pkecho_edge import api, pipeline
from pkecho_edge.cli.compile_options import CompileSettings
from pkecho_edge.errors import UsageError
from pkecho_edge.stages import LineObserver, SilentObserver

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What reaches the street, which is not gone."""
    calls: Calls = []
    monkeypatch.setattr(pipeline, "compile", lambda *a, **k: calls.append((a, k)))
    return calls


def test_defaults_are_those_of_the_command_line() -> None:
    typed = {field.name: field.default for field in fields(CompileSettings)}
    ours = {name: p.default for name, p in inspect.signature(pk.compile).parameters.items()}

    shared = (typed.keys() & ours.keys()) - {"size"}
    assert shared >= {"phantoms", "target", "clips", "verify_clips", "rule", "seed", "threads"}
    assert {name: ours[name] for name in shared} == {name: typed[name] for name in shared}
    assert str(ours["size"]) == typed["size"]
    assert (typed["mode"], ours["modes"]) == ("both", ("clip", "stream"))


def test_without_anything_it_is_the_packaged_network_on_phantoms(compiled: Calls) -> None:
    pk.compile(progress=False)

    ((checkpoint, out), given) = compiled[0]
    assert checkpoint.name == "pkecho-resnet18.safetensors"
    assert out == Path("pkecho-resnet18-cpu.pkb")
    assert given["calibration"].description.startswith("phantoms")
    assert given["calibration"].count == 32
    assert given["verification"].count == 40
    assert given["limits"] == pipeline.DEFAULT_LIMITS
    assert given["pruning"] is None
    assert given["modes"] == ("clip", "stream")


def test_arguments_arrive(compiled: Calls) -> None:
    pk.compile(
        "a.safetensors", "b.pkb", data="recordings", size=(96, 128), clips=5, prune=0.5,
        gates={"speedup": 0.0}, threads=1, seed=7, overwrite=True, progress=False,
    )  # fmt: skip

    ((checkpoint, out), given) = compiled[0]
    assert (checkpoint, out) == (Path("a.safetensors"), Path("b.pkb"))
    assert given["calibration"].root == Path("recordings")
    assert (given["calibration"].split, given["verification"].split) == ("TRAIN", "TEST")
    assert given["calibration"].size == (96, 128)
    assert given["lessons"].root == Path("recordings")
    assert given["pruning"].ratio == 0.5
    assert given["limits"] == {**pipeline.DEFAULT_LIMITS, "speedup": 0.0}
    assert given["options"].threads == 1
    assert (given["calibration_clips"], given["seed"], given["overwrite"]) == (5, 7, True)


@pytest.mark.parametrize(
    ("progress", "kind"), [(True, LineObserver), (False, SilentObserver)], ids=["lines", "silent"]
)
def test_progress_is_lines_or_nothing(
    compiled: Calls, progress: bool, kind: type, capsys: pytest.CaptureFixture[str]
) -> None:
    pk.compile(progress=progress)

    observer = compiled[0][1]["observer"]
    assert isinstance(observer, kind)
    observer.start("export", None)
    observer.advance()
    observer.describe("half of it")
    observer.done("2 graphs")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("export: 2 graphs (") is progress


def test_an_observer_of_ones_own_is_taken(compiled: Calls) -> None:
    mine = SilentObserver()

    pk.compile(progress=mine)

    assert compiled[0][1]["observer"] is mine


def bundle_at(folder: Path) -> Path:
    """Where a bundle would lie, if anything looked."""
    return folder / "a.pkb"


def mistakes() -> dict[str, tuple[Callable[[Path], object], type[Exception], str]]:
    return {
        "size": (lambda _: pk.compile(size=100), UsageError, "size 100 is not possible"),
        "ratio": (lambda _: pk.compile(prune=1.5), UsageError, "1.5"),
        "target": (lambda _: pk.compile(target="toaster"), UsageError, "unknown target"),
        "rule": (lambda _: pk.compile(rule="best"), UsageError, "no range rule"),
        "clips": (lambda _: pk.compile(verify_clips=0), UsageError, "0 clips"),
        "phantoms": (lambda _: pk.compile("a.safetensors"), UsageError, "give either --data"),
        "clips of verify": (lambda at: pk.verify(bundle_at(at), clips=0), UsageError, "0 clips"),
        "itself": (
            lambda at: pk.verify(bundle_at(at), against=at / "a.pkb", data="data"),
            UsageError,
            "is compared with itself",
        ),
        "against and baseline": (
            lambda at: pk.verify(bundle_at(at), against="b.pkb", baseline="c", data="data"),
            UsageError,
            "--against with --baseline",
        ),
        "bundle": (lambda at: pk.verify(at / "no.pkb"), UsageError, "is not a bundle"),
        "recording": (
            lambda at: pk.run(at / "no.pkb", at / "no.avi"),
            UsageError,
            "is not a bundle",
        ),
    }


@pytest.mark.parametrize("case", mistakes())
def test_mistakes_are_the_errors_of_the_package(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, kind, says = mistakes()[case]
    if case in ("clips of verify", "itself", "against and baseline"):
        sized = SimpleNamespace(preprocessing=SimpleNamespace(size=(96, 96)))
        monkeypatch.setattr(api, "read_bundle", lambda _: SimpleNamespace(manifest=sized))

    with pytest.raises(kind, match=says):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []
