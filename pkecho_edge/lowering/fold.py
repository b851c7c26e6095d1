"""Algebra that removes layers: each function returns a new module that computes the same thing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fold_batch_norm", "fold_input_scale", "fold_single_key_attention", "linear"]


def fold_batch_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Convolution followed by BatchNorm in eval mode -> one convolution with bias."""
    return fuse_conv_bn_eval(convolution.eval(), norm.eval())


def fold_input_scale(convolution: nn.Conv2d, scale: float) -> nn.Conv2d:
    """convolution(x * scale) -> convolution(x); exact because padding is zero either way."""
    with torch.no_grad():
        convolution.weight.mul_(scale)
    return convolution


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A frozen linear layer from weight [outputs, inputs] and bias [outputs]."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def fold_single_key_attention(attention: nn.MultiheadAttention) -> nn.Linear:
    """Attention over one key is a linear map of that key's value.

    The softmax over a single score is 1, so attention(q; k, v) = W_o (W_v v + b_v) + b_o whatever
    the query. Exact for every number of heads.
    """
    width = attention.embed_dim
    value_weight = attention.in_proj_weight.detach()[2 * width :]
    value_bias = attention.in_proj_bias.detach()[2 * width :]
    out_weight = attention.out_proj.weight.detach()
    out_bias = attention.out_proj.bias.detach()
    return linear(out_weight @ value_weight, out_weight @ value_bias + out_bias)
