"""What every target offers. Adding one: a module, a line in the registry, a page in docs/."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pkecho_edge.errors import EnvironmentMismatch, MissingDependency, UsageError
from pkecho_edge.targets.profile import Profile

__all__ = [
    "Capabilities",
    "CompileOptions",
    "Engine",
    "GuardedSession",
    "KeepsHistory",
    "LiveWindow",
    "Session",
    "Target",
    "TensorSpec",
    "check_inputs",
    "check_precision",
    "check_release",
    "release",
    "unavailable",
]

Arrays = Mapping[str, NDArray[np.generic]]
_Guarded = TypeVar("_Guarded", bound="GuardedSession")
_DTYPES: dict[str, np.dtype[Any]] = {"u8": np.dtype(np.uint8), "f32": np.dtype(np.float32)}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: name, "u8" or "f32", and a static shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def zeros(self) -> NDArray[Any]:
        """An array of zeros that fits."""
        return np.zeros(self.shape, dtype=_DTYPES[self.dtype])


@dataclass(frozen=True)
class Capabilities:
    """What a toolchain can do.

    Attributes:
        precisions: it can run, best first.
        scheme: name of the quantization scheme its graphs must follow; "" where it has no INT8.
        opset: newest ONNX operator set it reads; 0 where it takes no ONNX.
        portable: True where an engine runs on any machine of the family; False where it must be
            built on the device.
        device_kit: whether that is done later, by the kit that goes into the bundle: what is loaded
            here is then the graph, to measure its accuracy.
        float_precision: of the layers that are not INT8, where none is asked for.
        float_graphs: whether it compiles the graphs as they were before quantization, too.
        profile: the device that is meant where none is named; None where profiles say nothing.
        takes: "onnx", or "pt2" for torch.export programs, written in the options' float precision.
        round_to: channels that its fastest layers take at once: pruned widths are a multiple of it.
    """

    precisions: tuple[str, ...]
    scheme: str
    opset: int
    portable: bool
    float_precision: str = "f32"
    float_graphs: bool = False
    profile: str | None = None
    device_kit: bool = False
    takes: Literal["onnx", "pt2"] = "onnx"
    round_to: int = 8


@dataclass(frozen=True)
class CompileOptions:
    """Set explicitly, recorded in the manifest, never a toolchain's hardware-dependent default.

    Attributes:
        float_precision: of the layers that are not INT8: "f32", "bf16" or "f16".
        threads: at run time; 0 uses every core the process may use.
        profile: the device; None for targets that need none.
    """

    float_precision: str = "f32"
    threads: int = 0
    profile: Profile | None = None

    def __post_init__(self) -> None:
        if self.float_precision not in ("f32", "bf16", "f16"):
            raise UsageError(
                f"unknown float precision {self.float_precision!r}", remedy="Use f32, bf16 or f16"
            )
        if not 0 <= self.threads <= 256:
            raise UsageError(f"{self.threads} threads", remedy="Use 0 (all) to 256")

    def as_dict(self) -> dict[str, str]:
        """Text to text, for manifests and stage keys."""
        found = {"float_precision": self.float_precision, "threads": str(self.threads)}
        if self.profile is not None:  # the content too: a file of the user's may change
            found |= {"profile": self.profile.name, "profile_sha256": self.profile.sha256}
        return found


@dataclass(frozen=True)
class Engine:
    """What a toolchain compiled: files in a directory, and how to call them.

    Attributes:
        target: name of the target that made it.
        directory: where `files` lie.
        files: relative names, the main file first.
        inputs, outputs: in the order of the graph.
        options: precision, threads and whatever else was set, text to text.
        toolchain: package name to version.
    """

    target: str
    directory: Path
    files: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    toolchain: Mapping[str, str] = field(default_factory=dict)


class Session(Protocol):
    """A loaded engine. Not safe for two threads at a time. `with` closes it."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
        """One inference. The outputs are the caller's own copies.

        Raises:
            UsageError: missing or unknown inputs, another dtype or shape, or a closed session.
        """

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
        """An inference tied to fixed arrays: each call reads those inputs and fills those outputs.

        What is bound has state of its own: several may run at once, each in one thread at a time.

        Args:
            inputs, outputs: C-contiguous arrays, all of the engine's; the outputs writeable. They
                are used where they lie, without a copy where the toolchain can.

        Raises:
            UsageError: as `run`, now or when it is called.
        """

    def close(self) -> None:
        """Free the engine; a second call does nothing."""

    def __enter__(self) -> Session: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class LiveWindow(Protocol):
    """A stream engine's history from frame to frame. Not safe for two threads.

    Attributes:
        frame: u8 [H, W], write the next frame here.
        logits: f32 [H, W], of the newest frame; overwritten by the next `advance`.
        pushed: frames taken in since the start; the window is full once there were T.
    """

    frame: NDArray[np.uint8]
    logits: NDArray[np.float32]
    pushed: int

    def advance(self, *, anew: bool = False) -> None:
        """Take `frame` into the window and segment it into `logits`.

        Args:
            anew: forget every earlier frame first.

        Raises:
            UsageError: the session is closed.
        """

    def restart(self) -> None:
        """Forget every frame: the next one is the first."""


@runtime_checkable
class KeepsHistory(Protocol):
    """A session that keeps a stream's history where it computes, and so has windows of its own."""

    def window(self) -> LiveWindow:
        """A new one.

        Raises:
            UsageError: a clip engine, or the session is closed.
        """


