"""The recipe: the paper's, as defaults; a TOML file changes what it names."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pkecho_edge.data.sides import SPLIT_RULES
from pkecho_edge.errors import UsageError
from pkecho_edge.training.augmentation import Augmentation

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Recipe", "load_recipe"]

_CHOICES = {"precision": ("f32", "bf16"), "split": SPLIT_RULES}

_HIGHEST_RATE = 1e6  # torch's Adam cannot take what overflows FP32


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are the paper's unless said otherwise.

    Attributes:
        epochs: passes over the training samples.
        batch: samples per step, over all processes together.
        learning_rate: of Adam at the first step, then times (1 - step / steps) ** power.
        power: of the poly schedule.
        boundary_weight: of the boundary loss beside the Dice loss; 0 leaves it out. The paper names
            no weight, and no unit of the distances, which here is the image's side.
        windows: samples drawn from each recording: the clip from ED to ES, then others from
            anywhere in the cycle with a label on one end at least. The paper has 1; live use wants
            more.
        split: "own" takes the dataset's TRAIN and VAL, "7:1:2" splits anew by patient.
        precision: "bf16" autocasts the forward pass, "f32" does not.
        gradient_norm: gradients are scaled down to it; 0 leaves them. Not in the paper.
        seed: of weights, order, windows, dropout and augmentation.
        save_every: steps between two states to resume from; one is kept at every epoch's end.
        augmentation: limits of the random changes.

    Raises:
        UsageError: a value outside its range.
    """

    epochs: int = 50
    batch: int = 8
    learning_rate: float = 1e-3
    power: float = 0.9
    boundary_weight: float = 1.0
    windows: int = 1
    split: str = "own"
    precision: str = "bf16"
    gradient_norm: float = 5.0
    seed: int = 0
    save_every: int = 200
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"{name} is {getattr(self, name)!r}", remedy=f"Use {' or '.join(choices)}"
                )
        for name in ("epochs", "batch", "windows", "save_every", "learning_rate", "power"):
            if not 0 < getattr(self, name) < math.inf:  # false for NaN, too
                raise UsageError(f"{name} is {getattr(self, name)}", remedy="Give a number above 0")
        for name in ("boundary_weight", "gradient_norm", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}", remedy="Give 0 or more")
        if self.learning_rate > _HIGHEST_RATE:
            raise UsageError(
                f"learning_rate is {self.learning_rate}",
                remedy=f"Give a number up to {_HIGHEST_RATE:g}",
            )
        if self.seed >= 1 << 63:
            raise UsageError(f"seed is {self.seed}", remedy="Give a number below 2 to the 63rd")

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def load_recipe(path: Path) -> Recipe:
    """The recipe of a TOML file's `[training]` table and its `[training.augmentation]`.

    Raises:
        UsageError: no such file, not TOML, an unknown key, or a value of another type or range.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot read the recipe: {reason}",
            path=path,
            remedy="Give a TOML file with [training]",
        ) from error
    table = document.get("training")
    if not isinstance(table, dict) or len(document) != 1:
        raise UsageError(
            "it does not hold one [training] table and nothing else",
            path=path,
            remedy="Write the recipe under [training], for example epochs = 50",
        )
    values = dict(table)
    augmentation = values.pop("augmentation", {})
    try:
        recipe = Recipe()
        changed = _checked(recipe, values, path)
        changed["augmentation"] = replace(
            recipe.augmentation, **_checked(recipe.augmentation, augmentation, path)
        )
        return replace(recipe, **changed)
    except UsageError as error:
        raise UsageError(error.what, path=path, remedy=error.remedy) from error


def _checked(
    defaults: Recipe | Augmentation, values: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    """The values, each of its default's type; a whole number will do for a fraction.

    Raises:
        UsageError: an unknown key or another type.
    """
    if not isinstance(values, Mapping):
        raise UsageError(
            "augmentation is no table", path=path, remedy="Write [training.augmentation]"
        )
    known = {f.name: getattr(defaults, f.name) for f in fields(defaults)}
    known.pop("augmentation", None)
    found = {}
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"{name!r} is no part of a recipe", remedy=f"Use {', '.join(known)}")
        wanted = type(known[name])
        if wanted is float and type(value) is int:
            value = float(value) if abs(value) < 10**15 else math.inf
        if type(value) is not wanted:
            raise UsageError(f"{name} is {value!r}", remedy=f"Give a {wanted.__name__}")
        found[name] = value
    return found
