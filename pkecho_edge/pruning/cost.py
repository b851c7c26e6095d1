"""What widths cost: multiply-accumulates, or milliseconds from a table that was measured."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pkecho_edge.pruning.layers import ConvLayer

__all__ = ["LatencyTable", "LayerGrid", "WidthCost", "gmacs_cost", "latency_cost"]

WidthCost = Callable[[ConvLayer, int, int], float]
"""(layer, input channels, output channels) -> cost of one frame."""


def gmacs_cost(size: tuple[int, int]) -> WidthCost:
    """Multiply-accumulates of one frame of (H, W), in 1e9."""

    def cost(layer: ConvLayer, inputs: int, outputs: int) -> float:
        pixels = (size[0] // layer.reach) * (size[1] // layer.reach)
        per_output = layer.kernel**2 * (1 if layer.depthwise else inputs)
        return pixels * per_output * outputs / 1e9

    return cost


@dataclass(frozen=True)
class LayerGrid:
    """Measured times of one layer on a grid of widths.

    Attributes:
        inputs, outputs: channels that were measured, ascending; one entry where the number is
            fixed, and of a depthwise layer the outputs stand for both.
        ms: rows of inputs, columns of outputs, milliseconds a frame.

    Raises:
        ValueError: a grid that does not fit its axes, or a time that is not above 0.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        for axis in (self.inputs, self.outputs):
            if not axis or list(axis) != sorted(set(axis)) or axis[0] < 1:
                raise ValueError(f"widths {axis} are not ascending from 1")
        rows, columns = len(self.inputs), len(self.outputs)
        if len(self.ms) != rows or any(len(row) != columns for row in self.ms):
            raise ValueError(f"times are not {rows} x {columns}")
        if not all(ms > 0 for row in self.ms for ms in row):  # false for NaN, too
            raise ValueError("a time is not above 0")

    def at(self, inputs: int, outputs: int) -> float:
        """Milliseconds at any widths: linear between the measured ones, held beyond them."""
        low, high, part = _between(self.inputs, inputs)
        row = [a + part * (b - a) for a, b in zip(self.ms[low], self.ms[high], strict=True)]
        low, high, part = _between(self.outputs, outputs)
        return row[low] + part * (row[high] - row[low])


def _between(axis: Sequence[int], value: int) -> tuple[int, int, float]:
    """The measured widths around a value, and how far from the first to the second it lies."""
    high = min(bisect.bisect_left(axis, value), len(axis) - 1)
    low = max(high - 1, 0) if axis[high] > value else high
    span = axis[high] - axis[low]
    return low, high, (value - axis[low]) / span if span else 0.0


@dataclass(frozen=True)
class LatencyTable:
    """What each layer of a network costs on one machine.

    Attributes:
        grids: name of a layer -> its times.
    """

    grids: Mapping[str, LayerGrid]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        return {name: vars(grid) for name, grid in self.grids.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LatencyTable:
        """Of `as_dict`'s output.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        return cls(
            {
                name: LayerGrid(
                    tuple(grid["inputs"]),
                    tuple(grid["outputs"]),
                    tuple(tuple(float(ms) for ms in row) for row in grid["ms"]),
                )
                for name, grid in values.items()
            }
        )


def latency_cost(table: LatencyTable) -> WidthCost:
    """Milliseconds of one frame by a table that has every layer of the network."""

    def cost(layer: ConvLayer, inputs: int, outputs: int) -> float:
        return table.grids[layer.name].at(inputs, outputs)

    return cost
