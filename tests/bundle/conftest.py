"""A small bundle: two frames of 96x96, an engine that is only bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pkecho_edge.bundle.golden import GoldenVectors
from pkecho_edge.bundle.manifest import (
    EngineEntry,
    GateLimit,
    GoldenTolerances,
    Lineage,
    Manifest,
    Postprocessing,
    Preprocessing,
    Reports,
    Window,
)
from pkecho_edge.bundle.reader import Bundle
from pkecho_edge.bundle.writer import write_bundle
from pkecho_edge.targets.base import Engine, TensorSpec

SHAPE = (2, 1, 96, 96)

WriteBundle = Callable[..., Bundle]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    folder = tmp_path / "compiled"
    folder.mkdir()
    (folder / "clip.xml").write_bytes(b"<net/>")
    (folder / "clip.bin").write_bytes(bytes(range(256)))
    return Engine(
        target="cpu",
        directory=folder,
        files=("clip.xml", "clip.bin"),
        inputs=(TensorSpec("frames", "u8", SHAPE),),
        outputs=(TensorSpec("logits", "f32", SHAPE),),
        options={"float_precision": "f32", "threads": "2"},
        toolchain={"openvino": "2026.1.0"},
    )


@pytest.fixture
def golden() -> GoldenVectors:
    """A bright disc of radius 20 px in the first frame, 15 px in the second."""
    rows, columns = np.ogrid[:96, :96]
    distance = np.hypot(rows - 48, columns - 48)
    logits = np.stack([20 - distance, 15 - distance])[:, None].astype(np.float32)
    frames = np.where(logits > 0, 30, 120).astype(np.uint8)
    return GoldenVectors.of(frames, logits)


@pytest.fixture
def draft(engine: Engine) -> Manifest:
    return Manifest(
        target="cpu",
        profile="generic-x86-64",
        engines=(EngineEntry.of(engine),),
        preprocessing=Preprocessing(size=(96, 96)),
        postprocessing=Postprocessing(),
        window=Window(length=2),
        golden=GoldenTolerances(pixels_fraction=0.002, area_fraction=0.02),
        lineage=Lineage(
            checkpoint_sha256="1" * 64,
            onnx_sha256="2" * 64,
            calibration_sha256="3" * 64,
            pruning_sha256=None,
            tool_versions={"nncf": "3.0.0", "torch": "2.11.0+cpu", "python": "3.11.7"},
            configuration={"backbone": "resnet18", "widths": [64, 128], "scheme": None},
            seed=7,
        ),
        gates=(
            GateLimit("dsc_drift", "clip", 0.5, "points"),
            GateLimit("speedup", "clip", 1.0, ""),
        ),
        reports=Reports(headline={"fps": 169.0, "verdict": "pass"}),
    )


@pytest.fixture
def write(tmp_path: Path, engine: Engine, golden: GoldenVectors, draft: Manifest) -> WriteBundle:
    """Writes the small bundle to a path; `report` is the content of its report."""

    def write_it(out: Path, *, report: str = "{}\n", overwrite: bool = False) -> Bundle:
        source = tmp_path / "report.json"
        source.write_text(report)
        note = tmp_path / "network.json"
        note.write_text("{}\n")
        return write_bundle(
            out,
            draft,
            engine=engine,
            golden=golden,
            model_files={"network.json": note},
            reports={"report.json": source},
            overwrite=overwrite,
        )

    return write_it


@pytest.fixture
def bundle(tmp_path: Path, write: WriteBundle) -> Bundle:
    return write(tmp_path / "heart.pkb")
