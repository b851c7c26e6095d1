"""`pkecho-edge doctor`: is everything here that the main commands need?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pkecho_edge.cli.console import (
    DebugOption,
    JsonOption,
    QuietOption,
    console,
    plain,
    write_json,
)
from pkecho_edge.errors import EnvironmentMismatch

__all__ = ["doctor"]

_NEEDED = {
    "numpy": "everything",
    "openvino": "target cpu",
    "torch": "baseline, export, training",
    "onnx": "export",
    "onnxruntime": "calibration, target onnxruntime",
    "nncf": "benchmarks beside NNCF",
    "safetensors": "checkpoints",
    "av": "videos",
    "nibabel": "CAMUS",
    "scipy": "phantoms, surface distances",
}
_REMEDY = "Run: pip install 'pkecho-edge[all]'"


def doctor(json: JsonOption = None, quiet: QuietOption = False, debug: DebugOption = False) -> None:
    """Check packages, processor features, the cache folder and the packaged checkpoint."""
    from importlib import metadata

    from rich.table import Table

    from pkecho_edge.stages import default_cache
    from pkecho_edge.verify.machine import machine_facts

    table = Table("what", "found", "for")
    missing = []
    for name, purpose in _NEEDED.items():
        try:
            table.add_row(name, metadata.version(name), purpose)
        except metadata.PackageNotFoundError:
            missing.append(name)
            table.add_row(name, "[red]missing[/]", purpose)
    facts = machine_facts()
    for name, value in _machine_rows(facts):
        table.add_row(name, plain(value), "machine")
    table.add_row("cache", plain(default_cache()), "finished stages")
    table.add_row("checkpoint", _checkpoint(missing), "demo and default compile")
    if json:
        write_json(json, {"missing": missing, "machine": facts})
    if not quiet:
        console.print(table)
    if missing:
        raise EnvironmentMismatch(f"not installed: {', '.join(missing)}", remedy=_REMEDY)


def _machine_rows(facts: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Plain facts as they are; of the processor its model, cores and the features it has."""
    for name, value in facts.items():
        if name == "cpu" and isinstance(value, Mapping):
            flags = [flag for flag, present in dict(value.get("flags") or {}).items() if present]
            yield "processor", f"{value.get('model')}, {value.get('cores_usable')} cores"
            yield "features", ", ".join(flags) or "none that matter here"
        elif not isinstance(value, Mapping):
            yield name.replace("_", " "), str(value)


def _checkpoint(missing: list[str]) -> str:
    if {"torch", "safetensors"} & set(missing):
        return "not checked"
    from pkecho_edge.model.checkpoint import default_checkpoint_path, load_checkpoint

    path = default_checkpoint_path()
    network = load_checkpoint(path)
    return f"{network.config.backbone}, {path.stat().st_size / 1e6:.1f} MB, loads"
