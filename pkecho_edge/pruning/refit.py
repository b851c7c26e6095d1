"""What stays takes over from what was cut: each convolution refitted to what it said before.

A convolution that has lost some of its inputs says something else, and everything behind it has
learned to read what it said. So each one gets, in the order in which a frame passes them, the
weights with which it says in the channels that are left what it said before, as nearly as a linear
map of its inputs can (He, Zhang, Sun, ICCV 2017): a ridge regression over pixels of recordings,
towards the weights that it has. Its inputs are those of the network that is refitted up to there,
and the last convolution of a residual block also makes up for what the shortcut beside it lacks, so
that errors do not pile up.

It takes neither labels nor gradients, and a few minutes; recovery by learning then begins with a
network that works.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.model.resnet import BasicBlock, Bottleneck
from pkecho_edge.pruning.layers import ConvLayer, network_layers

__all__ = ["refit"]

_RIDGE = 1e-4
"""Of the inputs' mean square: how much a weight's way from where it was weighs."""

_PER_UNKNOWN = 8
"""Pixels that a regression sees for each of its unknowns, where the recordings have so many."""

_LEAST_PIXELS = 20_000
_LEAST_SCALE = 1e-3  # of a BatchNorm: what passes a smaller one says next to nothing


def refit(
    pruned: PKEchoNet,
    parent: PKEchoNet,
    kept: Mapping[str, Tensor],
    frames: Sequence[Tensor],
    on_layer: Callable[[], None] = lambda: None,
) -> PKEchoNet:
    """A pruned network that says, layer by layer, what its parent says.

    Args:
        pruned: of `keep_channels`; it is left as it is.
        parent: what it was cut from, left as it is.
        kept: of `kept_channels`: place -> i64, which of the parent's channels are left.
        frames: f32 [N, 1, H, W] in [0, 1] each, N > 0, of any sizes that the network takes; without
            any the answer is a copy.
        on_layer: called after each of `network_layers`.

    Returns:
        the refitted network, in eval mode.
    """
    network, parent = copy.deepcopy(pruned).eval(), copy.deepcopy(parent).eval()
    sides = [_Side(each, each) for each in frames]
    layers = network_layers(parent.config)
    with torch.no_grad():
        for name in dict.fromkeys(_segment(layer) for layer in layers):
            # the last convolution of a block makes up for its shortcut, so that comes first
            own = sorted(
                (layer for layer in layers if _segment(layer) == name),
                key=lambda layer: "downsample" not in layer.name,
            )
            ours, theirs = network.get_submodule(name), parent.get_submodule(name)
            if sides:
                _refit_segment(own, name, ours, theirs, kept, sides, on_layer)
            if name.startswith("encoder"):  # what stands beside the encoder leads no further
                sides = [_Side(ours(side.ours), theirs(side.theirs)) for side in sides]
    return network


@dataclass(frozen=True)
class _Side:
    """The features of some frames: f32 [N, C, h, w] of the network and of its parent."""

    ours: Tensor
    theirs: Tensor


def _segment(layer: ConvLayer) -> str:
    """The module that a frame passes as a whole: the stem, a residual block, an estimator."""
    parts = layer.name.split(".")
    return parts[0] if parts[0] == "encoder_layer0" else ".".join(parts[:2])


def _refit_segment(
    layers: Sequence[ConvLayer],
    segment: str,
    ours: nn.Module,
    theirs: nn.Module,
    kept: Mapping[str, Tensor],
    sides: Sequence[_Side],
    on_layer: Callable[[], None],
) -> None:
    """The convolutions of one segment, in the order that they are given in."""
    names = [layer.name.removeprefix(f"{segment}.") for layer in layers]
    channels = {
        name: kept[layer.outputs] if isinstance(layer.outputs, str) else slice(None)
        for name, layer in zip(names, layers, strict=True)
    }
    said = [
        {name: each.output[:, channels[name]] for name, each in passed.items()}
        for passed in (_passed(theirs, names, side.theirs) for side in sides)
    ]
    for name, layer in zip(names, layers, strict=True):
        wished = [each[name] for each in said]
        norm = _norm_behind(ours, name)
        if norm is not None and _closes(ours, name):
            wished = [
                _beside_shortcut(each, ours, theirs, side, channels[name], norm)
                for each, side in zip(wished, sides, strict=True)
            ]
        _refit_layer(layer, name, ours, norm, sides, wished)
        on_layer()


def _refit_layer(
    layer: ConvLayer,
    name: str,
    ours: nn.Module,
    norm: nn.BatchNorm2d | None,
    sides: Sequence[_Side],
    wished: Sequence[Tensor],
) -> None:
    """One convolution, so that it says on each side what is wished for: f32 [N, out, h', w'].

    What is fitted is what it lacks. So its weights move no more than they must, and recordings that
    are too few to say how, or a layer that lacks nothing, leave them where they are.
    """
    convolution = ours.get_submodule(name)
    assert isinstance(convolution, nn.Conv2d)
    weight = convolution.weight  # [out, in, k, k]; of a depthwise one [out, 1, k, k]
    each = -(-max(_LEAST_PIXELS, _PER_UNKNOWN * weight[0].numel()) // sum(map(len, wished)))
    regression, chance = _Regression(), torch.Generator().manual_seed(0)
    for side, outputs in zip(sides, wished, strict=True):
        now = _passed(ours, [name], side.ours)[name]
        regression.add(*_sampled(layer, now.inputs, outputs - now.output, each, chance))
    change, offset = regression.solve()
    change = (change[:, :, 0] if layer.depthwise else change[0].mT).reshape(weight.shape)
    if not bool(torch.isfinite(change).all() and torch.isfinite(offset).all()):
        return
    weight.add_(change)
    if convolution.bias is not None:
        convolution.bias.add_(offset)
    elif norm is not None and norm.running_mean is not None:
        norm.running_mean.sub_(offset)


def _sampled(
    layer: ConvLayer, inputs: Tensor, outputs: Tensor, each: int, chance: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Some pixels of every frame, with what the convolution sees there.

    Args:
        inputs, outputs: f32 [N, in, h, w] and [N, out, h', w'].
        each: pixels of each frame, at most.

    Returns:
        f32 [problems, samples, unknowns] and [problems, samples, outputs]; the channels of a
        depthwise convolution are a problem each.
    """
    pixels, seen, said = outputs.shape[2] * outputs.shape[3], [], []
    for frame, wished in zip(inputs, outputs, strict=True):
        at = torch.randperm(pixels, generator=chance)[:each]
        patches = F.unfold(
            frame[None], layer.kernel, padding=layer.kernel // 2, stride=layer.stride
        )
        seen.append(patches[0][:, at].mT)
        said.append(wished.flatten(1)[:, at].mT)
    x, y = torch.cat(seen), torch.cat(said)
    if not layer.depthwise:
        return x[None], y[None]
    return x.view(len(x), y.shape[1], -1).transpose(0, 1), y.mT[:, :, None]


