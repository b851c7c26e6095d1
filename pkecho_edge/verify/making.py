"""How an engine was made, in words: from the lineage of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pkecho_edge.verify.words import NONE, Document, number

__all__ = ["making_words"]


_MOST = 1e15


def making_words(lineage: Document) -> list[tuple[str, str]]:
    """(what, how) of network, pruning, quantization, calibration and precision.

    Args:
        lineage: of a report; may come from a file of anybody, so nothing in it is taken for
            granted.

    Returns:
        What is known; [] where the lineage has no configuration.
    """
    configuration = _mapping(lineage.get("configuration"))
    return [(what, how) for what, how in _facts(configuration) if how]


def _facts(configuration: Document) -> Iterator[tuple[str, str]]:
    if not configuration:
        return
    yield "network", _network(configuration)
    yield "pruned", _pruned(configuration)
    yield from _quantized(_mapping(configuration.get("quantization")))
    yield "calibration", _calibration(_mapping(configuration.get("calibration")))
    yield "precision", _listed(_mapping(configuration.get("options")))


def _network(configuration: Document) -> str:
    network, sizes = (_mapping(configuration.get(name)) for name in ("network", "model"))
    told = [str(network["backbone"])] if "backbone" in network else []
    for name, scale, unit in (("parameters", 1e6, "M parameters"), ("gmacs", 1, "GMACs a clip")):
        if (value := _amount(sizes.get(name), scale)) is not None:
            before = _amount(sizes.get(f"baseline_{name}"), scale)
            of = "" if before is None else f" of {number(before)}"
            told.append(f"{number(value)}{of} {unit}")
    return ", ".join(told)


def _pruned(configuration: Document) -> str:
    if "pruning" not in configuration:
        return ""
    return _listed(_mapping(configuration["pruning"])) or "not pruned"


def _quantized(plan: Document) -> Iterator[tuple[str, str]]:
    if not plan:
        return
    yield "quantized", ", ".join(str(plan[n]) for n in ("scheme", "rule") if plan.get(n))
    layers = plan.get("float_layers")
    if isinstance(layers, list):
        yield "layers left in float", ", ".join(map(str, layers)) or "none"


def _calibration(facts: Document) -> str:
    if not facts:
        return ""
    sources = facts.get("sources")
    where = f", of {', '.join(map(str, sources))}" if isinstance(sources, list) and sources else ""
    return (
        f"{facts.get('clips', NONE)} clips of {facts.get('patients', NONE)} patients{where}, "
        f"rule {facts.get('rule', NONE)}"
    )


def _listed(facts: Document) -> str:
    """For example "ratio 0.8, scope latency"."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in facts.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    )


def _amount(value: Any, scale: float) -> float | None:
    """A number in units of `scale`; None for anything that is none, or of no use."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value / scale if abs(value) < _MOST else None  # false for nan, too


def _mapping(value: Any) -> Document:
    return value if isinstance(value, Mapping) else {}
