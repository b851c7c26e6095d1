"""OpenVINO and ONNX Runtime on the same Q/DQ graphs, standard set. On demand: `pytest -m slow`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pkecho_edge import targets
from pkecho_edge.calibration.quantize import quantize_onnx
from pkecho_edge.data.sources import phantoms, standard_set
from pkecho_edge.data.standard import CALIBRATION_SEEDS, STANDARD_COUNT
from pkecho_edge.lowering.onnx_export import export_clip_onnx
from pkecho_edge.model.checkpoint import default_checkpoint_path, load_checkpoint
from pkecho_edge.targets.base import CompileOptions

LIMIT = 0.1
"""Percent of pixels whose mask differs."""


@pytest.mark.slow
@pytest.mark.parametrize("size", [(128, 128), (320, 320)])
def test_pixels_that_differ(tmp_path: Path, size: tuple[int, int]) -> None:
    """Every scheme; PKECHO_EDGE_RECORDINGS recordings, by default all 200."""
    recordings = int(os.environ.get("PKECHO_EDGE_RECORDINGS", STANDARD_COUNT))
    calibration = list(phantoms(CALIBRATION_SEEDS[:32], size))
    graph = tmp_path / "clip.onnx"
    export_clip_onnx(load_checkpoint(default_checkpoint_path()), size, graph, calibration[0].frames)
    quantized = {
        scheme: quantize_onnx(graph, calibration, tmp_path / f"{scheme}.onnx", scheme).path
        for scheme in ("cpu", "cpu-avx2", "onnxruntime", "tensorrt")
    }
    clips = list(standard_set(size, recordings))
    for scheme, path in quantized.items():
        masks = []
        for name in ("cpu", "onnxruntime"):
            folder = tmp_path / f"{scheme}-{name}"
            folder.mkdir()
            target = targets.get(name)
            engine = target.compile({"clip": path}, folder, CompileOptions())["clip"]
            with target.load(engine) as session:
                logits = [session.run({"frames": clip.frames})["logits"] for clip in clips]
            masks.append(np.stack(logits) > 0)
        differ = 100 * float(np.mean(masks[0] != masks[1]))
        print(f"{size[0]}x{size[1]}, {scheme}: {differ:.4f} % of pixels differ, {len(clips)} clips")
        assert differ <= LIMIT
