"""What a user gets without us: the network exported as it is, and the toolchains' own INT8 of it.

The export is what the tutorials of PyTorch, ONNX Runtime, OpenVINO and NNCF lead to: a float clip
in, the logits of every refinement out. A careful user would keep the last mask only; that export is
here, too.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pkecho_edge.data.clip import Clip
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.targets.base import CompileOptions, Engine
from pkecho_edge.targets.openvino_cpu import port_spec

__all__ = [
    "as_floats",
    "export_unlowered",
    "quantize_by_nncf",
    "quantize_by_onnxruntime",
    "quantize_onnx_by_nncf",
]

INPUT = "clips"
_OPSET = 17


class _LastMask(nn.Module):
    def __init__(self, network: PKEchoNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        last: Tensor = self.network(clips)[-1]
        return last


def as_floats(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """u8 [T, 1, H, W] -> f32 [1, T, 1, H, W] in [0, 1], the network's own input."""
    return frames[None].astype(np.float32) / np.float32(255)


def export_unlowered(
    network: PKEchoNet, frames: NDArray[np.uint8], path: Path, *, last_mask_only: bool = False
) -> None:
    """Write the network as ONNX by PyTorch's exporter, without any change to it.

    Args:
        network: in evaluation mode.
        frames: u8 [T, 1, H, W], an example of its input.
        path: of the ONNX file: `clips` f32 [1, T, 1, H, W] -> a mask f32 [1, T, 1, H, W] per
            refinement and one before them, the final one last.
        last_mask_only: whether the final mask is the only output.
    """
    module = _LastMask(network) if last_mask_only else network
    masks = 1 if last_mask_only else network.config.refinements + 1
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own: it is deprecated
        torch.onnx.export(
            module.eval(),
            (torch.from_numpy(as_floats(frames)),),
            str(path),
            input_names=[INPUT],
            output_names=[f"masks_{index}" for index in range(masks)],
            opset_version=_OPSET,
            dynamo=False,
        )


def quantize_by_onnxruntime(graph: Path, clips: Sequence[Clip], path: Path) -> None:
    """ONNX Runtime's `quantize_static` with its defaults (Q/DQ, INT8 per tensor, min-max).

    Args:
        graph: of export_unlowered.
        clips: calibration.
        path: of the quantized ONNX file.
    """
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ships no annotations
        """Clip after clip, then None."""

        def __init__(self) -> None:
            self._clips = iter(clips)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            clip = next(self._clips, None)
            return None if clip is None else {INPUT: as_floats(clip.frames)}

    with _quiet():
        quantize_static(str(graph), str(path), Reader())


def quantize_by_nncf(
    graph: Path, feeds: Sequence[NDArray[np.generic]], threads: int, folder: Path
) -> dict[str, Engine]:
    """NNCF's default INT8 of the OpenVINO model, and engines to load it with.

    Args:
        graph: ONNX with one input.
        feeds: calibration, arrays that the input takes.
        threads: of the engines; 0 for every core.
        folder: for the IR; it is made.

    Returns:
        precision of the layers that stay in float, "f32" or "bf16" -> engine; of one file.
    """
    import nncf
    import openvino as ov

    folder.mkdir(parents=True)
    with _quiet():
        quantized = nncf.quantize(
            ov.convert_model(graph), nncf.Dataset(feeds), subset_size=len(feeds)
        )
    ov.save_model(quantized, folder / "model.xml", compress_to_fp16=False)  # as all others here
    return {
        floats: Engine(
            target="cpu",
            directory=folder,
            files=("model.xml", "model.bin"),
            inputs=tuple(map(port_spec, quantized.inputs)),
            outputs=tuple(map(port_spec, quantized.outputs)),
            options=CompileOptions(floats, threads).as_dict(),
            toolchain={"openvino": metadata.version("openvino")},
        )
        for floats in ("f32", "bf16")
    }


def quantize_onnx_by_nncf(graph: Path, feeds: Sequence[NDArray[np.generic]], path: Path) -> None:
    """NNCF's default INT8 of an ONNX graph, as ONNX.

    It takes the lowered graph, which NNCF's quantizer of OpenVINO models does not: it mistakes the
    constant that follows a convolution of four groups for a bias (nncf 3, "cannot reshape array").

    Args:
        graph: with one input.
        feeds: calibration, arrays that the input takes.
        path: of the quantized ONNX file; its folder is made.
    """
    import nncf
    import onnx

    model = onnx.load(graph)
    dataset = nncf.Dataset([{model.graph.input[0].name: feed} for feed in feeds])
    path.parent.mkdir(parents=True)
    with _quiet():
        onnx.save(nncf.quantize(model, dataset, subset_size=len(feeds)), path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The toolchains print and log; what they have to say is on the graph, not on our figures."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    was_disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(was_disabled)
