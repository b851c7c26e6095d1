"""The C library on OpenVINO engines gives the masks of the Python runtime, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
from tests.firmware.library import Library, Refused

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


def write_bundle(folder: Path, length: int, frames: Frames) -> Path:
    clip = frames[:length, None]
    network = settled_network(length, clip)
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


def settled_network(length: int, clip: Frames) -> PKEchoNet:
    torch.manual_seed(0)
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


def test_compiled_things_are_kept_where_the_caller_says(
    pkecho: Library, bundle: Path, tmp_path: Path
) -> None:
    with pkecho.open_bundle(bundle) as opened:
        with opened.engine(cache_dir=tmp_path) as engine:
            assert engine.self_test().max_abs_logit_difference == 0.0
        kept = list(tmp_path.iterdir())
        with opened.engine(cache_dir=tmp_path, self_test=1):
            assert list(tmp_path.iterdir()) == kept
    assert kept


def test_a_cache_that_cannot_be_used_is_said_and_done_without(
    pkecho: Library, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "nowhere"):
        pkecho.lines.clear()
        opened = pkecho.open_bundle(bundle)
        with opened, opened.engine(cache_dir=place) as engine:
            assert engine.self_test().max_abs_logit_difference == 0.0
        assert any(f"cache_dir {place} is not used" in line for _, line in pkecho.lines)
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
