"""What one quantization consists of: its scheme, its rule, and the layers that stay in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pkecho_edge.calibration.rule import DEFAULT_RULE, RangeRule
from pkecho_edge.calibration.scheme import load_scheme

__all__ = ["QuantizationPlan"]


@dataclass(frozen=True)
class QuantizationPlan:
    """Everything but the statistics.

    Attributes:
        scheme: its name.
        rule: how ranges are chosen.
        float_layers: layers that stay in float beside the scheme's own, sorted.

    Raises:
        UsageError: there is no such scheme.
    """

    scheme: str = "cpu"
    rule: RangeRule = field(default=DEFAULT_RULE)
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        load_scheme(self.scheme)
        object.__setattr__(self, "float_layers", tuple(sorted(set(self.float_layers))))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "scheme": self.scheme,
            "rule": self.rule.name,
            "float_layers": list(self.float_layers),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> QuantizationPlan:
        """What `as_dict` gave."""
        return cls(raw["scheme"], RangeRule.parse(raw["rule"]), tuple(raw["float_layers"]))
