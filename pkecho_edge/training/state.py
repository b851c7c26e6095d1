"""Where a run stands: everything that the next step needs, written whole or not at all."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pkecho_edge.errors import CheckpointError, UsageError
from pkecho_edge.files import write_atomically

__all__ = ["RunState", "read_state", "require_state", "write_state"]

_FORMAT = "pkecho-edge/training/1"


@dataclass(frozen=True)
class RunState:
    """A run after some step. Random numbers are drawn anew from its number, so none are here.

    Attributes:
        step: optimiser steps taken.
        best_dsc: highest validation DSC so far; -1 before the first validation.
        inputs: what the run began with: recipe, network and samples. A run resumes on the same.
        network, optimizer: their state dicts.
    """

    step: int
    best_dsc: float
    inputs: dict[str, Any]
    network: dict[str, Tensor]
    optimizer: dict[str, Any]


def write_state(state: RunState, path: Path) -> None:
    """Write it whole, or not at all.

    Raises:
        UsageError: the folder cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, **vars(state)}, buffer)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", path=path, remedy="Free some space and resume"
        ) from error


def require_state(path: Path) -> None:
    """Refuse, before any work is done, a run that cannot be resumed.

    Raises:
        CheckpointError: there is no such file.
    """
    if not path.is_file():
        raise CheckpointError(
            "there is no run to resume here", path=path, remedy="Start one without --resume"
        )


def read_state(path: Path, inputs: dict[str, Any]) -> RunState:
    """The state of an earlier run on the same inputs.

    Raises:
        CheckpointError: missing, damaged, or not a state.
        UsageError: the run began with other inputs; the message names the first that differs.
    """
    require_state(path)
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        if values.pop("format") != _FORMAT:
            raise ValueError("it is of another format")
        state = RunState(**values)
    except (
        OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError,
        IndexError, pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise CheckpointError(
            f"the state cannot be read ({type(error).__name__})",
            path=path,
            remedy="Start the run again in another folder",
        ) from error
    for name, value in inputs.items():
        if state.inputs.get(name) != value:
            raise UsageError(
                f"the run began with another {name}",
                path=path,
                remedy="Resume with the same arguments, or start anew in another folder",
            )
    return state
