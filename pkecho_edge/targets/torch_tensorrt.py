"""Target `torch-tensorrt`: plans by way of torch, for a desktop that has TensorRT and the GPU.

What `--target tensorrt --via torch-tensorrt` builds: an exported program becomes a serialized
TensorRT engine. The other way, the ONNX graphs of target `tensorrt`, also has INT8, and builds on
the device. Written against Torch-TensorRT 2.11 to 2.13, whose
`torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine` takes precision from the
program's types. Not run on a GPU.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, PkechoEdgeError
from pkecho_edge.files import write_atomically
from pkecho_edge.targets.base import (
    Capabilities,
    CompileOptions,
    Engine,
    check_precision,
    release,
    unavailable,
)
from pkecho_edge.targets.cuda_device import architecture, missing_cuda
from pkecho_edge.targets.program import Program, check_program_precision, on_device, read_program
from pkecho_edge.targets.tensorrt_session import TensorRtSession, tensorrt_version

__all__ = ["TorchTensorRt"]

_INSTALL = "pip install 'pkecho-edge[tensorrt]'"
_SUFFIXES = {"f16": "fp16", "f32": "fp32"}
_OPTIMIZATION_LEVEL = 3
"""TensorRT's own default, said explicitly."""
_PACKAGES = ("torch", "torch_tensorrt")


class TorchTensorRt:
    """`clip-fp16.plan`, `stream-fp16.plan`, or the same with fp32; they run where they were built.

    Args:
        device: "cuda"; another one only to try the route against a stand-in.
    """

    name = "torch-tensorrt"
    capabilities = Capabilities(
        precisions=("f16", "f32"),
        scheme="",
        opset=0,
        portable=False,
        float_precision="f16",
        takes="pt2",
    )

    def __init__(self, device: str = "cuda") -> None:
        self._device = device

    def missing(self) -> str | None:
        """See Target.missing: a package, a torch without CUDA, or a GPU."""
        for name in ("torch", "torch_tensorrt"):
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                return _INSTALL
        return missing_cuda() if self._device == "cuda" else None

    def compile(
        self,
        graphs: Mapping[str, Path],
        out_dir: Path,
        options: CompileOptions,
        float_graphs: Mapping[str, Path] | None = None,
    ) -> dict[str, Engine]:
        """See Target.compile; `graphs` are .pt2 programs exported for the options' precision.

        Raises:
            EnvironmentMismatch: torch_tensorrt and torch are of different releases.
        """
        check_precision(self, options)
        if reason := self.missing():
            raise unavailable(self.name, reason)
        _check_pair()
        dynamo = _dynamo()
        programs = {mode: read_program(path) for mode, path in graphs.items()}
        for program in programs.values():
            check_program_precision(program, options.float_precision)
        return {
            mode: self._engine(dynamo, mode, program, out_dir, options)
            for mode, program in programs.items()
        }

    def _engine(
        self, dynamo: Any, mode: str, program: Program, out_dir: Path, options: CompileOptions
    ) -> Engine:
        path = out_dir / f"{mode}-{_SUFFIXES[options.float_precision]}.plan"
        write_atomically(path, self._plan(dynamo, program))
        return Engine(
            target=self.name,
            directory=out_dir,
            files=(path.name,),
            inputs=program.inputs,
            outputs=program.outputs,
            options={
                **options.as_dict(),
                "architecture": architecture(self._device),
                "tf32": "off",
                "optimization_level": str(_OPTIMIZATION_LEVEL),
            },
            toolchain={
                **{name: metadata.version(name) for name in _PACKAGES},
                "tensorrt": tensorrt_version(),
            },
        )

    def _plan(self, dynamo: Any, program: Program) -> bytes:
        """One serialized engine."""
        import torch

        try:
            exported = on_device(program, self._device)
            inputs, _ = exported.example_inputs
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

    def load(self, engine: Engine) -> TensorRtSession:
        """See Target.load: TensorRT alone loads a plan, torch has no part in it."""
        built = (engine.toolchain.get("tensorrt"), engine.options.get("architecture"))
        here = (tensorrt_version(), architecture(self._device))
        if built != here:
            raise EnvironmentMismatch(
                f"the plan was built with TensorRT {built[0]} for {built[1]}, "
                f"this is {here[0]} and {here[1]}",
                path=engine.directory,
                remedy="Compile it again on this machine",
            )
        return TensorRtSession(engine)


def _check_pair() -> None:
    """EnvironmentMismatch where the first two numbers of the releases differ.

    Such a pair fails when it is imported; that is told here, without importing either.
    """
    torch, partner = (metadata.version(name) for name in ("torch", "torch_tensorrt"))
    if release(torch)[:2] != release(partner)[:2]:
        wanted = ".".join(map(str, release(torch)[:2]))
        raise EnvironmentMismatch(
            f"torch_tensorrt {partner} does not go with torch {torch}",
            remedy=f"Run: pip install 'torch-tensorrt=={wanted}.*'",
        )


def _dynamo() -> Any:
    """torch_tensorrt.dynamo; MissingDependency where it cannot be imported."""
    try:
        return importlib.import_module("torch_tensorrt.dynamo")
    except Exception as error:  # without TensorRT's libraries it raises more than ImportError
        raise MissingDependency(
            f"torch_tensorrt cannot be imported ({error})", remedy=f"Run: {_INSTALL}"
        ) from error
