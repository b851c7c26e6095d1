"""Convolutions side by side in one OpenVINO model, each as it runs in an INT8 engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Convolution", "side_by_side"]

_LEVELS = 256
"""Of an activation, u8."""


@dataclass(frozen=True)
class Convolution:
    """All that a convolution's time depends on.

    Attributes:
        inputs, outputs: channels; of a depthwise one the same number.
        kernel, stride: of the convolution, with padding that keeps the size but for the stride.
        size: (height, width) of its output, in pixels.
        depthwise: one filter per channel.
        frame: it reads the 8-bit frame itself.
        quantized: its output goes on as u8; else it is f32.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    size: tuple[int, int]
    depthwise: bool = False
    frame: bool = False
    quantized: bool = True

    @property
    def weights(self) -> int:
        """How many."""
        return self.kernel**2 * self.outputs * (1 if self.depthwise else self.inputs)

    @property
    def source(self) -> tuple[int, int, int]:
        """(channels, height, width) of its input."""
        return self.inputs, self.size[0] * self.stride, self.size[1] * self.stride


def side_by_side(convolutions: Sequence[Convolution], seed: int = 0) -> Any:
    """An openvino.Model of independent convolutions with random weights, bias and ReLU.

    In an engine a convolution reads what another one wrote, as u8 with channels innermost. So here:
    a 1x1 convolution makes each input out of an 8-bit image, and all that read an input of this
    shape share it. Of what they write one pixel goes on to an output of the model, so that no
    time is spent on bringing whole outputs into another layout.

    Args:
        convolutions: no two alike.
        seed: of the weights.

    Returns:
        openvino.Model. Inputs: u8 [1, 1, H, W], named "HxW", one per size. The profile names
        convolution I "layer.I", maybe with more behind it after a slash.
    """
    import openvino as ov

    parts = _Parts(np.random.default_rng(seed))
    results = [
        parts.pixel(parts.convolution(each, parts.source(each), f"layer.{index}"))
        for index, each in enumerate(convolutions)
    ]
    return ov.Model(results, list(parts.images.values()))


class _Parts:
    """Nodes of one model; good for one.

    Args:
        random: where weights come from.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.images: dict[tuple[int, int], Any] = {}  # (H, W) -> u8 [1, 1, H, W]
        self._sources: dict[tuple[int, int, int], Any] = {}  # (C, H, W) -> [1, C, H, W]
        self._random = random

    def source(self, convolution: Convolution) -> Any:
        """The quantized input of a convolution, [1, C, H, W]."""
        channels, height, width = convolution.source
        if convolution.frame:
            return self._image(height, width)
        key = (channels, height, width)
        if key not in self._sources:
            maker = Convolution(1, channels, 1, 1, (height, width), frame=True)
            name = f"source.{len(self._sources)}"
            self._sources[key] = self.convolution(maker, self._image(height, width), name)
        return self._sources[key]

    def convolution(self, what: Convolution, source: Any, name: str) -> Any:
        """Convolution, bias, ReLU and, where the output is quantized, its quantizer."""
        import openvino.opset13 as op

        kernel = (what.kernel, what.kernel)
        pads = [what.kernel // 2] * 2
        strides, dilations = [what.stride] * 2, [1, 1]
        if what.depthwise:
            weights = self._weights((what.outputs, 1, 1, *kernel))
            node = op.group_convolution(source, weights, strides, pads, pads, dilations)
        else:
            weights = self._weights((what.outputs, what.inputs, *kernel))
            node = op.convolution(source, weights, strides, pads, pads, dilations)
        node.set_friendly_name(name)
        node = op.relu(op.add(node, self._constant((1, what.outputs, 1, 1))))
        return _quantized(node, 4.0) if what.quantized else node

    def pixel(self, node: Any) -> Any:
        """The first pixel of [1, C, H, W], [1, C, 1, 1]."""
        import openvino.opset13 as op

        return op.slice(node, *(np.array(each) for each in ([0, 0], [1, 1], [1, 1], [2, 3])))

    def _image(self, height: int, width: int) -> Any:
        """An 8-bit image as it is, [1, 1, H, W], in steps of 1."""
        import openvino.opset13 as op

        if (height, width) not in self.images:
            image = op.parameter([1, 1, height, width], np.uint8, name=f"{height}x{width}")
            image.get_output_tensor(0).set_names({f"{height}x{width}"})
            self.images[height, width] = image
        return _quantized(op.convert(self.images[height, width], "f32"), _LEVELS - 1.0)

    def _weights(self, shape: tuple[int, ...]) -> Any:
        """s8 constants [outputs, ...] and a scale per output channel."""
        import openvino.opset13 as op

        integers = self._random.integers(-127, 128, shape, dtype=np.int8)
        scales = self._constant((shape[0], *[1] * (len(shape) - 1)))
        return op.multiply(op.convert(op.constant(integers), "f32"), scales)

    def _constant(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return self._random.uniform(0.001, 0.01, shape).astype(np.float32)


def _quantized(node: Any, high: float) -> Any:
    """Rounded to one of 256 levels from 0 to `high`."""
    import openvino.opset13 as op

    bounds = (np.float32(0), np.float32(high)) * 2
    return op.fake_quantize(node, *bounds, _LEVELS)
