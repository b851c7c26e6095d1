"""`pkecho-edge keygen`: a key pair to sign bundles with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pkecho_edge.cli.console import DebugOption, QuietOption, console, plain

__all__ = ["keygen"]


def keygen(
    path: Annotated[
        Path, typer.Argument(help="The secret key; PATH.pub is the public one.", metavar="PATH")
    ],
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a secret key, mode 600 and not encrypted, and its public key, in minisign's format."""
    from pkecho_edge.bundle.signing import write_key_pair

    key = write_key_pair(path)
    if quiet:
        return
    console.print(f"secret key  {plain(str(path))}  (keep it, and keep it to yourself)")
    console.print(f"public key  {plain(str(path))}.pub  id {key.name}")
    console.print(f"Sign with:  pkecho-edge sign BUNDLE --key {plain(str(path))}", soft_wrap=True)
