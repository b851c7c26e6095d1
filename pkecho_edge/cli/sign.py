"""`pkecho-edge sign`: sign a bundle, so that devices can tell it from anybody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pkecho_edge.cli.console import DebugOption, QuietOption, console, plain

__all__ = ["sign"]


def sign(
    bundle: Annotated[Path, typer.Argument(help="A bundle, NAME.pkb.", metavar="BUNDLE")],
    key: Annotated[
        Path, typer.Option(help="A secret key of `pkecho-edge keygen`.", metavar="PATH")
    ],
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Check every file of a bundle, then sign its manifest, which lists them all."""
    from pkecho_edge.bundle.layout import MANIFEST, SIGNATURE
    from pkecho_edge.bundle.signing import sign_bundle

    signed, public = sign_bundle(bundle, key)
    if quiet:
        return
    console.print(f"[green]✓[/] {signed.manifest.bundle_id} signed with key {public.name}")
    console.print(f"signature  {plain(str(bundle / SIGNATURE))}", soft_wrap=True)
    console.print(
        f"Check with: minisign -Vm {plain(str(bundle / MANIFEST))} -p {plain(str(key))}.pub",
        soft_wrap=True,
    )
