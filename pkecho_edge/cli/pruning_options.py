"""Options that `prune`, `compile` and `tune` share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.settings import Setting
from pkecho_edge.errors import UsageError

if TYPE_CHECKING:
    from pkecho_edge.training.distillation import DistillationRecipe

__all__ = ["BaselineOption", "ImportanceOption", "LessonPhantomsOption", "RoundToOption"]
__all__ += ["ScopeOption", "StepsOption", "check_ratio", "check_rounds"]
__all__ += ["recovery_recipe", "steps_of"]


def check_ratio(ratio: float) -> None:
    """UsageError unless it is a share of the GMACs that pruning can take."""
    from pkecho_edge.recovering import PruningOrder

    PruningOrder(ratio)


def check_rounds(rounds: int) -> None:
    """UsageError unless pruning can take so many."""
    from pkecho_edge.recovering import PruningOrder

    PruningOrder(0.5, rounds=rounds)


def _check_scope(scope: str) -> None:
    from pkecho_edge.recovering import PruningOrder

    PruningOrder(0.5, scope)


def _check_importance(importance: str) -> None:
    from pkecho_edge.recovering import PruningOrder

    PruningOrder(0.5, importance=importance)


BaselineOption = Annotated[
    Path | None,
    typer.Option(
        help="Of a checkpoint that was pruned: the unpruned one; default: found by its hash.",
        metavar="CHECKPOINT",
    ),
    Setting(example="run/best.safetensors"),
]
ScopeOption = Annotated[
    str,
    typer.Option(
        help="Where channels go first: global (worth least per MAC), per-layer (everywhere alike) "
        "or latency (worth least for the time that they take here)."
    ),
    Setting(check=_check_scope),
]
ImportanceOption = Annotated[
    str,
    typer.Option(help="What a channel is worth: magnitude, taylor or batchnorm."),
    Setting(check=_check_importance),
]
RoundToOption = Annotated[
    int | None,
    typer.Option(help="Widths become multiples of it; default: the target's.", min=1, max=64),
    Setting(example=8),
]
StepsOption = Annotated[
    int | None,
    typer.Option(help="Of distillation, over all rounds; 0 only prunes. Default: 2400.", min=0),
    Setting(example=2400),
]
LessonPhantomsOption = Annotated[
    int, typer.Option(help="Phantoms to recover on, where no recordings are given.", min=1)
]


def recovery_recipe(steps: int | None) -> DistillationRecipe | None:
    """The recipe of so many steps; None for 0, the default for None.

    Raises:
        UsageError: fewer than none.
    """
    from pkecho_edge.recovering import AFTER_REFIT

    if steps is not None and steps < 0:
        raise UsageError(f"{steps} steps", remedy="Give 0 or more")
    if steps == 0:
        return None
    return AFTER_REFIT if steps is None else replace(AFTER_REFIT, steps=steps)


def steps_of(steps: int | None) -> int:
    """The steps of `recovery_recipe`."""
    recipe = recovery_recipe(steps)
    return 0 if recipe is None else recipe.steps
