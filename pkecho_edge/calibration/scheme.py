"""How a target wants numbers quantized, as data: one TOML file per scheme in schemes/."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from pkecho_edge.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Scheme", "load_scheme", "scheme_names"]

_CHOICES: Mapping[str, tuple[object, ...]] = {
    "activations": ("u8", "s8"),
    "weight_bits": (7, 8),
    "weights": ("integer", "float"),
    "bias": ("float", "s32"),
    "residual": ("both", "identity"),
    "pool": ("before", "around"),
}


@dataclass(frozen=True)
class Scheme:
    """What a quantized graph must look like.

    Attributes:
        name, description: of the scheme.
        activations: integer type of every quantized activation: "u8", whose zero point is wherever
            zero falls, or "s8", symmetric, whose zero point is 0.
        weight_bits: 8, or 7 where products of u8 and s8 are summed in pairs of 16 bits: levels
            then end at 63, so that the sum of two cannot overflow.
        weights: kept as "integer" (s8 and DequantizeLinear) or as "float" (FP32, QuantizeLinear,
            DequantizeLinear: what JetPack 5's TensorRT reads). Per output channel, symmetric.
        bias: "float", or "s32" in steps of input scale times weight scale.
        residual: which inputs of a residual sum are quantized: "both", or the "identity" branch.
        pool: quantizers "before" a max-pool, whose output its readers take as it is, or "around".
        float_layers: patterns of layers that always stay in float, as "upsamplers.*.scores".
        max_opset: of the ONNX operators.

    Raises:
        UsageError: a value that there is not.
    """

    name: str
    description: str
    activations: str
    weight_bits: int
    weights: str
    bias: str
    residual: str
    pool: str
    float_layers: tuple[str, ...]
    max_opset: int

    def __post_init__(self) -> None:
        for key, allowed in _CHOICES.items():
            if (value := getattr(self, key)) not in allowed:
                raise UsageError(
                    f"scheme {self.name}: {key} is {value!r}",
                    remedy=f"Use one of {', '.join(map(str, allowed))}",
                )

    def keeps_in_float(self, layer: str) -> bool:
        """Whether a layer is never quantized."""
        return any(fnmatch.fnmatchcase(layer, pattern) for pattern in self.float_layers)

    @property
    def activation_type(self) -> type[Any]:
        """Of stored activations, as NumPy has it."""
        return np.uint8 if self.activations == "u8" else np.int8

    @property
    def activation_levels(self) -> tuple[int, int]:
        """The smallest and largest stored activation."""
        return (0, 255) if self.activations == "u8" else (-127, 127)

    @property
    def weight_level(self) -> int:
        """The largest magnitude of a stored weight: 127, or 63 of 7 bits."""
        return int(2 ** (self.weight_bits - 1) - 1)


def scheme_names() -> tuple[str, ...]:
    """Every scheme that there is, by name."""
    files = resources.files("pkecho_edge.calibration").joinpath("schemes").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


@cache
def load_scheme(name: str) -> Scheme:
    """A scheme by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in scheme_names():
        raise UsageError(
            f"there is no scheme {name!r}", remedy=f"Use one of {', '.join(scheme_names())}"
        )
    path = resources.files("pkecho_edge.calibration").joinpath("schemes", f"{name}.toml")
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    table["float_layers"] = tuple(table["float_layers"])
    assert table.keys() | {"name"} == {field.name for field in fields(Scheme)}
    return Scheme(name, **table)
