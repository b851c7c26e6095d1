"""Which checkpoint is which: by the SHA-256 of its bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pkecho_edge.errors import CheckpointError
from pkecho_edge.model.checkpoint import (
    checkpoint_sha256,
    default_checkpoint_path,
    load_checkpoint,
)
from pkecho_edge.model.network import PKEchoNet

__all__ = ["find_checkpoint", "load_identified"]


def load_identified(path: Path) -> tuple[PKEchoNet, str]:
    """The network and the SHA-256 of the very bytes that it was loaded from.

    Raises:
        CheckpointError: it cannot be loaded, or it changed meanwhile.
    """
    before = checkpoint_sha256(path)
    network = load_checkpoint(path)
    if checkpoint_sha256(path) != before:
        raise CheckpointError(
            "it changed while it was being read",
            path=path,
            remedy="Wait until it is written, then run again",
        )
    return network, before


def find_checkpoint(wanted: str, given: Path | None, places: Iterable[Path]) -> Path:
    """The checkpoint of this SHA-256: the one given, else the packaged one, else one of `places`.

    Raises:
        CheckpointError: the given one has another hash, or none has this one.
    """
    if given is not None:
        if checkpoint_sha256(given) != wanted:
            raise CheckpointError(
                "is not the checkpoint that the bundle was made from",
                path=given,
                remedy=f"Pass the one with SHA-256 {wanted[:12]}...",
            )
        return given
    for path in (default_checkpoint_path(), *places):
        if path.is_file() and checkpoint_sha256(path) == wanted:
            return path
    raise CheckpointError(
        f"the baseline with SHA-256 {wanted[:12]}... is not on this machine",
        remedy="Pass it with --baseline CHECKPOINT",
    )
