"""The stream graph: one new 8-bit frame in, its mask's logits out; the window lives in the history.

The encoder sees each frame once. What later frames need of it are its reduced features, 32 channels
at a 32nd of the size, so the history of the T - 1 frames before costs little to keep and pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pkecho_edge.lowering.clip_graph import LoweredParts

__all__ = ["StreamGraph"]


class StreamGraph(LoweredParts):
    """frame u8 [1, 1, H, W], history f32 [T-1, C, H/32, W/32] -> logits f32 [1, 1, H, W], history.

    After T frames the logits equal the clip graph's for its last frame, in FP32 exactly but for the
    order in which sums are taken.
    """

    @property
    def history_shape(self) -> tuple[int, int, int, int]:
        """[T-1, C, H/32, W/32], oldest first."""
        channels = self.reduction.convolution.out_channels
        return self.frames - 1, channels, self.size[0] // 32, self.size[1] // 32

    def forward(self, frame: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """See the class; the second result is the history for the next frame."""
        features = self.encoder(frame)
        window = torch.cat([history, self.reduction(features[-1])])  # [T, C, h, w]
        newest = self.head(window)[-1:]
        return self.upsample(features, newest), window[1:]
