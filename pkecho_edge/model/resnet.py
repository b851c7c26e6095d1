"""ResNet-18/34/50 encoders with torchvision's parameter names, so that ImageNet weights load.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016. In the bottleneck the
stride sits in the 3x3 convolution, as in torchvision ("ResNet v1.5").
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["BACKBONES", "BackbonePlan", "BasicBlock", "Bottleneck", "ResidualStage", "make_stem"]


@dataclass(frozen=True)
class BackbonePlan:
    """How many residual blocks each stage has, and whether they are bottlenecks."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool

    @property
    def expansion(self) -> int:
        """Stage output channels per inner channel: 4 for bottlenecks, else 1."""
        return 4 if self.bottleneck else 1


BACKBONES = {
    "resnet18": BackbonePlan(blocks=(2, 2, 2, 2), bottleneck=False),
    "resnet34": BackbonePlan(blocks=(3, 4, 6, 3), bottleneck=False),
    "resnet50": BackbonePlan(blocks=(3, 4, 6, 3), bottleneck=True),
}


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=(kernel - 1) // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut. inner: the channels between them."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, inner, 3, stride)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _convolution(inner, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        out: Tensor = self.relu(x + identity)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut. inner: the width of both inner layers."""

    def __init__(self, inputs: int, inner: tuple[int, int], outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, inner[0], 1)
        self.bn1 = nn.BatchNorm2d(inner[0])
        self.conv2 = _convolution(inner[0], inner[1], 3, stride)
        self.bn2 = nn.BatchNorm2d(inner[1])
        self.conv3 = _convolution(inner[1], outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        out: Tensor = self.relu(x + identity)
        return out


class ResidualStage(nn.Sequential):
    """One of layer1..layer4: residual blocks, the first of which carries the stride.

    Args:
        inputs: channels that enter the stage.
        inner: per block the inner widths, (w,) for a basic block, (w1, w2) for a bottleneck.
        outputs: channels that leave every block of the stage.
        stride: of the first block, 1 or 2.
    """

    def __init__(
        self, inputs: int, inner: tuple[tuple[int, ...], ...], outputs: int, stride: int
    ) -> None:
        blocks: list[nn.Module] = []
        for index, widths in enumerate(inner):
            block_inputs = inputs if index == 0 else outputs
            block_stride = stride if index == 0 else 1
            if len(widths) == 1:
                blocks.append(BasicBlock(block_inputs, widths[0], outputs, block_stride))
            else:
                pair = (widths[0], widths[1])
                blocks.append(Bottleneck(block_inputs, pair, outputs, block_stride))
        super().__init__(*blocks)


def make_stem(outputs: int) -> nn.Sequential:
    """encoder_layer0: [N, 1, H, W] -> [N, outputs, H / 4, W / 4]."""
    return nn.Sequential(
        nn.Conv2d(1, outputs, kernel_size=7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )
