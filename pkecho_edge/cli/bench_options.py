"""What the benchmarks' command lines share: options and the warning about noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.console import console
from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from pkecho_edge.bench.rows import BenchRow

__all__ = ["BackboneOption", "PrecisionOption", "RoundsOption", "ThreadsOption", "WeightsArgument"]
__all__ += ["narrow_table", "parse_counts", "warn_if_noisy"]

WeightsArgument = Annotated[
    Path | None,
    typer.Argument(help="Default: the packaged ResNet-18.", metavar="CHECKPOINT"),
]
BackboneOption = Annotated[
    str | None,
    typer.Option(
        help="resnet18, resnet34 or resnet50; without a checkpoint of it, with random weights.",
        metavar="NAME",
    ),
]
ThreadsOption = Annotated[
    int, typer.Option(help="For every engine; 0: every core.", min=0, max=256)
]
RoundsOption = Annotated[int, typer.Option(help="Turns of each engine.", min=3)]
PrecisionOption = Annotated[
    str, typer.Option(help="Of the layers that are not INT8: f32 or bf16.", metavar="f32|bf16")
]


def parse_counts(text: str, option: str, least: int, most: int) -> tuple[int, ...]:
    """ "1,2,4" -> (1, 2, 4).

    Raises:
        UsageError: anything else, or a number outside `least` to `most`.
    """
    parts = text.split(",")
    if not all(part.isdecimal() and least <= int(part) <= most for part in parts):
        raise UsageError(
            f"{option} {text!r} is not a list of numbers from {least} to {most}",
            remedy=f"Write for example {option} {least},{min(2 * least, most)}",
        )
    return tuple(dict.fromkeys(map(int, parts)))


def narrow_table(*names: str) -> Table:
    """A table whose columns stand close enough for eight of them on 80 columns of text.

    Args:
        names: of the first columns, which hold words and are never cut.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def warn_if_noisy(rows: Sequence[BenchRow]) -> None:
    """One line where a timing varied too much to be trusted."""
    from pkecho_edge.bench.rows import noisy
    from pkecho_edge.verify.speed import CV_LIMIT

    if found := noisy(rows):
        worst = max(row.cv for row in found)
        console.print(
            f"[yellow]Noisy:[/] the coefficient of variation of {len(found)} of {len(rows)} rows "
            f"is above {CV_LIMIT:.1%}, at most {worst:.1%}. Repeat on an idle machine.",
            soft_wrap=True,
        )
