"""`pkecho-edge init`: a file of settings to start from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pkecho_edge.cli.compile_options import CompileSettings
from pkecho_edge.cli.console import (
    DebugOption,
    QuietOption,
    check_file,
    console,
    plain,
    write_text,
)
from pkecho_edge.cli.settings_file import CONFIG, settings_text
from pkecho_edge.errors import UsageError

__all__ = ["init"]

_HEADING = (
    "Settings of `pkecho-edge compile`, which reads this file where no CHECKPOINT is typed and it",
    f"lies in the current folder as {CONFIG}, or with --config FILE. What is typed wins.",
    "",
    "As it stands it says what is done without it. Paths are relative to this file. Lines that",
    "begin with `# name =` have no value by default: take the # away to set one.",
)


def init(
    path: Annotated[
        Path, typer.Argument(help="A folder, or a file NAME.toml.", metavar="[DIR or FILE]")
    ] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write pkecho-edge.toml: every setting of compile with its default and what it means."""
    from pkecho_edge.verify.gates import DEFAULT_LIMITS

    file = path if path.suffix == ".toml" and not path.is_dir() else path / CONFIG
    check_file(file)
    if os.path.lexists(file) and not overwrite:
        raise UsageError(
            "exists already", path=file, remedy="Choose another name, or add --overwrite"
        )
    settings = CompileSettings(limits=DEFAULT_LIMITS)
    write_text(file, settings_text("compile", settings, _HEADING, file.parent))
    if not quiet:
        on = "" if file == Path(CONFIG) else f" --config {plain(file)}"
        console.print(f"Written: {plain(file)}", soft_wrap=True)
        console.print(f"Next:    pkecho-edge compile{on} --dry-run", soft_wrap=True)
