"""Reading a torch.export program (.pt2) that the export stage wrote; for targets that take one."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkecho_edge.errors import PkechoEdgeError, UsageError
from pkecho_edge.targets.base import TensorSpec

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["Program", "check_program_precision", "on_device", "read_program"]

_INPUTS = (("frames",), ("frame", "history"))
_OUTPUTS = ("logits", "history_out")


@dataclass(frozen=True)
class Program:
    """A program and how it is called.

    Attributes:
        path: where it was read.
        exported: on the CPU.
        precision: "f16" where any weight is in FP16, else "f32".
        inputs, outputs: in the order of the graph.
    """

    path: Path
    exported: ExportedProgram
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def read_program(path: Path) -> Program:
    """Read a program; no pickle in it is executed.

    Raises:
        PkechoEdgeError: it is none, holds Python objects, or is no graph of ours.
    """
    import torch

    try:
        _refuse_objects(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about parts of itself
            exported = torch.export.load(path)
        inputs, outputs = _interface(exported)
    except Exception as error:  # the reader raises many types, none documented
        raise PkechoEdgeError(
            f"no exported program can be read ({error})",
            path=path,
            remedy="Export it again with this version of torch",
        ) from error
    half = any(tensor.dtype == torch.float16 for tensor in exported.state_dict.values())
    return Program(path, exported, "f16" if half else "f32", inputs, outputs)


def check_program_precision(program: Program, precision: str) -> None:
    """UsageError where a program was not exported for the precision that is asked for."""
    if program.precision != precision:
        raise UsageError(
            f"the program was exported for {program.precision}, not {precision}",
            path=program.path,
            remedy="Export it for the precision that it is compiled for",
        )


def on_device(program: Program, device: str) -> ExportedProgram:
    """The program with weights, constants and example inputs on a device, "cpu" or "cuda"."""
    from torch.export.passes import move_to_device_pass

    if device == "cpu":
        return program.exported
    return move_to_device_pass(program.exported, device)


def _refuse_objects(path: Path) -> None:
    """ValueError for a file that torch would read with a pickle that may execute code.

    torch.export.load tries weights only, and falls back to everything where that fails.
    """
    import torch

    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if not any(name.endswith("models/model.json") for name in names):
            raise ValueError("it holds no program")
        for name in names:
            if name.endswith("_config.json") and _uses_pickle(json.loads(archive.read(name))):
                raise ValueError(f"{name} holds Python objects")
            if name.endswith(".pt"):
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)


def _uses_pickle(value: Any) -> bool:
    """Whether an entry anywhere in a configuration says that its payload is a pickle."""
    if isinstance(value, dict):
        return value.get("use_pickle") is True or any(map(_uses_pickle, value.values()))
    return isinstance(value, list) and any(map(_uses_pickle, value))


def _interface(
    exported: ExportedProgram,
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """What it takes and gives; ValueError where no graph of ours does."""
    signature = exported.graph_signature
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    names, results = signature.user_inputs, signature.user_outputs
    if tuple(names) not in _INPUTS or len(results) != len(names):
        raise ValueError(f"it takes {', '.join(map(str, names))}, as no graph of ours does")
    inputs = tuple(_spec(str(name), values[str(name)]) for name in names)
    outputs = tuple(
        _spec(name, values[str(result)])
        for name, result in zip(_OUTPUTS[: len(results)], results, strict=True)
    )
    return inputs, outputs


def _spec(name: str, value: Any) -> TensorSpec:
    import torch

    dtypes = {torch.uint8: "u8", torch.float32: "f32"}
    return TensorSpec(name, dtypes[value.dtype], tuple(int(extent) for extent in value.shape))
