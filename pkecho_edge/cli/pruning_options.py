"""Options that `prune`, `compile` and `tune` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pkecho_edge.cli.settings import Setting

if TYPE_CHECKING:
    from pkecho_edge.training.distillation import DistillationRecipe

__all__ = ["BaselineOption", "ImportanceOption", "LessonPhantomsOption", "RoundToOption"]
__all__ += ["ScopeOption", "StepsOption", "check_ratio", "check_rounds"]
__all__ += ["steps_of"]


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


def _check_steps(steps: int) -> None:
    """UsageError unless a recovery can take so many."""
    from pkecho_edge.recovering import recipe_of

    recipe_of(0.5, steps)


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
    typer.Option(
        help="What a channel is worth: reconstruction (what it adds for what reads it), magnitude, "
        "taylor or batchnorm."
    ),
    Setting(check=_check_importance),
]
RoundToOption = Annotated[
    int | None,
    typer.Option(help="Widths become multiples of it; default: the target's.", min=1, max=64),
    Setting(example=8),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        help="Of distillation, over all rounds; 0 learns nothing. Default: 0 up to a ratio of "
        "0.85, 2400 beyond.",
        min=0,
    ),
    Setting(example=2400, check=_check_steps),
]
LessonPhantomsOption = Annotated[
    int, typer.Option(help="Phantoms to recover on, where no recordings are given.", min=1)
]


def steps_of(recipe: DistillationRecipe | None) -> int:
    """The steps of a recipe, 0 of none."""
    return 0 if recipe is None else recipe.steps
