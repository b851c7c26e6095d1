"""Ablation tables for people and for tools: Markdown, a terminal, JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pkecho_edge.bench.ablation_tables import TABLES, PaperFigures
from pkecho_edge.bench.ablations import AblationRow

__all__ = ["ABLATION_SCHEMA", "AblationReport"]

ABLATION_SCHEMA = "pkecho-edge/ablations/1"

_NONE = "-"
_WIDE = ("", "DSC (%)", "± seeds", "P", "HD95", "P", "ASD", "seeds below", "paper: DSC, HD, ASD")
_NARROW = ("", "DSC (%)", "P", "HD95", "P", "ASD", "below", "paper")


@dataclass(frozen=True)
class AblationReport:
    """Tables and how they came about.

    Attributes:
        tables: key of TABLES -> its lines.
        conditions: what was trained on, how long, at which size: what a reader must know.
        warnings: what weakens the figures.
        unit: of HD95 and ASD.
        seeds: how many.
        machine: of verify.machine.
    """

    tables: Mapping[str, Sequence[AblationRow]]
    conditions: str
    warnings: Sequence[str]
    unit: str
    seeds: int
    machine: Mapping[str, object]

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values."""
        return {
            "schema": ABLATION_SCHEMA,
            "conditions": self.conditions,
            "unit": self.unit,
            "seeds": self.seeds,
            "p_values": "Wilcoxon signed-rank against the table's reference, by patient",
            "tables": {
                name: {
                    "title": TABLES[name].title,
                    "reference": TABLES[name].reference,
                    "rows": [row.to_dict() for row in rows],
                }
                for name, rows in self.tables.items()
            },
            "warnings": list(self.warnings),
            "machine": dict(self.machine),
        }

    def title(self, name: str) -> str:
        """For example "Table 5: refinements, whole network"."""
        number = f"Table {name}: " if name.isdigit() else ""
        return f"{number}{TABLES[name].title}"

    def narrow(self, name: str) -> list[tuple[str, ...]]:
        """A table's lines for a terminal of 80 columns, the headers first; of the paper the DSC."""
        lines = [self._headers(_NARROW)]
        for row in self.tables[name]:
            label, dsc, spread, p_dsc, hd95, p_hd95, asd, below, paper = self._cells(name, row)
            spread = "" if spread == _NONE else f"±{spread}"
            below = below.replace("reference", _NONE).replace(" of ", "/")
            lines.append(
                (label, dsc + spread, p_dsc, hd95, p_hd95, asd, below, paper.partition(",")[0])
            )
        return lines

    def markdown(self) -> str:
        """All tables, the conditions above them and the warnings below."""
        parts = [self.conditions, ""]
        for name in self.tables:
            header = self._headers(_WIDE)
            lines = [self._cells(name, row) for row in self.tables[name]]
            parts += [f"### {self.title(name)}", "", _line(header)]
            parts.append(_line(["---", *["--:"] * (len(header) - 1)]))
            parts += [*map(_line, lines), ""]
        parts += [f"- {warning}" for warning in self.warnings]
        return "\n".join(parts).rstrip() + "\n"

    def _headers(self, headers: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{h} ({self.unit})" if h in ("HD95", "ASD") else h for h in headers)

    def _cells(self, name: str, row: AblationRow) -> tuple[str, ...]:
        is_reference = row.variant == TABLES[name].reference
        return (
            row.label,
            _figure(row.dsc),
            _figure(row.dsc_sd),
            _p_value(row.p_dsc),
            _figure(row.hd95),
            _p_value(row.p_hd95),
            _figure(row.asd),
            "reference" if is_reference else f"{row.seeds_below} of {self.seeds}",
            _paper(row.paper),
        )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(value: float) -> str:
    return _NONE if math.isnan(value) else f"{value:.2f}"


def _p_value(p: float) -> str:
    if math.isnan(p):
        return _NONE
    return "<0.0001" if p < 1e-4 else f"{p:.2g}"


def _paper(figures: PaperFigures | None) -> str:
    if figures is None:
        return _NONE
    asd = _NONE if figures.asd is None else f"{figures.asd}"
    return f"{figures.dsc}, {figures.hd95}, {asd}"
