"""The C library on OpenVINO engines gives the masks of the Python runtime, bit for bit."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pkecho_edge import targets
from pkecho_edge.bundle.golden import GoldenVectors
from pkecho_edge.bundle.manifest import (
    EngineEntry,
    GoldenTolerances,
    Lineage,
    Manifest,
    Postprocessing,
    Preprocessing,
    Window,
)
from pkecho_edge.bundle.writer import add_engine, finish, staging
from pkecho_edge.lowering.onnx_export import export_stream_onnx
from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.runtime import open_bundle, stream_runner
from pkecho_edge.targets.base import CompileOptions
from tests.firmware.library import CReport, EngineHandle, Library, Refused

SIZE = (96, 128)

Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def frames() -> Frames:
    """u8 [1000, H, W]: smooth random pictures, that a network finds something in."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (1000, 12, 16), dtype=np.uint8)
    return np.kron(coarse, np.ones((1, 8, 8), dtype=np.uint8))


@pytest.fixture(scope="module", params=[4, 10], ids=["T=4", "T=10"])
def bundle(
    request: pytest.FixtureRequest, frames: Frames, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A narrow FP32 network with a window of T frames, stream mode alone."""
    return write_bundle(tmp_path_factory.mktemp("real"), request.param, frames)


def write_bundle(folder: Path, length: int, frames: Frames, seed: int = 0) -> Path:
    clip = frames[:length, None]
    network = settled_network(length, clip, seed)
    graph, out = folder / "stream.onnx", folder / "compiled"
    out.mkdir()
    export_stream_onnx(network, SIZE, graph, clip)
    cpu = targets.get("cpu")
    compiled = cpu.compile({"stream": graph}, out, CompileOptions(threads=1))["stream"]
    with cpu.load(compiled) as session:
        logits = stream_runner(session, compiled)(clip)
    threshold = float(np.median(logits))
    with staging(folder / "real.pkb") as place:
        entry = EngineEntry.of(add_engine(place, compiled), mode="stream")
        GoldenVectors.of(clip, logits, threshold).write(place / "golden" / "stream")
        finish(place, manifest_of(entry, length, threshold))
    return folder / "real.pkb"


def settled_network(length: int, clip: Frames, seed: int) -> PKEchoNet:
    torch.manual_seed(seed)
    inner = (((16,), (16,)), ((24,), (24,)), ((32,), (32,)), ((32,), (32,)))
    network = PKEchoNet(NetworkConfig(frames=length, widths=Widths(16, (16, 24, 32, 32), inner)))
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(clip[None]).float() / 255)
    return network.eval()


def manifest_of(entry: EngineEntry, length: int, threshold: float) -> Manifest:
    return Manifest(
        target="cpu",
        profile=None,
        engines=(entry,),
        preprocessing=Preprocessing(size=SIZE),
        postprocessing=Postprocessing(threshold=threshold, component="largest"),
        window=Window(length=length),
        golden=GoldenTolerances(pixels_fraction=0.0, area_fraction=0.0),
        lineage=Lineage("1" * 64, None, None, None, {"openvino": "2026"}),
    )


def test_the_self_test_passes_to_the_last_bit(pkecho: Library, bundle: Path) -> None:
    with pkecho.open_bundle(bundle) as opened, opened.engine() as engine:
        assert engine.self_test().max_abs_logit_difference == 0.0
        assert engine.info().runtime.startswith(b"OpenVINO 2026.")


def test_a_thousand_frames_give_the_masks_of_the_python_runtime(
    pkecho: Library, bundle: Path, frames: Frames
) -> None:
    areas = set()
    with (
        open_bundle(bundle) as python,
        python.stream() as theirs,
        pkecho.open_bundle(bundle) as opened,
        opened.engine() as engine,
        engine.stream() as ours,
    ):
        for number, frame in enumerate(frames):
            # of three geometries, in runs longer than a window
            shown = (frame, frame[:90, :100], np.repeat(frame, 2, axis=0))[number // 50 % 3]
            expected, found = theirs.push(shown), ours.push(shown)
            np.testing.assert_array_equal(found.mask, expected.mask)
            np.testing.assert_array_equal(found.contour, expected.contour)
            assert bool(found.raw.flags & 2) == expected.warming_up
            areas.add(expected.area_px)
    assert len(areas) > 100


# ---- The cache: blobs of OpenVINO that the back-end keeps

once = pytest.mark.parametrize("bundle", [10], indirect=True, ids=["T=10"])


def blobs(folder: Path) -> list[Path]:
    """What is kept there: nothing but blobs and the lock."""
    found = sorted(folder.iterdir())
    assert all(path.suffix == ".blob" or path.name == "lock" for path in found)
    return [path for path in found if path.suffix == ".blob"]


def written(blob: Path) -> tuple[int, int]:
    """Another pair wherever the file was written again."""
    status = blob.stat(follow_symlinks=False)
    return status.st_ino, status.st_mtime_ns


def masks_of(engine: EngineHandle, frames: Frames) -> Frames:
    """Of a run longer than a window; the engine's logits are the golden ones."""
    assert engine.self_test().max_abs_logit_difference == 0.0
    with engine.stream() as stream:
        return np.stack([stream.push(frame).mask for frame in frames[:30]])


def start(pkecho: Library, bundle: Path, **options: Any) -> list[str]:
    """Open and test the engine; what the log said."""
    pkecho.lines.clear()
    with pkecho.open_bundle(bundle) as opened, opened.engine(**options) as engine:
        assert engine.self_test().max_abs_logit_difference == 0.0
    return said_of_it(pkecho)


def said_of_it(pkecho: Library) -> list[str]:
    """The log's lines about the cache."""
    return [line for _, line in pkecho.lines if "cache_dir" in line]


def sealed(name: str, blob: bytes) -> bytes:
    """A file of this name, whole."""
    key = name.removeprefix("openvino-").removesuffix(".blob")
    return hashlib.sha256(key.encode() + blob).hexdigest().encode() + blob


def test_a_second_start_imports_what_the_first_one_kept(
    pkecho: Library, bundle: Path, frames: Frames, tmp_path: Path
) -> None:
    with pkecho.open_bundle(bundle) as opened:
        with opened.engine() as engine:
            expected = masks_of(engine, frames)
        pkecho.lines.clear()
        with opened.engine(cache_dir=tmp_path) as engine:
            np.testing.assert_array_equal(masks_of(engine, frames), expected)
        [blob] = blobs(tmp_path)
        first = written(blob)
        assert blob.read_bytes() == sealed(blob.name, blob.read_bytes()[64:])
        assert blob.stat().st_mode & 0o777 == 0o644
        with opened.engine(cache_dir=tmp_path) as engine:
            np.testing.assert_array_equal(masks_of(engine, frames), expected)
    assert blobs(tmp_path) == [blob]
    assert written(blob) == first
    assert said_of_it(pkecho) == []
    assert expected.any()
    assert not expected.all()


@once
def test_what_is_imported_lives_as_long_as_the_engine(
    firmware_build: Path, bundle: Path, tmp_path: Path
) -> None:
    """OpenVINO leaves constants where they lie in the blob. What is freed is unmapped here."""
    command = [firmware_build / "pkecho-exercise", "self-test", bundle]
    command += [firmware_build / "lib/pkecho", tmp_path]
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_PERTURB_": "170"}
    for _ in ("filled", "used"):
        done = subprocess.run(
            command, env=os.environ | settings, capture_output=True, text=True, check=False
        )
        assert "logits differ by up to 0," in done.stdout, (done.returncode, done.stderr)
        assert len(blobs(tmp_path)) == 1


@once
def test_it_is_the_blob_that_runs(
    pkecho: Library, bundle: Path, frames: Frames, tmp_path: Path
) -> None:
    """Another network's under this one's name is found out by the self-test alone."""
    other, cache, its_cache = tmp_path / "other", tmp_path / "cache", tmp_path / "its"
    for folder in (other, cache, its_cache):
        folder.mkdir()
    start(pkecho, bundle, cache_dir=cache)
    start(pkecho, write_bundle(other, 10, frames, seed=1), cache_dir=its_cache)
    [blob], [its] = blobs(cache), blobs(its_cache)
    assert blob.name != its.name

    blob.write_bytes(sealed(blob.name, its.read_bytes()[64:]))

    with pkecho.open_bundle(bundle) as opened, opened.engine(cache_dir=cache) as engine:
        report = CReport(ctypes.sizeof(CReport))
        with pytest.raises(Refused):
            engine.self_test(report)
        assert report.max_abs_logit_difference > 0.0


@once
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "link", "of another key", "refused"])
def test_a_damaged_blob_is_said_not_used_and_replaced(
    pkecho: Library, bundle: Path, damage: str, tmp_path: Path
) -> None:
    cache, kept = tmp_path / "cache", tmp_path / "kept"
    cache.mkdir()
    start(pkecho, bundle, cache_dir=cache)
    [blob] = blobs(cache)
    data = blob.read_bytes()
    if damage == "cut":
        blob.write_bytes(data[:-1])
    elif damage == "flipped":
        middle = len(data) // 2
        blob.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif damage == "empty":
        blob.write_bytes(b"")
    elif damage == "link":
        blob.replace(kept)
        blob.symlink_to(kept)
    elif damage == "of another key":
        start(pkecho, bundle, cache_dir=cache, threads=2)
        [other] = [path for path in blobs(cache) if path != blob]
        other.replace(blob)
    else:
        blob.write_bytes(sealed(blob.name, b"no blob of OpenVINO"))
    why = {"link": "it is no plain file", "refused": "OpenVINO refuses it"}
    before = written(blob)

    [line] = start(pkecho, bundle, cache_dir=cache)

    assert f"cache_dir {cache}: {blob.name}: {why.get(damage, 'it is damaged')}" in line
    assert line.endswith("the engine is compiled again")
    assert not blob.is_symlink()
    assert written(blob) != before
    assert damage != "link" or kept.read_bytes() == data
    replaced = written(blob)
    assert start(pkecho, bundle, cache_dir=cache) == []
    assert written(blob) == replaced


