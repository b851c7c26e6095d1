"""ImageNet weights for the encoder, from a file in torchvision's format."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pkecho_edge.errors import CheckpointError
from pkecho_edge.model.checkpoint import read_tensors
from pkecho_edge.model.network import PKEchoNet

__all__ = ["load_encoder_weights"]

_STEM = {"conv1": "encoder_layer0.0", "bn1": "encoder_layer0.1"}
_UNUSED = ("fc.",)
_COUNTER = ".num_batches_tracked"


def load_encoder_weights(network: PKEchoNet, path: Path | str) -> None:
    """Set the encoder of a network to the weights of a torchvision ResNet; the rest is untouched.

    The first convolution of an RGB network becomes the sum over its three input channels: a grey
    image given three times would have the same response. The classifier is left out.

    Args:
        network: changed in place.
        path: a state dict as `torchvision.models.resnet18(...).state_dict()` has it, as
            .safetensors or as a torch file; nothing in it is executed.

    Raises:
        CheckpointError: missing, damaged or unsafe, or of another backbone: the message names the
            first key that is missing, unexpected or of another shape.
    """
    path = Path(path)
    tensors = {
        name: tensor for name, tensor in read_tensors(path).items() if not name.startswith(_UNUSED)
    }
    wanted = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.startswith("encoder_layer")
    }
    if not any(name.endswith(_COUNTER) for name in tensors):  # of before torch 0.4.1
        wanted = {name: t for name, t in wanted.items() if not name.endswith(_COUNTER)}
    found = {_renamed(name): _grey(name, tensor) for name, tensor in tensors.items()}
    for name in (*wanted, *found):
        if name not in found or name not in wanted or found[name].shape != wanted[name].shape:
            how = "missing" if name not in found else "unexpected"
            if name in found and name in wanted:
                how = f"{list(found[name].shape)}, not {list(wanted[name].shape)}"
            raise CheckpointError(
                f"these are no ImageNet weights of a {network.config.backbone}: {name} is {how}",
                path=path,
                remedy="Give the state dict of torchvision's network of the same name",
            )
    with torch.no_grad():
        for name, tensor in found.items():
            wanted[name].copy_(tensor)  # state_dict shares its tensors with the network


def _renamed(name: str) -> str:
    """torchvision's name -> ours: conv1.weight -> encoder_layer0.0.weight, layer1 -> ..."""
    first, _, rest = name.partition(".")
    if first in _STEM:
        return f"{_STEM[first]}.{rest}"
    return f"encoder_{name}" if first.startswith("layer") else name


def _grey(name: str, tensor: Tensor) -> Tensor:
    is_first = name == "conv1.weight" and tensor.ndim == 4  # of another shape, it is refused later
    return tensor.sum(dim=1, keepdim=True) if is_first else tensor
