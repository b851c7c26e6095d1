"""How ranges are chosen in one run: activations, weights, biases, smoothing."""

from __future__ import annotations

from dataclasses import dataclass

from pkecho_edge.calibration.ranges import ACTIVATION_RULES, WEIGHT_RULES
from pkecho_edge.errors import UsageError

__all__ = ["DEFAULT_RULE", "RULES", "RangeRule"]


@dataclass(frozen=True)
class RangeRule:
    """One way from statistics to integers.

    Attributes:
        activations: of ranges.ACTIVATION_RULES.
        weights: of ranges.WEIGHT_RULES.
        bias_correction: move each bias by what rounding the weights shifts on average.
        smoothing: 0 for none, else the exponent with which channels' activation ranges are
            evened out into the weights first (equalisation.py), up to 1.

    Raises:
        UsageError: a value that there is not.
    """

    activations: str = "minmax"
    weights: str = "minmax"
    bias_correction: bool = True
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.activations not in ACTIVATION_RULES or self.weights not in WEIGHT_RULES:
            raise UsageError(
                f"there is no range rule {self.activations}/{self.weights}",
                remedy=f"Use {', '.join(ACTIVATION_RULES)} for activations and "
                f"{', '.join(WEIGHT_RULES)} for weights",
            )
        if not 0 <= self.smoothing <= 1:
            raise UsageError(
                f"smoothing {self.smoothing:g} is not from 0 to 1", remedy="Use 0.5, or 0 for none"
            )

    @property
    def name(self) -> str:
        """For tables: "minmax/mse", with "+bias" and "+smooth 0.5" where they are on."""
        bias = "+bias" if self.bias_correction else ""
        smooth = f"+smooth {self.smoothing:g}" if self.smoothing else ""
        return f"{self.activations}/{self.weights}{bias}{smooth}"

    @classmethod
    def parse(cls, name: str) -> RangeRule:
        """The rule of a `name`.

        Raises:
            UsageError: it is none.
        """
        ranges, *extras = name.split("+")
        activations, _, weights = ranges.partition("/")
        smoothing = 0.0
        for extra in extras:
            if extra.startswith("smooth "):
                try:
                    smoothing = float(extra.removeprefix("smooth "))
                except ValueError:
                    smoothing = -1.0  # refused below
            elif extra != "bias":
                raise UsageError(f"there is no rule {extra!r}", remedy="Use +bias or +smooth 0.5")
        return cls(activations, weights or "minmax", "bias" in extras, smoothing)


DEFAULT_RULE = RangeRule()

RULES = (
    DEFAULT_RULE,
    RangeRule(activations="mse"),
    RangeRule(activations="mse", weights="mse"),
    RangeRule(activations="percentile"),
    RangeRule(smoothing=0.5),
)
"""What `auto` chooses from, by measured drift; the first wins ties. Of the others none has come
out best (docs/quantization.md); they can be asked for by name."""
