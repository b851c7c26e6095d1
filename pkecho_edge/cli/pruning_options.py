"""Options that `prune`, `compile` and `tune` share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from pkecho_edge.training.distillation import DistillationRecipe

__all__ = ["BaselineOption", "ImportanceOption", "LessonPhantomsOption", "RoundToOption"]
__all__ += ["ScopeOption", "StepsOption", "recovery_recipe"]

BaselineOption = Annotated[
    Path | None,
    typer.Option(
        help="Of a checkpoint that was pruned: the unpruned one; default: found by its hash.",
        metavar="CHECKPOINT",
    ),
]
ScopeOption = Annotated[
    str,
    typer.Option(
        help="Where channels go first: global (worth least per MAC), per-layer (everywhere alike) "
        "or latency (worth least for the time that they take here)."
    ),
]
ImportanceOption = Annotated[
    str, typer.Option(help="What a channel is worth: magnitude, taylor or batchnorm.")
]
RoundToOption = Annotated[
    int | None,
    typer.Option(help="Widths become multiples of it; default: the target's.", min=1, max=64),
]
StepsOption = Annotated[
    int | None,
    typer.Option(help="Of distillation, over all rounds; 0 only prunes. Default: 2400.", min=0),
]
LessonPhantomsOption = Annotated[
    int, typer.Option(help="Phantoms to recover on, where no recordings are given.", min=1)
]


def recovery_recipe(steps: int | None) -> DistillationRecipe | None:
    """The recipe of so many steps; None for 0, the default for None.

    Raises:
        UsageError: fewer than none.
    """
    from pkecho_edge.training.distillation import DistillationRecipe

    if steps is not None and steps < 0:
        raise UsageError(f"{steps} steps", remedy="Give 0 or more")
    if steps == 0:
        return None
    recipe = DistillationRecipe()
    return recipe if steps is None else replace(recipe, steps=steps)
