"""Why a layer hurts, read from its weights and from what its input held; nothing is run.

Each cause has a figure of merit that ordinary networks keep small (docs/quantization.md has those
of the default checkpoint) and a threshold above it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pkecho_edge.calibration.activations import ClipActivations, TensorActivations
from pkecho_edge.calibration.graph import GraphView, layer_of, quantizable
from pkecho_edge.calibration.histogram import BINS
from pkecho_edge.calibration.ranges import activation_range
from pkecho_edge.calibration.rule import DEFAULT_RULE, RangeRule

__all__ = ["KINDS", "Diagnosis", "diagnose"]

KINDS: Mapping[str, str] = {
    "uneven channels": "one scale serves all channels of a tensor; even them out: "
    "--rule 'minmax/minmax+bias+smooth 0.5'",
    "outlier weights": "one scale serves all weights of an output channel; keep the layer in "
    "float, or train with weight decay",
    "amplified channel": "a BatchNorm with nearly no variance amplifies what INT8 rounds off; keep "
    "the layer in float, or prune the channel",
    "clipped input": "the range rule cuts off too much; use --rule minmax/minmax+bias",
    "dead input": "its range is a guess; calibrate on clips that show what it was trained on",
}
"""Cause -> what it means and what to do."""

_UNEVEN, _OUTLIER, _AMPLIFIED = 20.0, 30.0, 20.0
_CLIPPED = 1.0  # percent of the values that are not zero
_LEVELS = 256


@dataclass(frozen=True)
class Diagnosis:
    """One cause found in one layer.

    Attributes:
        layer: its name.
        kind: of KINDS.
        channel: the worst one: of the input for "uneven channels", else of the output; None where
            all are concerned.
        ratio: how far it stands out; for "clipped input" the share that is cut off, in percent of
            the values that are not zero; nan for a dead input.
    """

    layer: str
    kind: str
    channel: int | None
    ratio: float

    @property
    def message(self) -> str:
        """In plain words, with the figure and the remedy."""
        said = {
            "uneven channels": f"input channel {self.channel} reaches {self.ratio:,.0f} times as "
            "far as the median channel",
            "outlier weights": f"the largest weight of output channel {self.channel} is "
            f"{self.ratio:,.0f} times their median",
            "amplified channel": f"the weights of output channel {self.channel} are "
            f"{self.ratio:,.0f} times as large as the median channel's",
            "clipped input": f"{self.ratio:.1f} % of its input's values are cut off",
            "dead input": "its input never left zero on the calibration clips",
        }
        return f"{self.layer}: {said[self.kind]}; {KINDS[self.kind]}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        ratio = None if np.isnan(self.ratio) else self.ratio
        return {**asdict(self), "ratio": ratio, "message": self.message}


def diagnose(
    graph: onnx.GraphProto, activations: ClipActivations, rule: RangeRule = DEFAULT_RULE
) -> tuple[Diagnosis, ...]:
    """Every cause in every layer that may be quantized, in the graph's order.

    Args:
        graph: lowered, in float.
        activations: tensor -> what it held on the calibration clips.
        rule: by which ranges are chosen.
    """
    view = GraphView(graph)
    found: dict[tuple[str, str], Diagnosis] = {}
    for node in view.convolutions():
        weight = view.weight(node)
        if weight is None or not quantizable(node.name):
            continue
        causes = [*_of_weights(weight)]
        if (held := activations.get(node.input[0])) is not None:
            causes += _of_input(held, rule)
        layer = layer_of(node.name)
        for kind, channel, ratio in causes:
            known = found.get((layer, kind))
            if known is None or ratio > known.ratio:
                found[layer, kind] = Diagnosis(layer, kind, channel, ratio)
    return tuple(found.values())


Cause = tuple[str, int | None, float]


def _of_weights(weight: NDArray[np.float32]) -> Iterator[Cause]:
    flat = np.abs(weight.reshape(len(weight), -1).astype(np.float64))
    power = np.sqrt(np.mean(flat**2, axis=1))
    typical_weight = np.median(flat, axis=1)
    outlier = flat.max(axis=1) / np.where(typical_weight > 0, typical_weight, np.inf)
    if outlier.max() > _OUTLIER:
        yield "outlier weights", int(outlier.argmax()), float(outlier.max())
    typical = np.median(power)
    if typical > 0 and power.max() > _AMPLIFIED * typical:
        yield "amplified channel", int(power.argmax()), float(power.max() / typical)


def _of_input(held: TensorActivations, rule: RangeRule) -> Iterator[Cause]:
    ranges = np.maximum(np.abs(held.minimum), np.abs(held.maximum))
    alive = ranges[ranges > 0]
    if not len(alive):
        yield "dead input", None, float("nan")
    elif ranges.max() > _UNEVEN * np.median(alive):
        yield "uneven channels", int(ranges.argmax()), float(ranges.max() / np.median(alive))
    if len(alive) and (share := _clipped(held, rule)) > _CLIPPED:
        yield "clipped input", None, share


def _clipped(held: TensorActivations, rule: RangeRule) -> float:
    """Percent of the values other than zero that lie a bin or more beyond the range."""
    low, high = activation_range(held, rule.activations, _LEVELS)
    histogram = held.histogram
    counts = histogram.counts.astype(np.float64)
    counts[BINS] = 0  # zero, and what is too small to tell from it
    beyond = (histogram.centres < low - histogram.width) | (
        histogram.centres > high + histogram.width
    )
    return float(100 * counts[beyond].sum() / max(counts.sum(), 1))
