"""`pkecho-edge targets`: what can be compiled for, and whether its toolchain is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pkecho_edge.cli.console import (
    DebugOption,
    JsonOption,
    QuietOption,
    console,
    plain,
    write_json,
)

if TYPE_CHECKING:
    from pkecho_edge.targets.base import Capabilities
    from pkecho_edge.targets.profile import Profile

__all__ = ["targets_"]


def targets_(
    profile: Annotated[
        str | None,
        typer.Option(help="Print this device profile as TOML, to start one's own.", metavar="NAME"),
    ] = None,
    json: JsonOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """List targets and device profiles: precisions, what is made where, what is missing."""
    from pkecho_edge import targets
    from pkecho_edge.targets.profile import load_profile, profile_names, profile_toml

    if profile is not None and json is not None:
        write_json(json, load_profile(profile).as_dict())
    if profile is not None and not quiet:
        console.print(profile_toml(load_profile(profile)), end="", markup=False, highlight=False)
    if profile is not None:
        return
    found = {name: targets.get(name) for name in targets.names()}
    profiles = [load_profile(name) for name in profile_names()]
    if json:
        rows = [_row(name, t.capabilities, t.missing()) for name, t in found.items()]
        write_json(json, {"targets": rows, "profiles": [each.as_dict() for each in profiles]})
    if quiet:
        return
    _print_targets({name: (t.capabilities, t.missing()) for name, t in found.items()})
    defaults = {t.capabilities.profile for t in found.values()}
    _print_profiles(profiles, defaults)


def _row(name: str, capabilities: Capabilities, missing: str | None) -> dict[str, Any]:
    return {
        "target": name,
        "precisions": list(capabilities.precisions),
        "portable": capabilities.portable,
        "profile": capabilities.profile,
        "missing": missing,
    }


def _print_targets(found: dict[str, tuple[Capabilities, str | None]]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE)
    table.add_column("--target", no_wrap=True)
    table.add_column("precisions")
    table.add_column("made here")
    table.add_column("on the device")
    table.add_column("toolchain here", overflow="fold")
    for name, (capabilities, missing) in found.items():
        here, there = "engine", "-"
        if capabilities.device_kit:
            here, there = "graphs, kit", "plans"
        table.add_row(
            name, ", ".join(capabilities.precisions), here, there, plain(missing or "installed")
        )
    console.print(table)


def _print_profiles(profiles: list[Profile], defaults: set[str | None]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(
        *("--profile", "device", "--target", "SM", "TensorRT"),
        box=SIMPLE,
        caption="* where none is named",
        caption_justify="left",
    )
    for each in profiles:
        table.add_row(
            f"{each.name} *" if each.name in defaults else each.name,
            each.description,
            each.target,
            each.compute_capability or "any",
            f">= {each.tensorrt}",
        )
    console.print(table)
