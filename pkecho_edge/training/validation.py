"""How good a network is between two epochs: DSC on clips that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pkecho_edge.data.clip import Clip
from pkecho_edge.metrics.overlap import dice
from pkecho_edge.model.network import PKEchoNet

__all__ = ["validation_dsc"]


def validation_dsc(
    network: PKEchoNet, clips: Sequence[Clip], device: torch.device, precision: str = "f32"
) -> float:
    """Mean DSC in points over the clips' labelled frames, then over the clips.

    One clip at a time, as in deployment; the network is left in training mode.

    Args:
        network: any PKEchoNet.
        clips: of any sizes; may be empty.
        device: the network's.
        precision: the recipe's: "bf16" costs a fraction of "f32" and moves the mean by hundredths
            of a point, less than two epochs differ by.

    Returns:
        nan where no clip has a labelled frame.
    """
    network.eval()
    scores = []
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    with torch.inference_mode(), autocast:
        for clip in clips:
            if clip.truth is None:
                continue
            frames = torch.from_numpy(clip.frames).to(device)[None].float() / 255
            masks = (network(frames)[-1][0, :, 0] > 0).cpu().numpy()  # [T, H, W]
            frame_scores = [
                dice(masks[i], clip.truth[i]) for i, ok in enumerate(clip.labelled) if ok
            ]
            scores.append(100 * float(np.mean(frame_scores)))
    network.train()
    return float(np.mean(scores)) if scores else float("nan")
