"""The widths of a network by name, and which of them must stay equal.

    stem            channels after encoder_layer0
    outputs.I       channels after layer I + 1, I = 0..3
    inner.I.B.K     inside block B of layer I + 1: after its first (K = 0) or second convolution

A basic block of layer 1 has no convolution on its shortcut, so the stem and layer 1 share a width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from pkecho_edge.model.configuration import NetworkConfig, Widths
from pkecho_edge.model.resnet import BACKBONES

__all__ = ["STEM", "inner", "leader", "outputs", "places_of", "widths_of", "with_widths"]

STEM = "stem"


def outputs(stage: int) -> str:
    """The place after layer `stage` + 1."""
    return f"outputs.{stage}"


def inner(stage: int, block: int, layer: int) -> str:
    """The place after convolution `layer` of a block, all counted from 0."""
    return f"inner.{stage}.{block}.{layer}"


def leader(config: NetworkConfig, place: str) -> str:
    """The place whose width this one has: itself, or the stem where layer 1 has no projection."""
    tied = not BACKBONES[config.backbone].bottleneck
    return STEM if tied and place == outputs(0) else place


def places_of(config: NetworkConfig) -> tuple[str, ...]:
    """Every width that can be chosen for itself, from the image to the deepest layer."""
    return tuple(name for name, _ in _all(config) if leader(config, name) == name)


def widths_of(config: NetworkConfig) -> dict[str, int]:
    """Place -> channels, of those that `places_of` names."""
    return {name: width for name, width in _all(config) if leader(config, name) == name}


def with_widths(config: NetworkConfig, widths: Mapping[str, int]) -> NetworkConfig:
    """The same network with other widths.

    Args:
        config: any.
        widths: of every place of `places_of`.

    Raises:
        CheckpointError: widths out of range.
    """
    old = config.channel_widths
    first, second, third, fourth = (widths[leader(config, outputs(i))] for i in range(4))
    new = Widths(
        stem=widths[STEM],
        outputs=(first, second, third, fourth),
        inner=tuple(
            tuple(
                tuple(widths[inner(s, b, k)] for k in range(len(block)))
                for b, block in enumerate(stage)
            )
            for s, stage in enumerate(old.inner)
        ),
    )
    return replace(config, widths=new)


def _all(config: NetworkConfig) -> Iterator[tuple[str, int]]:
    widths = config.channel_widths
    yield STEM, widths.stem
    for s, stage in enumerate(widths.inner):
        for b, block in enumerate(stage):
            for k, width in enumerate(block):
                yield inner(s, b, k), width
        yield outputs(s), widths.outputs[s]
