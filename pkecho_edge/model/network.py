"""PKEcho-Net as one module: clips in, the logits of every refinement out."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pkecho_edge.errors import UsageError
from pkecho_edge.frame_size import SIZE_STEP
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.kernel_segmentation import KernelSegmentation
from pkecho_edge.model.region_proxy import (
    DEEPEST_STRIDE,
    REGION_PROXIES,
    AffinityEstimator,
    upsample_with_affinity,
)
from pkecho_edge.model.resnet import ResidualStage, make_stem

__all__ = ["PKEchoNet", "count_gmacs", "count_parameters"]


class PKEchoNet(nn.Module):
    """The paper's network. Module names are those of the published state dict.

    Args:
        config: backbone, clip length, channel widths and the variant of the paper's ablations.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config or NetworkConfig()
        widths = self.config.channel_widths
        self.encoder_layer0 = make_stem(widths.stem)
        entering = (widths.stem, *widths.outputs[:3])
        proxies = REGION_PROXIES[self.config.region_proxies]
        for index in range(4):
            stage = ResidualStage(
                entering[index], widths.inner[index], widths.outputs[index], 1 if index == 0 else 2
            )
            self.add_module(f"encoder_layer{index + 1}", stage)
            if factor := proxies.factors.get(index + 1):
                estimator = AffinityEstimator(widths.outputs[index], factor, proxies.kernel)
                self.add_module(f"estimator{index + 1}", estimator)
        self.kss = KernelSegmentation(
            widths.outputs[3],
            self.config.kernel_channels,
            self.config.refinements,
            self.config.frames,
            interaction=self.config.interaction,
            temporal_attention=self.config.temporal_attention,
            feed_forward_rate=self.config.feed_forward_rate,
        )
        self.apply(_initialise)

    def stages(self) -> list[tuple[nn.Module, AffinityEstimator | None]]:
        """(residual stage, its affinity estimator if it has one), from layer1 to layer4."""
        modules = dict(self.named_children())
        pairs = []
        for index in range(1, 5):
            estimator = modules.get(f"estimator{index}")
            assert estimator is None or isinstance(estimator, AffinityEstimator)
            pairs.append((modules[f"encoder_layer{index}"], estimator))
        return pairs

    def forward(self, clips: Tensor) -> list[Tensor]:
        """Segment clips.

        Args:
            clips: f32 [B, T, 1, H, W] in [0, 1]; H and W multiples of 32.

        Returns:
            refinements + 1 logits, each f32 [B, T, 1, H, W], the final one last. In training mode
            only the labelled frames 0 and T - 1 are returned: [B, 2, 1, H, W].

        Raises:
            UsageError: another number of frames, or a size that is not a multiple of 32.
        """
        batch, frames, channels, height, width = clips.shape
        if frames != self.config.frames or channels != 1 or height % SIZE_STEP or width % SIZE_STEP:
            raise UsageError(
                f"clips are {list(clips.shape)}, not [B, {self.config.frames}, 1, 32 m, 32 n]",
                remedy="Take clips of the network's length and resize them to multiples of 32",
            )
        features, affinities = self.encode(clips.flatten(0, 1))
        predictions = self.kss(features)
        if self.training:
            predictions, affinities = self._labelled_only(predictions, affinities, batch)
        upsampled = (self.upsample(masks, affinities) for masks in predictions)
        return [masks.view(batch, -1, *masks.shape[1:]) for masks in upsampled]

    def encode(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What does not depend on the other frames of a clip.

        Args:
            frames: f32 [N, 1, H, W] in [0, 1].

        Returns:
            the deepest features [N, channels, H/32, W/32] and the affinities of every estimator,
            the shallowest first.
        """
        features = self.encoder_layer0(frames)  # [N, stem, H/4, W/4]
        affinities = []
        for stage, estimator in self.stages():
            features = stage(features)
            if estimator is not None:
                affinities.append(estimator(features))
        return features, affinities

    def _labelled_only(
        self, predictions: list[Tensor], affinities: list[Tensor], batch: int
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Only labelled frames reach the loss, so only they are upsampled."""
        first = torch.arange(batch, device=predictions[0].device) * self.config.frames
        keep = torch.stack([first, first + self.config.frames - 1], dim=1).flatten()
        return [p[keep] for p in predictions], [a[keep] for a in affinities]

    @staticmethod
    def upsample(masks: Tensor, affinities: list[Tensor]) -> Tensor:
        """Coarse logits [N, 1, H/32, W/32] -> [N, 1, H, W], by the same N frames' affinities."""
        for affinity in reversed(affinities):
            masks = upsample_with_affinity(masks, affinity)
        if not affinities:
            masks = F.interpolate(masks, scale_factor=DEEPEST_STRIDE, mode="bilinear")
        return masks


def _initialise(module: nn.Module) -> None:
    """Kaiming for convolutions and linear layers, ones and zeros for norms (paper)."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_gmacs(network: PKEchoNet, size: tuple[int, int]) -> float:
    """GMACs of one clip: FlopCounterMode's total of the eval forward, divided by 2e9.

    Args:
        network: whose configuration decides; its weights do not count.
        size: (H, W) in pixels. Every refinement is counted.
    """
    return _count_gmacs(network.config, size)


@functools.lru_cache(maxsize=256)  # a second each, and a pruning asks for the same one many times
def _count_gmacs(config: NetworkConfig, size: tuple[int, int]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):  # what has no content counts without computing
        network = PKEchoNet(config).eval().requires_grad_(False)
        clip = torch.zeros(1, config.frames, 1, *size)
    # the fused inference path of nn.MultiheadAttention hides its products from the counter
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(clip)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    return float(counter.get_total_flops()) / 2e9
