"""Target `cuda`: AOTInductor packages for NVIDIA GPUs, in floating point, without TensorRT.

A package (.pt2) holds native code and the weights. Python loads it here, C++ with torch's
AOTIModelPackageLoader. It runs on the torch release and the GPU architecture that it was built on.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import threading
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, PkechoEdgeError, UsageError
from pkecho_edge.targets.aotinductor_replay import (
    CudaGraph,
    DirectGraph,
    Graph,
    Inference,
    Model,
    ResidentWindow,
)
from pkecho_edge.targets.base import (
    Arrays,
    Capabilities,
    CompileOptions,
    Engine,
    GuardedSession,
    TensorSpec,
    check_precision,
    unavailable,
)
from pkecho_edge.targets.cuda_device import NO_GPU, architecture, missing_cuda
from pkecho_edge.targets.program import check_program_precision, on_device, read_program

__all__ = ["AotInductor", "AotInductorSession"]

_INSTALL = "pip install 'pkecho-edge[cuda]'"
_INTERFACE = "pkecho_interface"
"""Key in a package's metadata: what it takes and gives."""
_SETTINGS: dict[str, Any] = {
    # no debug information in what is shipped
    "aot_inductor.enable_line_tables": False,
    "aot_inductor.enable_frame_pointer": False,
    # kernels are chosen by rule, not by a race on a machine that may be busy
    "max_autotune": False,
}


class AotInductor:
    """`clip.pt2`, `stream.pt2`, each compiled from a torch.export program.

    Args:
        device: "cuda", or "cpu" to try the whole route where there is no GPU.
    """

    name = "cuda"
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
        """See Target.missing: no torch, a torch without CUDA, or no GPU."""
        if importlib.util.find_spec("torch") is None:
            return _INSTALL
        return missing_cuda() if self._device == "cuda" else None

    def _require(self) -> None:
        if reason := self.missing():
            raise unavailable(self.name, reason)
        if self._device == "cuda":
            import torch

            if not torch.cuda.is_available():  # a driver too old for this torch, for example
                raise unavailable(self.name, NO_GPU)

    def compile(
        self,
        graphs: Mapping[str, Path],
        out_dir: Path,
        options: CompileOptions,
        float_graphs: Mapping[str, Path] | None = None,
    ) -> dict[str, Engine]:
        """See Target.compile; `graphs` are .pt2 programs exported for the options' precision.

        Raises:
            MissingDependency: also where there is no C++ compiler.
        """
        self._require()
        check_precision(self, options)
        _require_compiler()
        return {mode: self._compile(mode, path, out_dir, options) for mode, path in graphs.items()}

    def _compile(self, mode: str, path: Path, out_dir: Path, options: CompileOptions) -> Engine:
        import torch

        program = read_program(path)
        check_program_precision(program, options.float_precision)
        out = out_dir / f"{mode}.pt2"
        built_for = architecture(self._device)
        interface = _interface(program.inputs, program.outputs)
        settings = {**_SETTINGS, "aot_inductor.metadata": {_INTERFACE: interface}}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, about parts of itself
                torch._inductor.aoti_compile_and_package(
                    on_device(program, self._device),
                    package_path=str(out),
                    inductor_configs=settings,
                )
        except OSError:
            raise
        except Exception as error:  # its exceptions have no common base of their own
            raise PkechoEdgeError(
                f"AOTInductor cannot compile the program ({error})",
                path=path,
                remedy="Report it with the program attached",
            ) from error
        return Engine(
            target=self.name,
            directory=out_dir,
            files=(out.name,),
            inputs=program.inputs,
            outputs=program.outputs,
            options={
                **options.as_dict(),
                "device": self._device,
                "architecture": built_for,
                "tf32": "off",
            },
            toolchain=_toolchain(),
        )

    def load(self, engine: Engine) -> AotInductorSession:
        """See Target.load."""
        self._require()
        _check_here(engine, self._device)
        return AotInductorSession(engine, self._device)


def _require_compiler() -> None:
    """MissingDependency without the C++ compiler that torch calls."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise MissingDependency(
            f"AOTInductor compiles C++, and there is no {compiler}",
            remedy="Install a C++ compiler, for example g++, or name yours in CXX",
        )


def _toolchain() -> dict[str, str]:
    import torch

    found = {"torch": metadata.version("torch")}
    return found | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


def _check_here(engine: Engine, device: str) -> None:
    """EnvironmentMismatch for another torch, CUDA or architecture: a package fits one of each."""
    built = _place(engine.toolchain, engine.options.get("architecture", "an unknown device"))
    here = _place(_toolchain(), architecture(device))
    if built != here:
        raise EnvironmentMismatch(
            f"the engine was built with {built}, this is {here}",
            path=engine.directory,
            remedy="Compile it again on this machine",
        )


def _place(toolchain: Mapping[str, str], architecture: str) -> str:
    cuda = f" and CUDA {toolchain['cuda']}" if "cuda" in toolchain else ""
    return f"torch {toolchain.get('torch', '(unknown)')}{cuda} for {architecture}"


def _interface(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """As text, for a package's metadata."""
    sides = [[[s.name, s.dtype, list(s.shape)] for s in side] for side in (inputs, outputs)]
    return json.dumps(sides)


class AotInductorSession(GuardedSession):
    """One loaded package; every bound inference captures a CUDA graph of its own."""

    def __init__(self, engine: Engine, device: str) -> None:
        super().__init__(engine)
        path = engine.directory / engine.files[0]
        self._device, self._turn = device, threading.Lock()
        try:
            self._model = _load(path, _interface(engine.inputs, engine.outputs))
            self._own = self._inference()
        except Exception as error:  # as in compile
            raise EnvironmentMismatch(
                f"torch cannot load the engine ({error})",
                path=path,
                remedy="Compile it again on this machine",
            ) from error

    def _graph(self) -> Graph:
        import torch

        if self._device == "cpu":
            return DirectGraph(self._turn)
        return CudaGraph(torch.cuda, torch.backends.cudnn)

    def _inference(self) -> Inference:
        return Inference(self._model, self._inputs, self._outputs, self._device, self._graph())

    def window(self) -> ResidentWindow:
        """A live window on a stream engine whose history stays on the device.

        Raises:
            UsageError: a clip engine, or the session is closed.
        """
        self._check_open()
        if "history" not in {spec.name for spec in self._inputs}:
            raise UsageError("a clip engine has no window", remedy="Load the stream engine")
        return ResidentWindow(
            self._model, self._inputs, self._outputs, self._device, self._graph, self._check_open
        )

    def _infer(self, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
        outputs = {spec.name: spec.zeros() for spec in self._outputs}
        self._own(inputs, outputs)
        return dict(outputs)

    def _bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], object]:
        inference = self._inference()
        taken, given = dict(inputs), dict(outputs)
        return lambda: inference(taken, given)

    def _free(self) -> None:
        del self._own, self._model


def _load(path: Path, interface: str) -> Model:
    """The package's model; ValueError where it is none, or another interface's."""
    import torch

    if not zipfile.is_zipfile(path):
        raise ValueError("it is no package")
    # single-threaded: no locks of its own, which a capture would trip over; turns see to it
    package = torch._inductor.aoti_load_package(str(path), run_single_threaded=True)
    if package.get_metadata().get(_INTERFACE) != interface:
        raise ValueError("the package takes and gives other tensors than its manifest says")

    def run(inputs: Sequence[Any]) -> Sequence[Any]:
        with torch.no_grad():
            results = package(*inputs)
        return (results,) if isinstance(results, torch.Tensor) else tuple(results)

    return run
