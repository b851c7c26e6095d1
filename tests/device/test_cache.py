"""The kit's cache by itself: a kill between any two steps leaves the old plan or the new one."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pkecho_edge.device import pkecho_device as kit

FACTS = dict.fromkeys(kit.IDENTITY, "same")
RECORD = {"key": "k" * 64, "facts": FACTS, "graph": "clip.onnx"}


def test_a_kill_between_any_two_steps_of_a_commit(tmp_path: Path) -> None:
    finished = 0
    for moment in range(100):
        folder = tmp_path / str(moment)
        with closing(kit.Cache(folder, FACTS, False)) as cache:
            cache.commit("clip", "fp16", b"old", RECORD)
        child = os.fork()
        if not child:
            _die_before(moment)
            kit.Cache(folder, FACTS, False).commit("clip", "fp16", b"new", RECORD)
            os._exit(0)
        finished = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

        with closing(kit.Cache(folder, FACTS, False)) as cache:
            record = cache.record("clip", "fp16")
            assert record is not None, moment
            data = cache.plan(record)
        assert data in (b"old", b"new"), moment
        assert [path.name for path in folder.glob("*.plan")] == [record["plan"]], moment
        assert not list(folder.glob("*.partial"))
        if finished:
            assert data == b"new"
            break
    assert finished
    assert moment > 10  # there were that many steps to die before


def _die_before(moment: int) -> None:
    """The process is gone before the n-th system call that changes files, as after kill -9."""
    calls = [0]

    def dying(call: Any) -> Any:
        def instead(*args: Any, **kwargs: Any) -> Any:
            if calls[0] == moment:
                os._exit(9)
            calls[0] += 1
            return call(*args, **kwargs)

        return instead

    for name in ("replace", "fsync", "unlink", "open", "close"):
        setattr(os, name, dying(getattr(os, name)))
    kit.open = dying(open)  # type: ignore[attr-defined]  # found before the builtin


def test_only_what_the_kit_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / f"clip-fp16-{'0' * 12}.plan").write_bytes(b"plan")
    (tmp_path / "notes.plan").write_bytes(b"another's")
    (tmp_path / "clip-int8.built.partial").write_bytes(b"half")

    kit.Cache(tmp_path, FACTS, False).close()

    assert {path.name for path in tmp_path.iterdir()} == {"notes.plan", "lock"}


def test_a_record_that_leads_elsewhere_is_none(tmp_path: Path) -> None:
    with closing(kit.Cache(tmp_path, FACTS, False)) as cache:
        record = cache.commit("clip", "fp16", b"plan", RECORD)
    assert record["sha256"] == hashlib.sha256(b"plan").hexdigest()
    text = (tmp_path / "clip-fp16.json").read_text()

    for plan in ("../plan", "/etc/passwd", "a.plan.txt"):
        (tmp_path / "clip-fp16.json").write_text(text.replace(record["plan"], plan))
        assert cache.record("clip", "fp16") is None


@pytest.mark.parametrize(
    ("text", "expected"), [("10.3.0.post1", (10, 3, 0)), ("8.5.2.2", (8, 5, 2, 2)), ("x", ())]
)
def test_versions_are_compared_as_numbers(text: str, expected: tuple[int, ...]) -> None:
    assert kit.release(text) == expected


def test_the_nodes_of_an_onnx_file_are_named_in_order() -> None:
    onnx = pytest.importorskip("onnx")
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"], name="/a/Relu")]
    nodes += [onnx.helper.make_node("Add", ["y", "x"], ["z"], name="")]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))

    assert kit.node_names(model.SerializeToString()) == ["/a/Relu (Relu)", " (Add)"]
    assert kit.node_names(b"\xff" * 40) == []
