"""The verbs as functions: the command line's defaults, its errors, and lines that can be off."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

import pkecho_edge as pk
from pkecho_edge import api, pipeline
from pkecho_edge.cli.compile_options import CompileSettings
from pkecho_edge.errors import UsageError
from pkecho_edge.pipeline import CompileOrder
from pkecho_edge.stages import LineObserver, Observer, SilentObserver
from pkecho_edge.verify.gates import DEFAULT_LIMITS

Calls = list[tuple[CompileOrder, Observer]]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What reaches the street, which is not gone."""
    calls: Calls = []
    monkeypatch.setattr(
        pipeline, "compile", lambda order, observer: calls.append((order, observer))
    )
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

    order, _ = compiled[0]
    assert order.checkpoint.name == "pkecho-resnet18.safetensors"
    assert order.out == Path("pkecho-resnet18-cpu.pkb")
    assert order.calibration.description.startswith("phantoms")
    assert order.calibration.count == 32
    assert order.verification.count == 40
    assert order.limits == DEFAULT_LIMITS
    assert order.pruning is None
    assert order.modes == ("clip", "stream")


def test_arguments_arrive(compiled: Calls) -> None:
    pk.compile(
        "a.safetensors", "b.pkb", data="recordings", size=(96, 128), clips=5, prune=0.5,
        gates={"speedup": 0.0}, threads=1, seed=7, overwrite=True, progress=False,
    )  # fmt: skip

    order, _ = compiled[0]
    assert (order.checkpoint, order.out) == (Path("a.safetensors"), Path("b.pkb"))
    assert order.calibration.root == Path("recordings")
    assert (order.calibration.split, order.verification.split) == ("TRAIN", "TEST")
    assert order.calibration.size == (96, 128)
    assert order.lessons.root == Path("recordings")
    assert order.pruning is not None
    assert order.pruning.ratio == 0.5
    assert order.limits == {**DEFAULT_LIMITS, "speedup": 0.0}
    assert order.engine_options.threads == 1
    assert (order.calibration_clips, order.seed, order.overwrite) == (5, 7, True)


@pytest.mark.parametrize(
    ("progress", "kind"), [(True, LineObserver), (False, SilentObserver)], ids=["lines", "silent"]
)
def test_progress_is_lines_or_nothing(
    compiled: Calls, progress: bool, kind: type, capsys: pytest.CaptureFixture[str]
) -> None:
    pk.compile(progress=progress)

    _, observer = compiled[0]
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

    assert compiled[0][1] is mine


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
