"""The packaged network at 96x96 for TensorRT: lowered, and quantized by its scheme."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pkecho_edge.calibration.quantize import quantize_onnx
from pkecho_edge.calibration.transfer import transfer_quantization
from pkecho_edge.data.clip import Clip
from pkecho_edge.data.sources import phantoms
from pkecho_edge.data.standard import CALIBRATION_SEEDS
from pkecho_edge.lowering.onnx_export import export_clip_onnx, export_stream_onnx
from pkecho_edge.model.checkpoint import default_checkpoint_path, load_checkpoint


@dataclass(frozen=True)
class Lowered:
    """Mode -> graph, in float and quantized; and clips that calibrated it."""

    floats: dict[str, Path]
    quantized: dict[str, Path]
    clips: list[Clip]


@pytest.fixture(scope="session")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    folder = tmp_path_factory.mktemp("lowered")
    network = load_checkpoint(default_checkpoint_path())
    clips = list(phantoms(CALIBRATION_SEEDS[:4], (96, 96)))
    floats = {mode: folder / f"{mode}.onnx" for mode in ("clip", "stream")}
    export_clip_onnx(network, (96, 96), floats["clip"], clips[0].frames)
    export_stream_onnx(network, (96, 96), floats["stream"], clips[0].frames)
    quantized = {mode: folder / f"{mode}.qdq.onnx" for mode in ("clip", "stream")}
    quantize_onnx(floats["clip"], clips, quantized["clip"], "tensorrt")
    transfer_quantization(quantized["clip"], floats["stream"], quantized["stream"])
    return Lowered(floats, quantized, clips)
