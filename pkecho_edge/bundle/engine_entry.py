"""The manifest's section about one compiled engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pkecho_edge.bundle.checks import check_choice, check_label, check_labels
from pkecho_edge.bundle.fields import Fields
from pkecho_edge.bundle.layout import ENGINE, check_path
from pkecho_edge.bundle.strict_json import Json
from pkecho_edge.targets.base import Engine, TensorSpec

__all__ = ["MODES", "EngineEntry"]

MODES = ("clip", "stream")


@dataclass(frozen=True)
class EngineEntry:
    """One compiled engine: where its files lie, and everything needed to load it.

    Attributes:
        mode: "clip" or "stream", the graph that was compiled.
        directory: "engine" or a folder in it.
        files: relative to `directory`, the main file first.
        inputs, outputs: names, types ("u8" or "f32") and shapes, in the toolchain's order.
        options: precision, threads and the like, set explicitly.
        toolchain: package or library name -> version it was compiled with.
    """

    mode: str
    directory: str
    files: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    options: Mapping[str, str]
    toolchain: Mapping[str, str]

    def __post_init__(self) -> None:
        check_choice(self.mode, MODES, "the mode of an engine")
        if self.directory.split("/")[0] != ENGINE:
            raise ValueError(f"an engine lies in {ENGINE}/, not in {self.directory[:60]!a}")
        if not self.files:
            raise ValueError("an engine has at least one file")
        for path in self.paths:
            check_path(path)
        for spec in (*self.inputs, *self.outputs):
            _check_tensor(spec)
        check_labels(self.options, "options")
        check_labels(self.toolchain, "toolchain")

    @property
    def paths(self) -> tuple[str, ...]:
        """The files, relative to the bundle."""
        return tuple(f"{self.directory}/{name}" for name in self.files)

    @classmethod
    def of(cls, engine: Engine, *, mode: str = "clip", directory: str = ENGINE) -> EngineEntry:
        """The entry of an engine whose files will lie in `directory` of the bundle."""
        return cls(
            mode=mode,
            directory=directory,
            files=tuple(engine.files),
            inputs=tuple(engine.inputs),
            outputs=tuple(engine.outputs),
            options=dict(engine.options),
            toolchain=dict(engine.toolchain),
        )

    def engine(self, target: str, bundle: Path) -> Engine:
        """The engine as its target loads it, its directory inside the folder `bundle`."""
        return Engine(
            target=target,
            directory=bundle / self.directory,
            files=self.files,
            inputs=self.inputs,
            outputs=self.outputs,
            options=dict(self.options),
            toolchain=dict(self.toolchain),
        )

    def as_json(self) -> dict[str, Json]:
        return {
            "mode": self.mode,
            "directory": self.directory,
            "files": list(self.files),
            "inputs": [_tensor_json(spec) for spec in self.inputs],
            "outputs": [_tensor_json(spec) for spec in self.outputs],
            "options": dict(self.options),
            "toolchain": dict(self.toolchain),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> EngineEntry:
        entry = cls(
            mode=fields.text("mode"),
            directory=fields.text("directory"),
            files=fields.texts("files"),
            inputs=tuple(_tensor(item) for item in fields.objects("inputs")),
            outputs=tuple(_tensor(item) for item in fields.objects("outputs")),
            options=fields.text_map("options"),
            toolchain=fields.text_map("toolchain"),
        )
        fields.done()
        return entry


def _check_tensor(spec: TensorSpec) -> None:
    check_label(spec.name, "the name of a tensor")
    check_choice(spec.dtype, ("u8", "f32"), f"the type of {spec.name}")
    if not 1 <= len(spec.shape) <= 8 or not all(1 <= extent <= 1 << 16 for extent in spec.shape):
        raise ValueError(f"the shape of {spec.name} is out of range")


def _tensor_json(spec: TensorSpec) -> dict[str, Json]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _tensor(fields: Fields) -> TensorSpec:
    name, dtype, shape = fields.text("name"), fields.text("dtype"), fields.integers("shape")
    fields.done()
    check_choice(dtype, ("u8", "f32"), "the type of a tensor")
    return TensorSpec(name=name, dtype=dtype, shape=shape)
