"""Durations are remembered as a hint: nothing that happens to their file matters to a run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pkecho_edge import durations as module
from pkecho_edge.durations import FILE, durations, remember
from pkecho_edge.stages import StageCache


def test_the_newest_eight_are_kept(tmp_path: Path) -> None:
    for seconds in range(10):
        remember(tmp_path, "export 96x96", seconds)
    remember(tmp_path, "export 128x128", 0.12345)

    assert durations(tmp_path, "export 96x96") == tuple(range(2, 10))
    assert durations(tmp_path, "export 128x128") == (0.123,)
    assert durations(tmp_path, "export") == ()


def test_where_nothing_was_remembered_there_is_nothing(tmp_path: Path) -> None:
    assert durations(tmp_path / "nowhere", "export") == ()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "[" * 99_999,
        '{"schema": "pkecho-edge/durations/1"}',
        '{"schema": "pkecho-edge/durations/1", "machines": []}',
        '{"schema": "pkecho-edge/durations/2", "machines": {"MACHINE": {"export": [5]}}}',
        '{"schema": "pkecho-edge/durations/1", "machines": {"MACHINE": [5]}}',
        '{"schema": "pkecho-edge/durations/1", "machines": {"MACHINE": {"export": 5}}}',
        '{"schema": "pkecho-edge/durations/1", "machines": {"MACHINE": '
        '{"export": [NaN, -1, "5", null, true, Infinity]}}}',
        '{"schema": "pkecho-edge/durations/1", "machines": {"MACHINE": '
        f'{{"export": [{10**400}]}}}}}}',
        "\udcff",
        " " * (2 << 20),
    ],
)
def test_a_damaged_file_counts_as_empty_and_is_written_anew(tmp_path: Path, text: str) -> None:
    remember(tmp_path, "export", 1)
    (machine,) = json.loads((tmp_path / FILE).read_text())["machines"]
    (tmp_path / FILE).write_text(text.replace("MACHINE", machine), errors="surrogateescape")
    assert durations(tmp_path, "export") == ()

    remember(tmp_path, "export", 2)

    assert durations(tmp_path, "export") == (2.0,)


def test_what_is_whole_in_a_damaged_file_stays(tmp_path: Path) -> None:
    remember(tmp_path, "export", 1)
    document = json.loads((tmp_path / FILE).read_text())
    (here,) = document["machines"].values()
    here |= {"choose": [None, 3.5], "quantize": "x"}
    (tmp_path / FILE).write_text(json.dumps(document))

    assert durations(tmp_path, "export") == (1.0,)
    assert durations(tmp_path, "choose") == (3.5,)


@pytest.mark.parametrize(
    ("fact", "value"), [("cpu_flags", frozenset({"sse4_2"})), ("allowed_cores", 4096)]
)
def test_another_processor_has_times_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fact: str, value: object
) -> None:
    remember(tmp_path, "export", 1)
    monkeypatch.setattr(module, fact, lambda: value)
    assert durations(tmp_path, "export") == ()

    remember(tmp_path, "export", 2)
    assert durations(tmp_path, "export") == (2.0,)

    monkeypatch.undo()
    assert durations(tmp_path, "export") == (1.0,)


def test_what_cannot_be_written_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    remember(tmp_path / "file", "export", 1)

    assert (tmp_path / "file").read_bytes() == b""
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_finished_stage_is_timed_and_one_that_was_there_is_not(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)

    def work(folder: Path) -> None:
        (folder / "graph").touch()

    for _ in range(2):
        cache.run("export", {}, work, "96x96")
    with pytest.raises(ZeroDivisionError):
        cache.run("export", {"other": 1}, lambda folder: 1 / 0, "96x96")

    assert len(cache.durations("export", "96x96")) == 1
    assert cache.durations("export") == ()
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_a_stage_is_found_without_being_run(tmp_path: Path) -> None:
    cache = StageCache(tmp_path / "cache")
    assert cache.find("export", {}) is None
    assert not (tmp_path / "cache").exists()

    done = cache.run("export", {}, lambda folder: (folder / "graph").touch())

    found = cache.find("export", {})
    assert found is not None
    assert (found.folder, found.key, found.reused) == (done.folder, done.key, True)
    (done.folder / "graph").write_bytes(b"damaged")
    assert cache.find("export", {}) is None
