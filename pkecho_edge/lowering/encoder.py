"""The encoder without BatchNorm: 8-bit frames in, the features of all four stages out."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from pkecho_edge.lowering.fold import fold_batch_norm, fold_input_scale
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.model.resnet import BasicBlock, Bottleneck

__all__ = ["LoweredBlock", "LoweredEncoder"]


def _folded(convolution: nn.Module, norm: nn.Module) -> nn.Conv2d:
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    return fold_batch_norm(copy.deepcopy(convolution), norm)


class LoweredBlock(nn.Module):
    """A residual block of convolutions, ReLU and one addition: [N, C, H, W] -> [N, D, h, w]."""

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if isinstance(block, Bottleneck):
            pairs.append((block.conv3, block.bn3))
        self.convolutions = nn.ModuleList(_folded(*pair) for pair in pairs)
        shortcut = block.downsample
        self.downsample = None if shortcut is None else _folded(shortcut[0], shortcut[1])

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        identity = x if self.downsample is None else self.downsample(x)
        *inner, last = self.convolutions
        for convolution in inner:
            x = convolution(x).relu()
        out: Tensor = (last(x) + identity).relu()
        return out


def _lowered(block: nn.Module) -> LoweredBlock:
    assert isinstance(block, BasicBlock | Bottleneck)
    return LoweredBlock(block)


class LoweredEncoder(nn.Module):
    """Frames u8 [N, 1, H, W] -> features of layer1..4, strides 4, 8, 16 and 32.

    The division by 255 lives in the first convolution's weights.
    """

    def __init__(self, network: PKEchoNet) -> None:
        super().__init__()
        stem = network.encoder_layer0
        stages = [[_lowered(block) for block in stage.children()] for stage, _ in network.stages()]
        self.stem = fold_input_scale(_folded(stem[0], stem[1]), 1 / 255)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """See the class."""
        x = self.pool(self.stem(frames.to(self.stem.weight.dtype)).relu())
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