class Target(Protocol):
    """A toolchain behind one interface."""

    name: str
    capabilities: Capabilities

    def missing(self) -> str | None:
        """What is not there, in one line; None when all is there.

        The command that installs it where one does ("pip install ..."), else what is absent.
        """

    def compile(
        self,
        graphs: Mapping[str, Path],
        out_dir: Path,
        options: CompileOptions,
        float_graphs: Mapping[str, Path] | None = None,
    ) -> dict[str, Engine]:
        """Compile graphs into `out_dir`, which exists and is empty.

        Args:
            graphs: mode ("clip", "stream") -> graph, of the kind that `capabilities.takes` names:
                ONNX, with quantizers or without, or an exported program. They have most weights in
                common: a target whose toolchain can keeps these once, so an engine's files may be
                another's too.
            float_graphs: the same before quantization, for a target that asks for them.

        Returns:
            an engine per mode.

        Raises:
            MissingDependency: see `missing`.
            PkechoEdgeError: the toolchain refused the graph.
            OSError: `out_dir` cannot be written, or the disk is full.
        """

    def load(self, engine: Engine) -> Session:
        """Make an engine ready to run.

        Raises:
            MissingDependency: see `missing`.
            EnvironmentMismatch: it was built for another version or machine.
        """


def unavailable(target: str, missing: str) -> MissingDependency:
    """The error for what a target's `missing()` said."""
    if missing.startswith("pip "):
        return MissingDependency(f"target {target} is not installed", remedy=f"Run: {missing}")
    return MissingDependency(
        f"target {target} cannot be used here: {missing}",
        remedy="Run pkecho-edge targets to see which can",
    )


def check_precision(target: Target, options: CompileOptions) -> None:
    """Refuse a float precision that a target does not have.

    Raises:
        UsageError: naming those that it has.
    """
    if options.float_precision not in target.capabilities.precisions:
        raise UsageError(
            f"target {target.name} has no {options.float_precision}",
            remedy=f"It has {', '.join(target.capabilities.precisions)}",
        )


def check_inputs(
    specs: tuple[TensorSpec, ...], arrays: Arrays, kind: Literal["inputs", "outputs"] = "inputs"
) -> None:
    """Compare arrays with what the engine takes, or gives.

    Raises:
        UsageError: names, dtypes or shapes differ.
    """
    if arrays.keys() != {spec.name for spec in specs}:
        raise UsageError(
            f"{kind} are {sorted(arrays)}, not {sorted(spec.name for spec in specs)}",
            remedy=f"Pass exactly the engine's {kind}",
        )
    for spec in specs:
        array = arrays[spec.name]
        if array.dtype != _DTYPES[spec.dtype] or array.shape != spec.shape:
            raise UsageError(
                f"{spec.name} is {array.dtype} {list(array.shape)}, "
                f"not {spec.dtype} {list(spec.shape)}",
                remedy="Resize and convert it as the manifest says",
            )


class GuardedSession(ABC):
    """What every session does alike: checks its inputs, one thread at a time, closes once.

    Args:
        engine: what was loaded.
    """

    def __init__(self, engine: Engine) -> None:
        self._inputs, self._outputs = engine.inputs, engine.outputs
        self._busy = threading.Lock()
        self._closed = False

    @abstractmethod
    def _infer(self, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
        """One inference with inputs that fit; the outputs must be copies."""

    @abstractmethod
    def _bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], object]:
        """An inference tied to arrays that fit; see Session.bind."""

    @abstractmethod
    def _free(self) -> None:
        """Let go of the engine; called once."""

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.generic]]:
        """See Session.run."""
        self._check_open()
        check_inputs(self._inputs, inputs)
        if not self._busy.acquire(blocking=False):
            raise UsageError("two threads run one session", remedy="Load one session per thread")
        try:
            return self._infer(inputs)
        finally:
            self._busy.release()

    def bind(self, inputs: Arrays, outputs: Arrays) -> Callable[[], None]:
        """See Session.bind."""
        self._check_open()
        check_inputs(self._inputs, inputs)
        check_inputs(self._outputs, outputs, "outputs")
        for name, array in (*inputs.items(), *outputs.items()):
            if not array.flags.c_contiguous or (name in outputs and not array.flags.writeable):
                raise UsageError(
                    f"{name} cannot be used where it lies",
                    remedy="Bind C-contiguous arrays, for the outputs writeable ones",
                )
        infer = self._bind(inputs, outputs)

        def run() -> None:
            self._check_open()
            infer()

        return run

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the session is closed", remedy="Load the engine again")

    def close(self) -> None:
        """See Session.close."""
        if not self._closed:
            self._closed = True
            self._free()

    def __enter__(self: _Guarded) -> _Guarded:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def release(version: str) -> tuple[int, ...]:
    """A version's first three numbers, for comparing; anything after them is ignored."""
    numbers = version.split("-")[0].split("+")[0].split(".")[:3]
    return tuple(int(n) for n in numbers if n.isdigit())


def check_release(engine: Engine, package: str) -> None:
    """A portable engine is read by the release that wrote it and by later ones, not by earlier.

    Raises:
        EnvironmentMismatch: `package` is older here than the engine's.
    """
    built, here = engine.toolchain.get(package, ""), metadata.version(package)
    if release(here) < release(built):
        raise EnvironmentMismatch(
            f"the engine was built with {package} {built}, this is {here}",
            path=engine.directory,
            remedy=f"Run: pip install '{package}>={built}'",
        )
