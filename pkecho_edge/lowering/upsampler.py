"""Equation 5 without scatter, softmax over a masked axis, or tensors of five dimensions.

Softmax does not change when one score is subtracted from all, so the centre's is subtracted in the
weights of the estimator's last convolution: eight neighbours remain, the ninth weight is exp(0).

    out = x + (sum_j w_j (x_j - x)) / (1 + sum_j w_j),   w_j = inside_j exp(score_j - score_centre)

What costs time is memory: at the finest stage of a 320x320 clip one tensor of all scores takes
33 MB, and every step that writes one and reads it back is as dear as a convolution. From r = 4 on
(`LoweredUpsampler`) each neighbour therefore has a convolution of its own, with r^2 channels that
fill whole vectors; its scores are used up in the caches while the sums over j grow in place. Below
it (`LoweredNarrowUpsampler`) r^2 channels are too few for that: all scores come from one
convolution, the differences from a fixed 3x3 convolution, and the sums over j are a fixed 1x1
convolution. docs/performance.md has the figures.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pkecho_edge.lowering.fold import fold_batch_norm
from pkecho_edge.model.region_proxy import DEEPEST_STRIDE, NEIGHBOURS, AffinityEstimator

__all__ = [
    "MAX_SCORE",
    "LoweredBilinear",
    "LoweredNarrowUpsampler",
    "LoweredUpsampler",
    "lower_estimator",
]

_CENTRE = NEIGHBOURS // 2
_OTHERS = NEIGHBOURS - 1
_SHIFTS = [divmod(index, 3) for index in range(NEIGHBOURS) if index != _CENTRE]
MAX_SCORE = 60.0
"""exp(60) * 8 is finite in FP32; a score difference beyond it leaves the other weights below
1e-26, so cutting there changes nothing that FP32 can show unless two scores exceed it."""
_WHOLE_VECTORS = 4
"""The smallest factor whose r^2 channels fill a vector of 16 floats."""


class LoweredUpsampler(nn.Module):
    """One affinity estimator and the upsampling it steers, at a fixed feature size.

    Args:
        estimator: trained.
        height, width: of the features it reads.
    """

    border: Tensor

    def __init__(self, estimator: AffinityEstimator, height: int, width: int) -> None:
        super().__init__()
        self.factor, self._size = estimator.factor, (height, width)
        self.depthwise, scores = _lowered(estimator)
        # a 1x1 convolution with padding 1 pads with zeros, in one operator that every toolchain has
        self.register_buffer("border", torch.ones(1, 1, 1, 1))
        parts = zip(
            _by_neighbour(scores, self.factor**2),
            torch.split(_inside(height, width), 1, dim=1),
            _SHIFTS,
            strict=True,
        )
        self.neighbours = nn.ModuleList(_Neighbour(*part) for part in parts)

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """features [N, C, h, w], masks [N, 1, h, w] -> masks [N, 1, r h, r w]."""
        steering = self.depthwise(features).relu()
        padded = F.conv2d(masks, self.border, padding=1)  # [N, 1, h + 2, w + 2]
        parts = [neighbour(steering, masks, padded) for neighbour in self.neighbours]
        weights, weighted = zip(*parts, strict=True)
        out = masks + _sum_in_pairs(weighted) / (1 + _sum_in_pairs(weights))  # [N, r^2, h, w]
        return self._depth_to_space(out)

    def _depth_to_space(self, cells: Tensor) -> Tensor:
        """As pixel_shuffle: [N, r^2, h, w] -> [N, 1, r h, r w].

        Convolutions leave their channels innermost in memory. From there, rows and columns of the
        cells are swapped in one step; DepthToSpace has OpenVINO sort every number for itself.
        """
        (height, width), factor = self._size, self.factor
        rows = cells.permute(0, 2, 3, 1).reshape(-1, width, factor, factor)  # [N h, w, r, r]
        return rows.permute(0, 2, 1, 3).reshape(-1, 1, factor * height, factor * width)


class _Neighbour(nn.Module):
    """One neighbour's part in the sums.

    Args:
        scores: convolution to r^2 channels, the centre's scores taken off.
        inside: f32 [1, 1, h, w], 1 where the neighbour lies in the image.
        shift: row and column of the neighbour in its 3x3 surroundings, from 0.
    """

    inside: Tensor

    def __init__(self, scores: nn.Conv2d, inside: Tensor, shift: tuple[int, int]) -> None:
        super().__init__()
        self.scores, self.shift = scores, shift
        self.register_buffer("inside", inside.clone())

    def forward(self, steering: Tensor, masks: Tensor, padded: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, h, w], [N, 1, h, w], [N, 1, h + 2, w + 2] -> w_j and w_j (x_j - x), [N, r^2, h, w]
        each."""
        weights = self.scores(steering).clamp(max=MAX_SCORE).exp() * self.inside
        (row, column), (height, width) = self.shift, self.inside.shape[2:]
        shifted = padded[:, :, row : row + height, column : column + width]
        return weights, weights * (shifted - masks)


