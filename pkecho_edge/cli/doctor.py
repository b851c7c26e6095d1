"""`pkecho-edge doctor`: what is here, what works with it, and what installs the rest."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkecho_edge.cli.console import (
    DebugOption,
    JsonOption,
    QuietOption,
    console,
    plain,
    write_json,
)
from pkecho_edge.errors import EnvironmentMismatch

if TYPE_CHECKING:
    from pkecho_edge.environment import Environment, Part, Use
    from pkecho_edge.processors import Int8Support

__all__ = ["doctor"]

_WIDTH = 78
_REMEDY = "Run: pip install 'pkecho-edge[all]', then pkecho-edge doctor again"


def doctor(json: JsonOption = None, quiet: QuietOption = False, debug: DebugOption = False) -> None:
    """Say what this machine has for pkecho-edge, what works here, and what to install for the rest.

    Exit code 0 where the main commands work: demo, compile, verify, prune, tune, train.
    """
    import platform
    from dataclasses import asdict

    from pkecho_edge.environment import look_around
    from pkecho_edge.processors import cpu_flags, int8_support
    from pkecho_edge.stages import default_cache
    from pkecho_edge.verify.machine import machine_facts

    facts, found = machine_facts(), look_around()
    int8 = int8_support(cpu_flags(), platform.machine())
    checkpoint, sound = _checkpoint()
    cache, writable = _cache(default_cache())
    if json:
        document = {**found.as_dict(), "int8": asdict(int8), "machine": facts}
        kept = {"path": str(default_cache()), "writable": writable}
        write_json(json, {**document, "cache": kept, "checkpoint": checkpoint})
    if not quiet:
        for line in _lines(facts, int8, found, cache, checkpoint):
            console.print(plain(line), soft_wrap=True)
    if found.missing:
        raise EnvironmentMismatch(f"not installed: {', '.join(found.missing)}", remedy=_REMEDY)
    if not sound:
        raise EnvironmentMismatch(
            f"the packaged checkpoint: {checkpoint}",
            remedy="Run: pip install --force-reinstall pkecho-edge, then pkecho-edge doctor again",
        )
    if not writable:
        raise EnvironmentMismatch(
            "the cache cannot be written",
            path=default_cache(),
            remedy="Set PKECHO_EDGE_CACHE to a folder that can, then run pkecho-edge doctor again",
        )


def _lines(
    facts: Mapping[str, Any], int8: Int8Support, found: Environment, cache: str, checkpoint: str
) -> Iterator[str]:
    """The whole page, no line of it longer than a narrow terminal but paths and commands."""
    cpu = facts["cpu"]
    flags = [name for name, present in cpu["flags"].items() if present]
    unknown = all(present is None for present in cpu["flags"].values())
    none = "not known" if unknown else "none that matter here"
    model, memory = cpu["model"] or "processor not known", facts["memory_gib"]
    gib = "memory not known" if memory is None else f"{memory} GiB"
    yield "MACHINE"
    yield from _wrapped(f"{model}, {cpu['cores_usable']} cores usable, {gib}")
    yield from _wrapped(f"{facts['os']}, {cpu['architecture']}, Python {facts['python']}")
    yield from _wrapped(f"features: {' '.join(flags) or none}")
    yield from _wrapped(f"INT8: {int8.name}. {int8.speed} {int8.accuracy}")
    yield f"  cache: {cache}"
    yield f"  packaged checkpoint: {checkpoint}"
    yield from _uses("COMMANDS", found.commands, "missing: ")
    yield from _uses("TARGETS (compile --target)", found.targets)
    yield from _parts("PACKAGES", found.packages)
    yield from _parts("PROGRAMS", found.programs)


def _uses(title: str, uses: Sequence[Use], lacks: str = "") -> Iterator[str]:
    yield ""
    yield title
    for use in uses:
        yield f"  {'not here' if use.missing else 'works'}".ljust(11) + use.name
        if use.missing.startswith("pip "):  # a line to copy is not wrapped
            yield f"{'':11}{use.missing}"
        elif use.missing:
            yield from _wrapped(f"{lacks}{use.missing}", indent=11)


def _parts(title: str, parts: Sequence[Part]) -> Iterator[str]:
    yield ""
    yield title
    for part in parts:
        if part.trouble:
            yield f"  fails    {part.name:<17}{part.purpose}"
            yield from _wrapped(f"it says: {part.trouble}", indent=11)
        elif part.version is None:
            yield f"  missing  {part.name:<17}{part.purpose}"
            if part.remedy:
                yield f"           {part.remedy}"
        else:
            yield f"  there    {part.name:<17}{part.version or '-':<16}{part.purpose}"


def _wrapped(text: str, indent: int = 2) -> list[str]:
    first, rest = " " * indent, " " * (indent + 2)
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False
    )


def _checkpoint() -> tuple[str, bool]:
    """The packaged checkpoint in words, and whether it is whole as far as its header tells."""
    from pkecho_edge.environment import packaged_checkpoint

    try:
        backbone, size = packaged_checkpoint()
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"damaged ({error})", False
    return f"{backbone}, {size / 1e6:.1f} MB", True


def _cache(path: Path) -> tuple[str, bool]:
    """The cache in words, and whether it could be written."""
    import shutil

    place = path.absolute()
    while not place.is_dir() and place != place.parent:
        if os.path.lexists(place):
            return f"{path}, which is no folder", False
        place = place.parent
    free = f"{shutil.disk_usage(place).free / 1e9:.1f} GB free"
    if not os.access(place, os.W_OK | os.X_OK):
        return f"{path}, {free}, not writable", False
    return f"{path}, {free}{'' if path.is_dir() else ', not there yet'}", True
