"""Each rewrite alone, in double precision: the algebra is exact, so only rounding may differ."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from pkecho_edge.lowering.encoder import LoweredEncoder
from pkecho_edge.lowering.fold import (
    fold_batch_norm,
    fold_input_scale,
    fold_single_key_attention,
)
from pkecho_edge.lowering.head import LoweredHead, LoweredReduction
from pkecho_edge.lowering.upsampler import MAX_SCORE, LoweredUpsampler
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.kernel_segmentation import KernelSegmentation
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.model.region_proxy import AffinityEstimator, upsample_with_affinity

TIGHT = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(autouse=True)
def doubles() -> object:
    torch.manual_seed(2)
    with torch.inference_mode():
        yield


def randomised(module: nn.Module) -> nn.Module:
    """In double precision, with norms that do something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
        if isinstance(part, nn.MultiheadAttention):
            nn.init.normal_(part.in_proj_bias)
            nn.init.normal_(part.out_proj.bias)
    return module.double().eval()


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_folds_into_the_convolution(groups: int, bias: bool) -> None:
    convolution = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups, bias=bias)
    both = randomised(nn.Sequential(convolution, nn.BatchNorm2d(8)))
    x = torch.randn(2, 4, 9, 7).double()

    folded = fold_batch_norm(copy.deepcopy(both[0]), both[1])

    torch.testing.assert_close(folded(x), both(x), **TIGHT)


def test_the_input_scale_folds_into_the_convolution() -> None:
    convolution = nn.Conv2d(1, 8, 7, stride=2, padding=3).double()
    x = torch.rand(2, 1, 32, 32).double() * 255

    folded = fold_input_scale(copy.deepcopy(convolution), 1 / 255)

    torch.testing.assert_close(folded(x), convolution(x / 255), **TIGHT)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_over_one_key_is_linear(heads: int) -> None:
    attention = randomised(nn.MultiheadAttention(32 * heads, heads, batch_first=True))
    query, key = torch.randn(2, 5, 1, 32 * heads).double()

    expected, _ = attention(query, key, key)
    folded = fold_single_key_attention(attention)

    torch.testing.assert_close(folded(key), expected, **TIGHT)


def test_attention_over_two_keys_is_not() -> None:
    attention = randomised(nn.MultiheadAttention(32, 1, batch_first=True))
    tokens = torch.randn(1, 2, 32).double()

    expected, _ = attention(tokens, tokens, tokens)

    assert (fold_single_key_attention(attention)(tokens) - expected).abs().max() > 0.01


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(("height", "width"), [(3, 4), (6, 3), (1, 5)])
def test_the_upsampler_is_equation_5_up_to_the_border(factor: int, height: int, width: int) -> None:
    estimator = randomised(AffinityEstimator(6, factor))
    features = torch.randn(2, 6, height, width).double()
    masks = torch.randn(2, 1, height, width).double()

    lowered = LoweredUpsampler(estimator, height, width).double()
    expected = upsample_with_affinity(masks, estimator(features))

    assert lowered(features, masks).shape == (2, 1, height * factor, width * factor)
    torch.testing.assert_close(lowered(features, masks), expected, **TIGHT)


def test_a_neighbour_that_wins_by_far_takes_all() -> None:
    estimator = randomised(AffinityEstimator(6, 2))
    pointwise = estimator.estimator[3]
    pointwise.bias[:4] += 3 * MAX_SCORE  # the upper left neighbour of all four sub-pixels
    features, masks = torch.randn(1, 6, 4, 4).double(), torch.randn(1, 1, 4, 4).double()

    lowered = LoweredUpsampler(estimator, 4, 4).double()(features, masks)

    assert lowered.isfinite().all()
    torch.testing.assert_close(lowered, upsample_with_affinity(masks, estimator(features)), **TIGHT)
    torch.testing.assert_close(lowered[0, 0, 2:4, 2:4], masks[0, 0, 0, 0].expand(2, 2), **TIGHT)


@pytest.mark.parametrize("refinements", [0, 1, 3])
@pytest.mark.parametrize("channels", [32, 64])
def test_the_head_at_batch_size_1(refinements: int, channels: int) -> None:
    head = randomised(KernelSegmentation(12, channels, refinements, frames=5))
    for bias in (*head.bias, head.predictor_conv2.bias):
        bias.normal_()
    features = torch.randn(5, 12, 3, 4).double()

    lowered = LoweredHead(head)(LoweredReduction(head)(features))

    torch.testing.assert_close(lowered, head(features)[-1], **TIGHT)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_the_encoder_takes_bytes(
    backbone: str, conditioned: Callable[[NetworkConfig], PKEchoNet]
) -> None:
    with torch.inference_mode(mode=False):
        network = copy.deepcopy(conditioned(NetworkConfig(backbone, frames=2))).double()
    frames = torch.randint(0, 256, (2, 1, 32, 64), dtype=torch.uint8)

    features = LoweredEncoder(network)(frames)

    expected = network.encoder_layer0(frames.double() / 255)
    assert [f.shape[-1] for f in features] == [16, 8, 4, 2]
    for (stage, _), got in zip(network.stages(), features, strict=True):
        expected = stage(expected)
        torch.testing.assert_close(got, expected, **TIGHT)
