"""`pkecho-edge demo`: the whole street on a dataset written on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pkecho_edge.cli.compile import compile_
from pkecho_edge.cli.compile_options import CompileSettings
from pkecho_edge.cli.console import DebugOption, QuietOption, check_folder, console, plain
from pkecho_edge.cli.verify import verify_
from pkecho_edge.errors import UsageError

__all__ = ["demo"]

_SPLITS = (("TRAIN", 32), ("VAL", 12), ("TEST", 36))


def demo(
    out: Annotated[Path, typer.Option(help="Folder to make.", metavar="DIR")] = Path("demo-output"),
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write phantoms as an EchoNet dataset, compile the packaged network, verify the engine."""
    check_folder(out)
    if out.exists() and any(out.iterdir()):
        raise UsageError("is not empty", path=out, remedy="Delete it, or choose another --out")
    data, bundle = out / "dataset", out / "demo.pkb"
    _write_dataset(data, quiet)

    def say(line: str) -> None:
        if not quiet:
            console.print(line)

    say(f"\n[bold]pkecho-edge compile --data {plain(data)} --out {plain(bundle)}[/]")
    compile_(CompileSettings(data=data, out=bundle), quiet=quiet)
    say(f"\n[bold]pkecho-edge verify {plain(bundle)} --data {plain(data)}[/]")
    verify_(bundle=bundle, data=data, out=out, quiet=quiet)
    say("\nEverything above was measured on synthetic phantoms, on this machine, just now.")
    say(f"Look inside: pkecho-edge inspect {plain(bundle)}")


def _write_dataset(root: Path, quiet: bool) -> None:
    import os
    from collections.abc import Iterator
    from dataclasses import replace

    from pkecho_edge.cli.console import Bars
    from pkecho_edge.data.echonet import write_echonet
    from pkecho_edge.data.phantom import draw_spec, phantom_recordings
    from pkecho_edge.data.recording import Recording
    from pkecho_edge.data.standard import DEMO_SEEDS

    splits = [name for name, count in _SPLITS for _ in range(count)]
    specs = [draw_spec(seed) for seed in DEMO_SEEDS[: len(splits)]]
    with Bars(quiet) as bars:
        bars.start("phantom dataset", len(specs))

        def recordings() -> Iterator[Recording]:
            made = phantom_recordings(specs, size=(128, 128), workers=os.cpu_count() or 1)
            for split, recording in zip(splits, made, strict=True):
                yield replace(recording, split=split)
                bars.advance()

        write_echonet(root, recordings())
        bars.done(f"{len(specs)} recordings in EchoNet-Dynamic's layout, {root}")
