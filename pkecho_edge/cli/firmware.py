"""`pkecho-edge firmware`: the C library for scanners."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from pkecho_edge.cli.console import DebugOption, QuietOption, console, plain

__all__ = ["app", "build"]

app = typer.Typer(help="The C library that a scanner links.", no_args_is_help=True)


@app.callback()
def _firmware() -> None:
    pass


@app.command("build")
def build(
    out: Annotated[Path, typer.Option(help="Folder to make.", metavar="DIR")],
    openvino: Annotated[
        bool, typer.Option("--openvino/--no-openvino", help="The back-end for target cpu.")
    ] = True,
    copy_openvino: Annotated[
        bool,
        typer.Option(
            "--copy-openvino/--no-copy-openvino",
            help="Also the 85 MB of OpenVINO that it needs; without, they must be found where "
            "the device's loader looks.",
        ),
    ] = True,
    tensorrt_root: Annotated[
        Path | None,
        typer.Option(
            help="TensorRT's include/ and lib/, for the back-end of jetson and tensorrt.",
            metavar="DIR",
        ),
    ] = None,
    define: Annotated[
        list[str] | None, typer.Option(help="A further -D of CMake.", metavar="NAME=VALUE")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(help="The folder firmware/; default: the checkout's.", metavar="DIR"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DIR.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show what CMake and the compiler say.")
    ] = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Build libpkecho, its back-ends and examples with CMake, and install them into a folder."""
    from pkecho_edge.firmware_kit import FirmwareOptions, build_firmware

    def say(line: str) -> None:
        if verbose and not quiet:
            console.print(plain(line), soft_wrap=True)

    options = FirmwareOptions(openvino, copy_openvino, tensorrt_root, define or ())
    with nullcontext() if quiet or verbose else console.status("building, about a minute"):
        build_firmware(out, options, source=source, overwrite=overwrite, say=say)
    if quiet:
        return
    where = plain(str(out.absolute()))
    console.print(
        f"[green]✓[/] {where}/include/pkecho.h and {where}/lib/libpkecho.so", soft_wrap=True
    )
    console.print(f"Use it:  cmake -DCMAKE_PREFIX_PATH={where} ...   find_package(pkecho)")
    console.print(f"Try it:  {where}/bin/pkecho-play BUNDLE PUBLIC_KEY VIDEO WIDTH HEIGHT FPS [MM]")
