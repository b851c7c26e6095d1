"""`pkecho-edge inspect`: what a bundle holds, after checking every hash."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pkecho_edge.cli.console import (
    DebugOption,
    JsonOption,
    QuietOption,
    console,
    plain,
    write_json,
)

__all__ = ["inspect_"]


def inspect_(
    bundle: Annotated[Path, typer.Argument(help="A bundle, NAME.pkb.", metavar="BUNDLE")],
    key: Annotated[
        Path | None,
        typer.Option(help="A public key, PATH.pub: require its signature.", metavar="PATH"),
    ] = None,
    minimum_security_version: Annotated[
        int, typer.Option(help="Refuse a bundle of a lower one.", min=0, metavar="N")
    ] = 0,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Check every file of a bundle against its manifest, its signature where a key is given and
    its security version where a minimum is, and show what it says."""
    from rich.table import Table

    from pkecho_edge.bundle.reader import check_bundle, check_security_version
    from pkecho_edge.bundle.signing import check_signature, read_public_key

    public = None if key is None else read_public_key(key)
    opened = check_bundle(bundle)
    comment = None if public is None else check_signature(opened, public)
    check_security_version(opened, minimum_security_version)
    manifest = opened.manifest
    if json:
        from json import loads

        write_json(json, loads(manifest.to_json()))
    if quiet:
        return
    height, width = manifest.preprocessing.size
    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_row("bundle", manifest.bundle_id)
    facts.add_row("security version", str(manifest.security_version))
    facts.add_row("target", plain(manifest.target))
    for engine in manifest.engines:
        tensors = [*engine.inputs, *engine.outputs]
        shapes = ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in tensors)
        facts.add_row(f"engine, {engine.mode}", plain(shapes))
        options = ", ".join(f"{k} {v}" for k, v in sorted(engine.options.items()))
        facts.add_row("options", plain(options))
    facts.add_row(
        "frames", f"{height}x{width}, {manifest.preprocessing.resize}, T = {manifest.window.length}"
    )
    facts.add_row("baseline", manifest.lineage.checkpoint_sha256)
    facts.add_row("calibration", manifest.lineage.calibration_sha256 or "none")
    for name, value in sorted(manifest.reports.headline.items()):
        text = f"{value:.3f}" if isinstance(value, float) else str(value)
        facts.add_row(plain(name.replace("_", " ")), plain(text))
    console.print(facts)
    files = Table("file", "bytes", "SHA-256")
    for entry in manifest.all_files:
        files.add_row(entry.path, f"{entry.size:,}", entry.sha256[:16] + "…")
    console.print(files)
    console.print(f"[green]✓[/] all {len(manifest.all_files)} files match the manifest")
    if public is not None:
        console.print(f"[green]✓[/] signed with key {public.name}: {plain(comment or '')}")