class _Regression:
    """Least squares of batches of independent problems, from sums over their samples."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: list[Tensor] = []

    def add(self, x: Tensor, y: Tensor) -> None:
        """f32 [problems, samples, unknowns] and [problems, samples, outputs]."""
        new = [x.sum(1), y.sum(1), x.mT @ x, x.mT @ y]
        self._sums = [
            each.double() if not self._sums else self._sums[at].add_(each)
            for at, each in enumerate(new)
        ]
        self._count += x.shape[1]

    def solve(self) -> tuple[Tensor, Tensor]:
        """f32 weights [problems, unknowns, outputs], and the offsets of all outputs."""
        x, y, xx, xy = self._sums
        x, y = (each[:, :, None] / self._count for each in (x, y))
        xx, xy = xx / self._count - x @ x.mT, xy / self._count - x @ y.mT
        ridge = _RIDGE * xx.diagonal(dim1=1, dim2=2).mean(1).clamp(min=torch.finfo(x.dtype).tiny)
        eye = torch.eye(xx.shape[1], dtype=xx.dtype)
        weights = torch.linalg.solve(xx + ridge[:, None, None] * eye, xy)
        return weights.float(), (y.mT - x.mT @ weights).flatten().float()


@dataclass(frozen=True)
class _Passed:
    """What passed a convolution: f32 [N, in, h, w] and [N, out, h', w']."""

    inputs: Tensor
    output: Tensor


def _passed(segment: nn.Module, names: Sequence[str], features: Tensor) -> dict[str, _Passed]:
    """What passes the convolutions of these names on the way through a segment."""
    found: dict[str, _Passed] = {}

    def note(name: str, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found[name] = _Passed(inputs[0], output)

    with ExitStack() as hooks:
        for name in names:
            hook = segment.get_submodule(name).register_forward_hook(partial(note, name))
            hooks.callback(hook.remove)
        segment(features)
    return found


def _norm_behind(segment: nn.Module, name: str) -> nn.BatchNorm2d | None:
    """The BatchNorm that a convolution's output enters, None of a convolution without one."""
    inside, _, last = name.rpartition(".")
    for (before, _), (_, behind) in pairwise(segment.get_submodule(inside).named_children()):
        if before == last and isinstance(behind, nn.BatchNorm2d):
            return behind
    return None


def _closes(segment: nn.Module, name: str) -> bool:
    """Whether the convolution is the last of a residual block."""
    if isinstance(segment, Bottleneck):
        return name == "conv3"
    return isinstance(segment, BasicBlock) and name == "conv2"


def _shortcut(block: nn.Module, features: Tensor) -> Tensor:
    assert isinstance(block, BasicBlock | Bottleneck)
    return features if block.downsample is None else block.downsample(features)


def _beside_shortcut(
    said: Tensor,
    ours: nn.Module,
    theirs: nn.Module,
    side: _Side,
    channels: Tensor | slice,
    norm: nn.BatchNorm2d,
) -> Tensor:
    """What a block's last convolution should say for the block's sum to be the parent's.

    Args:
        said: f32 [N, C, h, w], what the parent's convolution says in the channels that are left.
        norm: the BatchNorm behind the network's: that of the parent, in these channels.
    """
    assert norm.running_var is not None
    missing = _shortcut(theirs, side.theirs)[:, channels] - _shortcut(ours, side.ours)
    heard = norm.weight.abs() > _LEAST_SCALE
    share = (norm.running_var + norm.eps).sqrt() / norm.weight.where(heard, torch.inf)
    return said + missing * share[:, None, None]
