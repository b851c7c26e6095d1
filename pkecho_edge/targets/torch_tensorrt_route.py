"""Plans by way of torch: an exported program to a serialized TensorRT engine, by Torch-TensorRT.

The other way to a plan is the ONNX graphs of target `tensorrt`, which also has INT8. Written
against Torch-TensorRT 2.11 to 2.13, whose
`torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine` takes precision from the
program's types. Not run on a GPU.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, PkechoEdgeError, UsageError
from pkecho_edge.files import write_atomically
from pkecho_edge.targets.base import release
from pkecho_edge.targets.program import Program, check_program_precision, on_device, read_program

__all__ = ["PlanReport", "TorchTensorRtRoute"]

_INSTALL = "pip install 'pkecho-edge[tensorrt]'"
_SUFFIXES = {"f16": "fp16", "f32": "fp32"}
_OPTIMIZATION_LEVEL = 3
"""TensorRT's own default, said explicitly."""


@dataclass(frozen=True)
class PlanReport:
    """What was written, and where it can run: on this GPU, with these versions.

    Attributes:
        plans: mode -> file.
        precision: of the convolutions, "f16" or "f32".
        versions: package name -> version, of torch, torch_tensorrt and tensorrt.
        gpu: its name.
        architecture: "sm_90", for example.
    """

    plans: Mapping[str, Path]
    precision: str
    versions: Mapping[str, str]
    gpu: str
    architecture: str


class TorchTensorRtRoute:
    """Writes `clip-fp16.plan`, `stream-fp16.plan`, or the same with fp32.

    Args:
        device: "cuda"; another one only to try the route against a stand-in.
    """

    def __init__(self, device: str = "cuda") -> None:
        self._device = device

    def build(
        self, programs: Mapping[str, Path], out_dir: Path, precision: str = "f16"
    ) -> PlanReport:
        """Build a plan for each program.

        Args:
            programs: mode -> .pt2 program, exported for `precision`.
            out_dir: exists; every plan appears in it whole or not at all.
            precision: "f16" or "f32".

        Raises:
            UsageError: another precision, or a program of another one.
            MissingDependency: Torch-TensorRT or a GPU is missing.
            EnvironmentMismatch: torch_tensorrt and torch are of different releases.
            PkechoEdgeError: TensorRT cannot build from a program.
        """
        suffix = _checked_suffix(precision)
        versions = _paired_versions()
        gpu, architecture = self._gpu()
        dynamo, versions["tensorrt"] = _imported()
        read = {mode: read_program(path) for mode, path in programs.items()}
        for program in read.values():
            check_program_precision(program, precision)
        plans = {}
        for mode, program in read.items():
            plans[mode] = out_dir / f"{mode}-{suffix}.plan"
            write_atomically(plans[mode], self._plan(dynamo, program))
        return PlanReport(plans, precision, versions, gpu, architecture)

    def _gpu(self) -> tuple[str, str]:
        """Name and architecture; MissingDependency without one."""
        import torch

        if self._device != "cuda":
            return self._device, self._device
        if not torch.cuda.is_available():
            raise MissingDependency(
                "there is no NVIDIA GPU that torch can use, and a plan is built on its own GPU",
                remedy="Run this on the machine that the plan is for",
            )
        major, minor = torch.cuda.get_device_capability()
        return torch.cuda.get_device_name(), f"sm_{major}{minor}"

    def _plan(self, dynamo: Any, program: Program) -> bytes:
        """One serialized engine."""
        import torch

        exported = on_device(program, self._device)
        inputs, _ = exported.example_inputs
        try:
            # a timing cache of its own: everyone on the machine shares the default one
            with tempfile.TemporaryDirectory() as scratch:
                plan = bytes(
                    dynamo.convert_exported_program_to_serialized_trt_engine(
                        exported,
                        arg_inputs=list(inputs),
                        device=torch.device(self._device),
                        disable_tf32=True,
                        version_compatible=False,
                        hardware_compatible=False,
                        optimization_level=_OPTIMIZATION_LEVEL,
                        timing_cache_path=str(Path(scratch, "timing.cache")),
                    )
                )
            if not plan:
                raise ValueError("the plan is empty")
        except Exception as error:  # 2.11 raises UnboundLocalError for what it cannot convert
            raise PkechoEdgeError(
                f"Torch-TensorRT cannot build a plan ({error})",
                path=program.path,
                remedy="Use the ONNX route: --target tensorrt",
            ) from error
        return plan


def _checked_suffix(precision: str) -> str:
    """UsageError for a precision that this route does not have."""
    if precision == "int8":
        raise UsageError(
            "INT8 by way of Torch-TensorRT would need ModelOpt's quantize operators",
            remedy="Use the ONNX route: --target tensorrt",
        )
    if precision not in _SUFFIXES:
        raise UsageError(
            f"Torch-TensorRT builds no plan in {precision} here", remedy="Use f16 or f32"
        )
    return _SUFFIXES[precision]


def _paired_versions() -> dict[str, str]:
    """Of torch and torch_tensorrt, without importing them.

    Raises:
        MissingDependency: one is not installed.
        EnvironmentMismatch: their first two numbers differ: such a pair fails when it is imported.
    """
    found = {}
    for name in ("torch", "torch_tensorrt"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError as error:
            raise MissingDependency(
                f"{name} is not installed", remedy=f"Run: {_INSTALL}"
            ) from error
    torch, partner = (release(version)[:2] for version in found.values())
    if torch != partner:
        wanted = ".".join(map(str, torch))
        raise EnvironmentMismatch(
            f"torch_tensorrt {found['torch_tensorrt']} does not go with torch {found['torch']}",
            remedy=f"Run: pip install 'torch-tensorrt=={wanted}.*'",
        )
    return found


def _imported() -> tuple[Any, str]:
    """torch_tensorrt.dynamo and TensorRT's version; MissingDependency where an import fails."""
    try:
        dynamo = importlib.import_module("torch_tensorrt.dynamo")
        tensorrt = importlib.import_module("tensorrt")
    except Exception as error:  # without TensorRT's libraries it raises more than ImportError
        raise MissingDependency(
            f"torch_tensorrt cannot be imported ({error})", remedy=f"Run: {_INSTALL}"
        ) from error
    return dynamo, str(tensorrt.__version__)
