"""What the route uses of torch_tensorrt.dynamo, with the names and types that releases 2.11 to 2.13
take. It builds nothing: a plan names the program, which the stand-in for TensorRT runs by torch."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

__all__ = ["calls", "convert_exported_program_to_serialized_trt_engine"]

calls: list[dict[str, Any]] = []
"""What each call was told, oldest first."""


def convert_exported_program_to_serialized_trt_engine(
    exported_program: ExportedProgram,
    inputs: Any = None,
    *,
    arg_inputs: Any = None,
    kwarg_inputs: Any = None,
    device: Any = None,
    disable_tf32: bool = False,
    version_compatible: bool = False,
    optimization_level: int | None = None,
    hardware_compatible: bool = False,
    timing_cache_path: str = "",
) -> bytes:
    """Only arguments that all three releases have; the real one takes more."""
    assert isinstance(exported_program, ExportedProgram)
    assert inputs is None, "arg_inputs and inputs exclude each other"
    assert isinstance(arg_inputs, list)
    assert all(isinstance(each, torch.Tensor) for each in arg_inputs)
    assert isinstance(device, torch.device)
    assert isinstance(optimization_level, int)
    assert Path(timing_cache_path).parent.is_dir()
    taken = exported_program.module()(*arg_inputs)  # they are the program's own inputs
    calls.append(
        {
            "disable_tf32": disable_tf32,
            "version_compatible": version_compatible,
            "hardware_compatible": hardware_compatible,
            "shapes": [tuple(each.shape) for each in arg_inputs],
            "dtypes": [each.dtype for each in arg_inputs],
            "timing_cache": Path(timing_cache_path),
        }
    )
    path = Path(tempfile.mkdtemp(dir=os.environ["STAND_IN_PROGRAMS"])) / "program.pt2"
    torch.export.save(exported_program, path)
    names = [str(name) for name in exported_program.graph_signature.user_inputs]
    results = [taken] if isinstance(taken, torch.Tensor) else list(taken)
    plan = {
        "version": os.environ["STAND_IN_VERSION"],
        "sm": os.environ.get("STAND_IN_SM", "87"),
        "program": str(path),
        "inputs": [_port(name, each) for name, each in zip(names, arg_inputs, strict=True)],
        "outputs": [
            _port(name, each)
            for name, each in zip(("output0", "output1")[: len(results)], results, strict=True)
        ],
    }
    return json.dumps(plan).encode()


def _port(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    kinds = {torch.uint8: "tensor(uint8)", torch.float32: "tensor(float)"}
    return {"name": name, "type": kinds[tensor.dtype], "shape": list(tensor.shape)}
