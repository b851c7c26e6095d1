"""`pkecho-edge targets`: what can be compiled for, and whether its toolchain is installed."""

from __future__ import annotations

from pkecho_edge.cli.console import DebugOption, JsonOption, QuietOption, console, write_json

__all__ = ["targets_"]


def targets_(
    json: JsonOption = None, quiet: QuietOption = False, debug: DebugOption = False
) -> None:
    """List the targets: precisions, where an engine is built, what is missing."""
    from rich.table import Table

    from pkecho_edge import targets

    table = Table("target", "precisions", "engine is built", "toolchain")
    rows = []
    for name in targets.names():
        target = targets.get(name)
        capabilities, missing = target.capabilities, target.missing()
        built = "anywhere" if capabilities.portable else "on the device"
        table.add_row(name, ", ".join(capabilities.precisions), built, missing or "installed")
        rows.append(
            {
                "target": name,
                "precisions": list(capabilities.precisions),
                "portable": capabilities.portable,
                "missing": missing,
            }
        )
    if json:
        write_json(json, {"targets": rows})
    if not quiet:
        console.print(table)
