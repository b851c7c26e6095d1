"""Finished stages are found again; damaged, half-done and foreign ones are not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pkecho_edge import stages
from pkecho_edge.errors import PkechoEdgeError, UsageError
from pkecho_edge.stages import StageCache, default_cache, package_sha256


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    return StageCache(tmp_path / "cache")


def write(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "graph").write_bytes(b"graph")


def refuse(folder: Path) -> None:
    raise AssertionError("the stage was there already")


def test_the_same_inputs_find_the_finished_stage(cache: StageCache) -> None:
    first = cache.run("export", {"weights": "1", "size": (96, 96)}, write)
    again = cache.run("export", {"size": [96, 96], "weights": "1"}, refuse)

    assert (first.reused, again.reused) == (False, True)
    assert again.folder == first.folder
    assert (again.folder / "deep" / "graph").read_bytes() == b"graph"


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("export", {"weights": "2"}), ("quantize", {"weights": "1"}), ("export", {})],
)
def test_other_inputs_do_not(cache: StageCache, name: str, inputs: dict[str, str]) -> None:
    first = cache.run("export", {"weights": "1"}, write)
    other = cache.run(name, inputs, write)

    assert not other.reused
    assert other.key != first.key
    assert other.folder != first.folder


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "add", "no list", "bad list"])
def test_a_damaged_stage_is_made_anew(cache: StageCache, damage: str) -> None:
    folder = cache.run("export", {}, write).folder
    graph = folder / "deep" / "graph"
    if damage == "flip":
        graph.write_bytes(b"grapi")
    elif damage == "truncate":
        graph.write_bytes(b"")
    elif damage == "delete":
        graph.unlink()
    elif damage == "add":
        (folder / "more").touch()
    elif damage == "no list":
        (folder / "hashes.json").unlink()
    else:
        (folder / "hashes.json").write_text("{")

    again = cache.run("export", {}, write)

    assert not again.reused
    assert graph.read_bytes() == b"graph"
    assert cache.run("export", {}, refuse).reused


@pytest.mark.parametrize("error", [PkechoEdgeError("no"), KeyboardInterrupt()])
def test_a_stage_that_fails_leaves_nothing(cache: StageCache, error: BaseException) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise error

    with pytest.raises(type(error)):
        cache.run("export", {}, fail)
    assert not cache.root.exists()


def test_a_full_disk_is_one_line_with_the_remedy(cache: StageCache) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError) as caught:
        cache.run("export", {}, fail)
    assert str(caught.value).endswith(
        "the cache cannot be written (No space left on device). "
        "Free some space, or set PKECHO_EDGE_CACHE to another folder"
    )
    assert not cache.root.exists()


def test_a_cache_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(UsageError, match="the cache cannot be written"):
        StageCache(tmp_path / "cache").run("export", {}, write)


def test_of_two_runs_of_one_stage_both_get_it(cache: StageCache) -> None:
    def slow(folder: Path) -> None:
        cache.run("export", {}, write)  # another run finishes while this one works
        write(folder)

    result = cache.run("export", {}, slow)

    assert (result.folder / "deep" / "graph").read_bytes() == b"graph"
    assert {p.name for p in cache.root.iterdir()} == {result.folder.name, "durations.json"}


def test_a_kept_file_is_found_by_its_hash_and_mended(cache: StageCache, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()

    kept = cache.keep(source, digest, "checkpoints")
    assert kept == cache.root / "checkpoints" / digest
    assert kept.read_bytes() == b"weights"

    kept.write_bytes(b"weigh")
    cache.keep(source, digest, "checkpoints")
    assert kept.read_bytes() == b"weights"
    assert [p.name for p in cache.root.iterdir()] == ["checkpoints"]


def test_the_cache_folder_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKECHO_EDGE_CACHE", "/somewhere")
    assert default_cache() == Path("/somewhere")
    monkeypatch.delenv("PKECHO_EDGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/else")
    assert default_cache() == Path("/else/pkecho-edge")


def test_another_source_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "__file__", str(tmp_path / "stages.py"))
    (tmp_path / "a.py").write_text("1")
    first = package_sha256()
    assert package_sha256() == first

    (tmp_path / "a.py").write_text("2")
    changed = package_sha256()
    (tmp_path / "a.py").rename(tmp_path / "b.py")

    assert len({first, changed, package_sha256()}) == 3


def test_parts_of_the_package_have_a_key_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "__file__", str(tmp_path / "stages.py"))
    for name in ("data/clip.py", "training/lessons.py", "training/loop.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    first = package_sha256("data", "training/lessons.py")

    (tmp_path / "training/loop.py").write_text("2")
    assert package_sha256("data", "training/lessons.py") == first
    (tmp_path / "training/lessons.py").write_text("2")
    changed = package_sha256("data", "training/lessons.py")
    (tmp_path / "data/clip.py").write_text("2")

    assert len({first, changed, package_sha256("data", "training/lessons.py")}) == 3
