"""What a user of a bundle may rely on, and what happens to one that changes under its feet."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pkecho_edge.bundle.golden import GoldenVectors
from pkecho_edge.data.resize import resize_frames
from pkecho_edge.errors import EnvironmentMismatch, IntegrityError, UsageError
from pkecho_edge.runtime import Engine, open_bundle
from pkecho_edge.runtime import engine as engine_module
from pkecho_edge.runtime.masks import largest_component
from pkecho_edge.targets.base import Session
from pkecho_edge.targets.openvino_cpu import OpenVinoCpu

Frames = NDArray[np.uint8]
WriteBundle = Callable[..., Path]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """The sessions that are loaded from now on."""
    sessions: list[Session] = []
    real = OpenVinoCpu.load

    def load(self: OpenVinoCpu, engine: object) -> Session:
        sessions.append(real(self, engine))
        return sessions[-1]

    monkeypatch.setattr(OpenVinoCpu, "load", load)
    return sessions


def test_engines_are_loaded_when_they_are_needed(
    bundle: Path, frames: Frames, loads: list[Session]
) -> None:
    with open_bundle(bundle) as engine:
        assert engine.modes == ("clip", "stream")
        assert loads == []
        engine.logits(frames[:4])
        engine.clip(frames[:4, 0])
        assert len(loads) == 1
        engine.stream()
        engine.stream()
        engine.stream_logits(frames)
        assert len(loads) == 2


def test_threads_that_need_an_engine_at_once_share_it(bundle: Path, loads: list[Session]) -> None:
    with open_bundle(bundle) as engine:
        threads = [threading.Thread(target=engine.stream) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(loads) == 1


def test_a_clip_of_any_size(engine: Engine, frames: Frames) -> None:
    clip = np.random.default_rng(1).integers(0, 256, (4, 112, 112), dtype=np.uint8)

    result = engine.clip(clip)

    expected = engine.logits(resize_frames(clip, (96, 128))[:, None])[:, 0]
    assert np.array_equal(result.logits, expected)
    assert np.array_equal(result.masks, expected > 0)
    assert result.areas_px.tolist() == [int(mask.sum()) for mask in result.masks]


@pytest.mark.parametrize("shape", [(3, 96, 128), (4, 1, 96, 128), (96, 128)])
def test_a_clip_that_is_none_is_refused(engine: Engine, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"not \[4, H, W\]"):
        engine.clip(np.zeros(shape, np.uint8))


def test_a_full_window_is_the_clips_last_frame(engine: Engine, frames: Frames) -> None:
    pushed = engine.stream_logits(frames)

    np.testing.assert_array_equal(np.array(list(engine.stream_steps(frames[:, 0]))), pushed[:, 0])
    for last in range(3, len(frames)):
        expected = engine.logits(frames[last - 3 : last + 1])[-1]
        assert np.abs(pushed[last] - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("mode", ["clip", "stream"])
def test_a_bundle_may_have_one_mode_only(
    write: WriteBundle, tmp_path: Path, frames: Frames, mode: str
) -> None:
    with open_bundle(write(tmp_path / "one.pkb", (mode,))) as engine:
        runs = {"clip": engine.logits, "stream": engine.stream_logits}
        other = "stream" if mode == "clip" else "clip"

        assert engine.modes == (mode,)
        assert runs[mode](frames[:4]).shape == (4, 1, 96, 128)
        with pytest.raises(EnvironmentMismatch, match=f"holds no '{other}' engine"):
            runs[other](frames[:4])
        assert list(engine.self_test()) == [mode]


def test_the_self_test_runs_every_mode(
    engine: Engine, write: WriteBundle, tmp_path: Path, golden: dict[str, GoldenVectors]
) -> None:
    spoilt = golden | {
        "stream": GoldenVectors.of(golden["stream"].frames, -golden["stream"].logits)
    }

    good = engine.self_test()
    with open_bundle(write(tmp_path / "spoilt.pkb", vectors=spoilt)) as other:
        bad = other.self_test()

    assert {mode: result.passed for mode, result in good.items()} == {"clip": True, "stream": True}
    assert good["stream"].max_abs_logit_difference == 0
    assert {mode: result.passed for mode, result in bad.items()} == {"clip": True, "stream": False}


def test_golden_masks_of_another_threshold_are_no_self_test(
    write: WriteBundle, tmp_path: Path, golden: dict[str, GoldenVectors]
) -> None:
    clip = golden["clip"]
    other = golden | {"clip": GoldenVectors.of(clip.frames, clip.logits, threshold=0.5)}

    with (
        open_bundle(write(tmp_path / "other.pkb", vectors=other)) as engine,
        pytest.raises(IntegrityError, match=r"above 0.5, the manifest's threshold is 0"),
    ):
        engine.self_test()


def test_an_older_bundle_than_the_caller_accepts_is_not_opened(bundle: Path) -> None:
    open_bundle(bundle, minimum_security_version=1).close()

    with pytest.raises(IntegrityError, match="security version 1, older than the minimum of 2"):
        open_bundle(bundle, minimum_security_version=2)


def test_a_closed_engine_refuses_everything(bundle: Path, frames: Frames) -> None:
    engine = open_bundle(bundle)
    stream = engine.stream()
    stream.push(frames[0, 0])

    engine.close()
    engine.close()

    for use in (
        lambda: engine.logits(frames[:4]),
        lambda: engine.clip(frames[:4, 0]),
        lambda: engine.stream_logits(frames),
        lambda: engine.stream_steps(frames[:, 0]),
        engine.stream,
        engine.self_test,
        lambda: stream.push(frames[1, 0]),
        stream.reset,
    ):
        with pytest.raises(UsageError, match="is closed"):
            use()


def test_an_unknown_target_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module.targets, "names", lambda: ("abacus",))

    with pytest.raises(EnvironmentMismatch, match="target 'cpu', which this version does not"):
        open_bundle(bundle)


def test_a_bundle_that_changes_while_an_engine_is_loaded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, closed = tmp_path / "a.pkb", []
    answers = iter(["first", "second"])

    class Session:
        def close(self) -> None:
            closed.append(self)

    class Target:
        def load(self, _: object) -> Session:
            return Session()

    class Bundle:
        path = folder

        def __init__(self) -> None:
            self.manifest_sha256 = next(answers)
            self.manifest = self
            self.target = "cpu"
            self.security_version = 1

        def engine(self, _: str) -> None: ...

    monkeypatch.setattr(engine_module, "check_bundle", lambda _: Bundle())
    monkeypatch.setattr(engine_module.targets, "get", lambda _: Target())
    engine = open_bundle(folder)
    with pytest.raises(IntegrityError, match=r"a\.pkb: it changed after it was opened"):
        engine.stream()
    assert len(closed) == 1


def replaced(bundle: Path) -> None:
    """By another one, as good."""
    note = bundle / "manifest.json"
    note.write_bytes(note.read_bytes() + b" ")


def overwritten(bundle: Path) -> None:
    """In place: a file that is mapped into memory would change a running engine."""
    weights = bundle / "engine" / "weights.bin"
    size = weights.stat().st_size
    with weights.open("r+b") as file:
        file.write(bytes(size))


def cut_short(bundle: Path) -> None:
    """In place: reading on in a mapped file would kill the process."""
    os.truncate(bundle / "engine" / "weights.bin", 0)


@pytest.mark.parametrize("change", [replaced, overwritten, cut_short, shutil.rmtree])
def test_a_bundle_that_changes_between_two_loads_is_refused(
    bundle: Path, tmp_path: Path, frames: Frames, change: Callable[[Path], None]
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "a.pkb"))
    with open_bundle(copy) as engine:
        before = engine.logits(frames[:4])
        change(copy)

        with pytest.raises(IntegrityError, match=r"a\.pkb: it changed after it was opened"):
            engine.stream()
        assert np.array_equal(engine.logits(frames[:4]), before)  # what is loaded was checked


@pytest.mark.parametrize("shape", [(4, 0, 5), (4, 15, 96), (4, 5000, 96)])
def test_clips_of_impossible_frames_are_refused(engine: Engine, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="sides from 16 to 4096"):
        engine.clip(np.zeros(shape, dtype=np.uint8))


def test_golden_vectors_of_another_size_are_an_integrity_error(
    bundle: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "a.pkb"))
    with open_bundle(copy) as engine:
        small = np.zeros((4, 1, 32, 32), dtype=np.uint8)
        GoldenVectors.of(small, small.astype(np.float32)).write(copy / "golden" / "clip")

        with pytest.raises(IntegrityError, match=r"golden frames are \[4, 1, 32, 32\]"):
            engine.self_test()


def test_the_component_rule_holds_for_clips(engine: Engine, frames: Frames) -> None:
    manifest = engine.bundle.manifest
    rule = replace(manifest.postprocessing, component="largest")
    opened = replace(engine.bundle, manifest=replace(manifest, postprocessing=rule))

    whole = engine.clip(frames[:4, 0])
    with Engine(opened) as largest:
        found = largest.clip(frames[:4, 0])

    assert np.array_equal(found.masks, [largest_component(mask) for mask in whole.masks])
    assert (found.areas_px < whole.areas_px).all()
