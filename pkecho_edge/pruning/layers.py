"""The convolutions whose cost depends on channel widths, read from a configuration.

What is not here costs the same at any width: the head works on `kernel_channels` features, and the
upsampling on the scores of the affinity estimators, whose number the region proxies fix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.region_proxy import DEEPEST_STRIDE, NEIGHBOURS, REGION_PROXIES
from pkecho_edge.model.resnet import BACKBONES
from pkecho_edge.pruning.places import STEM, inner, leader, outputs

__all__ = ["ConvLayer", "network_layers"]


@dataclass(frozen=True)
class ConvLayer:
    """One convolution.

    Attributes:
        name: of its module in the network.
        inputs, outputs: the place that gives its number of channels, or the number itself.
        kernel, stride: of the convolution.
        reach: image pixels per pixel of its output: 2, 4, 8, 16 or 32.
        depthwise: one filter per channel; `inputs` and `outputs` are the same place.
    """

    name: str
    inputs: str | int
    outputs: str | int
    kernel: int
    stride: int
    reach: int
    depthwise: bool = False

    def channels(self, widths: Mapping[str, int]) -> tuple[int, int]:
        """(inputs, outputs) with these widths."""
        return _width(self.inputs, widths), _width(self.outputs, widths)

    def macs(self, widths: Mapping[str, int], size: tuple[int, int]) -> int:
        """Multiply-accumulates of one frame of (H, W)."""
        into, out = self.channels(widths)
        pixels = (size[0] // self.reach) * (size[1] // self.reach)
        return pixels * self.kernel**2 * out * (1 if self.depthwise else into)


def _width(place: str | int, widths: Mapping[str, int]) -> int:
    return place if isinstance(place, int) else widths[place]


def network_layers(config: NetworkConfig) -> tuple[ConvLayer, ...]:
    """Every such convolution, in the order in which a frame passes them."""
    return tuple(_layers(config))


def _layers(config: NetworkConfig) -> Iterator[ConvLayer]:
    proxies = REGION_PROXIES[config.region_proxies]
    yield ConvLayer("encoder_layer0.0", 1, STEM, 7, 2, 2)
    entering = STEM
    for stage, blocks in enumerate(config.channel_widths.inner):
        leaving, reach = leader(config, outputs(stage)), 4 << stage
        for block in range(len(blocks)):
            yield from _block(config, stage, block, entering, leaving)
            entering = leaving
        if factor := proxies.factors.get(stage + 1):
            name = f"estimator{stage + 1}.estimator"
            yield ConvLayer(f"{name}.0", leaving, leaving, 3, 1, reach, depthwise=True)
            scores = NEIGHBOURS * factor**2
            yield ConvLayer(f"{name}.3", leaving, scores, proxies.kernel, 1, reach)
    yield ConvLayer("kss.predictor_conv1.0", entering, config.kernel_channels, 3, 1, DEEPEST_STRIDE)


def _block(
    config: NetworkConfig, stage: int, block: int, entering: str, leaving: str
) -> Iterator[ConvLayer]:
    name, reach = f"encoder_layer{stage + 1}.{block}", 4 << stage
    stride = 2 if stage and not block else 1
    if BACKBONES[config.backbone].bottleneck:
        first, second = inner(stage, block, 0), inner(stage, block, 1)
        yield ConvLayer(f"{name}.conv1", entering, first, 1, 1, reach // stride)
        yield ConvLayer(f"{name}.conv2", first, second, 3, stride, reach)
        yield ConvLayer(f"{name}.conv3", second, leaving, 1, 1, reach)
    else:
        between = inner(stage, block, 0)
        yield ConvLayer(f"{name}.conv1", entering, between, 3, stride, reach)
        yield ConvLayer(f"{name}.conv2", between, leaving, 3, 1, reach)
    if not block and (stage or entering != leaving):
        yield ConvLayer(f"{name}.downsample.0", entering, leaving, 1, stride, reach)
