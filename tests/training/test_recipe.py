"""The recipe is the paper's until a file or an argument says otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pkecho_edge.errors import UsageError
from pkecho_edge.training.augmentation import Augmentation
from pkecho_edge.training.recipe import Recipe, load_recipe


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_the_defaults_are_the_papers() -> None:
    recipe = Recipe()

    assert (recipe.epochs, recipe.batch, recipe.learning_rate, recipe.power) == (50, 8, 1e-3, 0.9)
    assert (recipe.boundary_weight, recipe.windows) == (1.0, 1)
    changes = recipe.augmentation
    assert (changes.flip, changes.brightness, changes.contrast) == (0.5, 0.15, 0.15)
    assert changes.rotation_degrees == 20


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "[training]\nepochs = 3\nlearning_rate = 1\nsplit = '7:1:2'\n"
        "[training.augmentation]\nreversal = 0.0\n",
    )

    assert load_recipe(path) == Recipe(
        epochs=3, learning_rate=1.0, split="7:1:2", augmentation=Augmentation(reversal=0.0)
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "does not hold one"),
        ("training = 1", "does not hold one"),
        ("[training]\nepochs = 3\n[more]", "does not hold one"),
        ("[training]\nepoch = 3", "'epoch' is no part of a recipe"),
        ("[training]\nepochs = 3.5", r"epochs is 3\.5\. Give a int"),
        ("[training]\nepochs = true", "epochs is True"),
        ("[training]\nepochs = 0", "epochs is 0"),
        ("[training]\nlearning_rate = nan", "learning_rate is nan"),
        (f"[training]\nlearning_rate = {'9' * 400}", "learning_rate is inf"),
        ("[training]\nprecision = 'f16'", "precision is 'f16'"),
        ("[training]\naugmentation = 1", "augmentation is no table"),
        ("[training.augmentation]\nflip = 2", "augmentation flip is 2"),
        ("[training.augmentation]\nspin = 2", "'spin' is no part"),
        ("[training", "cannot read the recipe"),
        ("a = " + "[" * 5000, "cannot read the recipe"),
    ],
)
def test_what_is_no_recipe_is_refused_with_its_file(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=rf"recipe\.toml: .*{says}"):
        load_recipe(written(tmp_path, text))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0}, {"batch": 0}, {"windows": 0}, {"save_every": 0}, {"learning_rate": 0.0},
        {"learning_rate": float("nan")}, {"power": -1.0}, {"boundary_weight": -0.1},
        {"gradient_norm": float("inf")}, {"split": "random"}, {"precision": "f16"}, {"seed": -1},
        {"seed": 1 << 63}, {"learning_rate": 1e39},
    ],
)  # fmt: skip
def test_impossible_recipes_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(changes))):
        replace(Recipe(), **changes)  # type: ignore[arg-type]
