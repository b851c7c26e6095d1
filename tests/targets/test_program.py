"""Reading exported programs: hostile ones execute nothing."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from pkecho_edge.errors import PkechoEdgeError
from pkecho_edge.targets.program import read_program


class Doubles(torch.nn.Module):
    """Exported, and yet no graph of ours."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "foreign.pt2"
    torch.export.save(torch.export.export(Doubles(), (torch.zeros(2),)), path)
    return path


def changed(program: Path, out: Path, suffix: str, content: bytes) -> Path:
    """A copy of a program in which the entries that end in `suffix` hold something else."""
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(out, "w") as target:
        names = source.namelist()
        assert any(name.endswith(suffix) for name in names)
        for name in names:
            target.writestr(name, content if name.endswith(suffix) else source.read(name))
    return out


def test_a_program_of_something_else_is_refused(foreign: Path) -> None:
    with pytest.raises(PkechoEdgeError, match="it takes x, as no graph of ours does") as caught:
        read_program(foreign)
    assert str(foreign) in str(caught.value)


class Touches:
    """A pickle of it makes a folder when it is read as torch.load reads it unsafely."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_in_a_program_is_not_executed(foreign: Path, tmp_path: Path) -> None:
    made = tmp_path / "made-by-a-pickle"
    attack = changed(
        foreign, tmp_path / "attack.pt2", "sample_inputs/model.pt", pickle.dumps(Touches(made))
    )

    with pytest.raises(PkechoEdgeError, match="no exported program can be read"):
        read_program(attack)
    assert not made.exists()


def test_a_program_that_refers_to_python_objects_is_refused(foreign: Path, tmp_path: Path) -> None:
    config = {"config": {"a": {"path_name": "x", "use_pickle": True}}}
    attack = changed(
        foreign,
        tmp_path / "attack.pt2",
        "model_constants_config.json",
        json.dumps(config).encode(),
    )

    with pytest.raises(PkechoEdgeError, match="holds Python objects"):
        read_program(attack)