@once
def test_a_folder_in_the_place_of_a_blob_is_said_and_left(
    pkecho: Library, bundle: Path, tmp_path: Path
) -> None:
    start(pkecho, bundle, cache_dir=tmp_path)
    [blob] = blobs(tmp_path)
    blob.unlink()
    blob.mkdir()

    lines = start(pkecho, bundle, cache_dir=tmp_path)

    assert "it is no plain file" in lines[0]
    assert f"cache_dir {tmp_path} is not used: {blob.name} cannot be written" in lines[1]
    assert blobs(tmp_path) == [blob]
    assert blob.is_dir()


@once
def test_other_threads_or_another_processor_make_another_blob(
    pkecho: Library, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An older one stays. oneDNN has read the variable by now: only the key hears of it."""
    for count in (1, 2):
        start(pkecho, bundle, cache_dir=tmp_path, threads=count)
        assert len(blobs(tmp_path)) == count
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "DEFAULT")
    start(pkecho, bundle, cache_dir=tmp_path, threads=2)
    assert len(blobs(tmp_path)) == 3


@once
def test_another_process_that_writes_is_not_written_over(
    pkecho: Library, bundle: Path, tmp_path: Path
) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        [line] = start(pkecho, bundle, cache_dir=tmp_path)
        assert "another process writes there" in line
        assert blobs(tmp_path) == []
    assert start(pkecho, bundle, cache_dir=tmp_path) == []
    [blob] = blobs(tmp_path)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert start(pkecho, bundle, cache_dir=tmp_path) == [], "reading needs no lock"
    assert blobs(tmp_path) == [blob]


@once
def test_a_kill_while_it_is_written_leaves_nothing_that_is_used(
    pkecho: Library, bundle: Path, tmp_path: Path
) -> None:
    """What is left is a partial file, be it a link, and the next start writes over the former."""
    cache, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    cache.mkdir()
    start(pkecho, bundle, cache_dir=cache)
    [blob] = blobs(cache)
    data = blob.read_bytes()
    blob.unlink()
    elsewhere.write_bytes(data)
    (cache / f"{blob.name}.partial").symlink_to(elsewhere)

    assert start(pkecho, bundle, cache_dir=cache) == []

    assert blobs(cache) == [blob]
    assert not blob.is_symlink()
    assert elsewhere.read_bytes() == data


@once
def test_a_cache_that_cannot_be_used_is_said_and_done_without(
    pkecho: Library, bundle: Path, tmp_path: Path
) -> None:
    """A file, nothing, and a folder that nobody can write to."""
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "nowhere", Path("/proc")):
        [line] = start(pkecho, bundle, cache_dir=place)
        assert f"cache_dir {place} is not used" in line
        assert line.endswith("Give a folder of the service's own user")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_engine_that_is_not_what_its_manifest_says_is_refused(
    pkecho: Library, frames: Frames, tmp_path: Path
) -> None:
    path = write_bundle(tmp_path, 10, frames)
    other = tmp_path / "other.pkb"
    with open_bundle(path) as opened, staging(other) as place:
        manifest = opened.bundle.manifest
        for name in ("engine", "golden"):
            (place / name).mkdir()
        for entry in manifest.files:
            if entry.path.startswith(("engine/", "golden/")):
                (place / entry.path).parent.mkdir(exist_ok=True)
                (place / entry.path).write_bytes(opened.bundle.read(entry.path))
        stream = manifest.engine("stream")
        renamed = replace(
            stream,
            inputs=tuple(
                replace(spec, shape=(9, 40, 3, 4)) if spec.name == "history" else spec
                for spec in stream.inputs
            ),
            outputs=tuple(
                replace(spec, shape=(9, 40, 3, 4)) if spec.name == "history_out" else spec
                for spec in stream.outputs
            ),
        )
        finish(place, replace(manifest, engines=(renamed,), files=()))
    opened_other = pkecho.open_bundle(other)
    with opened_other, pytest.raises(Refused, match="other inputs or outputs") as refused:
        opened_other.engine()
    assert refused.value.status == "ENGINE_INTERFACE"