class LoweredNarrowUpsampler(nn.Module):
    """The same for small factors; arguments as LoweredUpsampler's."""

    inside: Tensor
    difference: Tensor
    total: Tensor

    def __init__(self, estimator: AffinityEstimator, height: int, width: int) -> None:
        super().__init__()
        self.factor = estimator.factor
        self.depthwise, self.scores = _lowered(estimator)
        cells = self.factor**2
        self.register_buffer("inside", _inside(height, width).repeat_interleave(cells, dim=1))
        self.register_buffer("difference", _difference().repeat_interleave(cells, dim=0))
        total = torch.eye(cells).repeat(1, _OTHERS)  # [r^2, 8 r^2]
        self.register_buffer("total", total.view(cells, -1, 1, 1))

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """features [N, C, h, w], masks [N, 1, h, w] -> masks [N, 1, r h, r w]."""
        scores = self.scores(self.depthwise(features).relu())  # [N, 8 r^2, h, w]
        weights = scores.clamp(max=MAX_SCORE).exp() * self.inside
        differences = F.conv2d(masks, self.difference, padding=1)  # [N, 8 r^2, h, w]
        above = F.conv2d(weights * differences, self.total)  # [N, r^2, h, w]
        below = 1 + F.conv2d(weights, self.total)
        correction = F.pixel_shuffle(above / below, self.factor)
        return F.interpolate(masks, scale_factor=float(self.factor)) + correction


def lower_estimator(
    estimator: AffinityEstimator, height: int, width: int
) -> LoweredUpsampler | LoweredNarrowUpsampler:
    """The faster of the two forms for the estimator's factor; arguments as theirs."""
    fills = estimator.factor >= _WHOLE_VECTORS
    return (LoweredUpsampler if fills else LoweredNarrowUpsampler)(estimator, height, width)


class LoweredBilinear(nn.Module):
    """Without region proxies: bilinear from the deepest stage to the image, as in training."""

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """masks [N, 1, h, w] -> masks [N, 1, 32 h, 32 w]; features are not looked at."""
        return F.interpolate(masks, scale_factor=float(DEEPEST_STRIDE), mode="bilinear")


def _lowered(estimator: AffinityEstimator) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The estimator's two convolutions: BatchNorm folded, the centre's scores taken off."""
    depthwise, norm, _, last = copy.deepcopy(estimator.estimator)
    assert isinstance(depthwise, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert isinstance(last, nn.Conv2d)
    return fold_batch_norm(depthwise, norm), _relative_to_centre(last, estimator.factor**2)


def _relative_to_centre(convolution: nn.Conv2d, cells: int) -> nn.Conv2d:
    """The estimator's last convolution without the centre, its scores subtracted from the rest."""
    size = convolution.kernel_size[0]
    out = nn.Conv2d(
        convolution.in_channels,
        _OTHERS * cells,
        size,
        padding=size // 2,
        dtype=convolution.weight.dtype,
    )
    assert convolution.bias is not None
    for source, target in ((convolution.weight, out.weight), (convolution.bias, out.bias)):
        assert target is not None
        by_neighbour = source.detach().view(NEIGHBOURS, cells, *source.shape[1:])
        relative = by_neighbour - by_neighbour[_CENTRE]
        kept = torch.cat([relative[:_CENTRE], relative[_CENTRE + 1 :]])
        with torch.no_grad():
            target.copy_(kept.flatten(0, 1))
    return out


def _by_neighbour(convolution: nn.Conv2d, cells: int) -> Iterator[nn.Conv2d]:
    """A convolution with 8 r^2 outputs as eight with r^2, one per neighbour."""
    assert convolution.bias is not None
    for weight, bias in zip(
        torch.split(convolution.weight, cells), torch.split(convolution.bias, cells), strict=True
    ):
        part = copy.deepcopy(convolution)
        part.out_channels = cells
        part.weight, part.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        yield part


def _sum_in_pairs(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of an even number of tensors: (0 + 1) + (2 + 3) + ...

    Toolchains fuse a few inputs at a time into one kernel. Pairs leave them such groups; a plain
    sum from left to right has OpenVINO write and read twice as many partial sums.
    """
    pairs = [a + b for a, b in zip(tensors[::2], tensors[1::2], strict=True)]
    return functools.reduce(torch.add, pairs)


def _one_hot() -> Tensor:
    """3x3 filters [8, 1, 3, 3], each picking one neighbour."""
    filters = torch.zeros(_OTHERS, 1, 3, 3)
    for index, (row, column) in enumerate(_SHIFTS):
        filters[index, 0, row, column] = 1
    return filters


def _inside(height: int, width: int) -> Tensor:
    """[1, 8, h, w]: 1 where the neighbour lies in the image, 0 where it does not."""
    return F.conv2d(torch.ones(1, 1, height, width), _one_hot(), padding=1)


def _difference() -> Tensor:
    """3x3 filters [8, 1, 3, 3]: each neighbour minus the centre."""
    return _one_hot() - torch.eye(NEIGHBOURS)[_CENTRE].view(1, 1, 3, 3)
