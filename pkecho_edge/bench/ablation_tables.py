"""The paper's Tables 3, 4 and 5 as data: which network each row is, and what the paper measured.

docs/ablations.md says how the rows were read, and where our copy of the paper has gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pkecho_edge.errors import UsageError

__all__ = ["TABLES", "VARIANTS", "AblationTable", "PaperFigures", "Row", "chosen_tables"]

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "backbone": {"region_proxies": "none", "refinements": 0},
    "vanilla": {"region_proxies": "vanilla", "refinements": 0},
    "interval-3": {"region_proxies": "interval-3", "refinements": 0},
    "interval-2": {"region_proxies": "interval-2", "refinements": 0},
    "interval-1": {"region_proxies": "interval-1", "refinements": 0},
    "kss-gating-alone": {
        "region_proxies": "none", "interaction": "gating", "temporal_attention": False,
    },
    "kss-gating": {"region_proxies": "none", "interaction": "gating"},
    "kss-hybrid-alone": {"region_proxies": "none", "temporal_attention": False},
    "kss": {"region_proxies": "none"},
    "refinements-1": {"refinements": 1},
    "refinements-2": {"refinements": 2},
    "whole": {},
    "refinements-4": {"refinements": 4},
}  # fmt: skip
"""Name -> the fields of NetworkConfig that make it, the backbone apart."""


@dataclass(frozen=True)
class PaperFigures:
    """DSC in percent, HD95 and ASD as the paper prints them (no unit), ResNet-50 on CAMUS.

    asd is None where our copy does not show it without doubt.
    """

    dsc: float
    hd95: float
    asd: float | None


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        label: of the line.
        variant: key of VARIANTS.
        paper: None where the paper has no such row, or our copy does not say which is which.
    """

    label: str
    variant: str
    paper: PaperFigures | None = None


@dataclass(frozen=True)
class AblationTable:
    """One table and the row that the others are compared with.

    Attributes:
        title: without a number.
        rows: in the paper's order.
        reference: variant that P-values compare with.
    """

    title: str
    rows: tuple[Row, ...]
    reference: str


TABLES: Mapping[str, AblationTable] = {
    "3": AblationTable(
        "region proxies, without KSS",
        (
            Row("bilinear", "backbone", PaperFigures(92.3, 4.5, 1.6)),
            Row("vanilla proxy", "vanilla", PaperFigures(92.7, 4.3, 1.4)),
            Row("interval 3", "interval-3", PaperFigures(93.1, 4.1, None)),
            Row("interval 2", "interval-2", PaperFigures(93.3, 3.9, 1.3)),
            Row("interval 1", "interval-1", PaperFigures(93.5, 3.7, 1.3)),
        ),
        "interval-1",
    ),
    "4": AblationTable(
        "KSS, without region proxies; T.A.: temporal attention",
        (
            Row("no KSS", "backbone", PaperFigures(92.3, 4.5, 1.6)),
            Row("gating", "kss-gating-alone"),
            Row("gating, T.A.", "kss-gating"),
            Row("hybrid", "kss-hybrid-alone"),
            Row("hybrid, T.A.", "kss", PaperFigures(93.6, 3.6, 1.2)),
        ),
        "kss",
    ),
    "5": AblationTable(
        "refinements, whole network",
        (
            Row("0", "interval-1"),
            Row("1", "refinements-1", PaperFigures(93.7, 3.6, 1.2)),
            Row("2", "refinements-2", PaperFigures(94.0, 3.5, 1.2)),
            Row("3", "whole", PaperFigures(94.2, 3.4, 1.1)),
            Row("4", "refinements-4", PaperFigures(93.9, 3.5, 1.2)),
        ),
        "whole",
    ),
    "whole": AblationTable(
        "the parts together",
        (
            Row("neither", "backbone", PaperFigures(92.3, 4.5, 1.6)),
            Row("MRP alone", "interval-1", PaperFigures(93.5, 3.7, 1.3)),
            Row("KSS alone", "kss", PaperFigures(93.6, 3.6, 1.2)),
            Row("MRP and KSS", "whole", PaperFigures(94.2, 3.4, 1.1)),
        ),
        "whole",
    ),
}
"""Number in the paper -> table; "whole" is ours, put together from rows of the other three."""


def chosen_tables(names: Sequence[str]) -> dict[str, AblationTable]:
    """The tables of these names, in their order.

    Raises:
        UsageError: an unknown name, or none.
    """
    unknown = [name for name in names if name not in TABLES]
    if unknown or not names:
        raise UsageError(
            f"unknown table {unknown[0]!r}" if unknown else "no table is named",
            remedy=f"Use {', '.join(TABLES)}",
        )
    return {name: TABLES[name] for name in names}
