"""Checkpoints: our safetensors format, and the published state dict, read without executing it.

Our file is safetensors with one metadata entry, `pkecho_edge`: a JSON object with `format`,
`config` (NetworkConfig.as_dict) and, under `notes`, whatever else the writer said. Half-precision
files keep norms and BatchNorm statistics in FP32: those are what 16 bits lose most on.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import stat
import warnings
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pkecho_edge.errors import CheckpointError
from pkecho_edge.files import feed_digest, write_atomically
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet
from pkecho_edge.model.recognition import advice, describe, difference, recognise

__all__ = [
    "checkpoint_sha256",
    "default_checkpoint_path",
    "load_checkpoint",
    "read_notes",
    "read_tensors",
    "save_checkpoint",
]

_FORMAT = "pkecho-edge/checkpoint/1"
_KEY = "pkecho_edge"
_CONVERT = "Convert it where it was made: torch.save(network.state_dict(), 'weights.pt')"


def default_checkpoint_path() -> Path:
    """The packaged ResNet-18, trained on phantoms."""
    return Path(str(resources.files("pkecho_edge") / "assets" / "pkecho-resnet18.safetensors"))


def checkpoint_sha256(path: Path | str) -> str:
    """SHA-256 of the file's bytes, read in pieces.

    Raises:
        CheckpointError: the file cannot be read.
    """
    digest = hashlib.sha256()
    _require_regular(Path(path))
    try:
        feed_digest(digest, Path(path))
    except OSError as error:
        raise CheckpointError(
            f"cannot be read ({error.strerror})", path=path, remedy="Check the path"
        ) from error
    return digest.hexdigest()


def save_checkpoint(
    network: PKEchoNet,
    path: Path | str,
    *,
    half: bool = False,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write our format, whole or not at all.

    Args:
        network: its state dict and configuration are saved.
        path: ends in .safetensors by convention.
        half: convolution and linear weights as FP16; norms and statistics stay FP32.
        notes: for the header, text to text; `read_notes` gives them back.
    """
    from safetensors.torch import save

    header: dict[str, object] = {"format": _FORMAT, "config": network.config.as_dict()}
    if notes:
        header["notes"] = dict(notes)
    tensors = {name: _stored(name, t, half) for name, t in network.state_dict().items()}
    # one entry: safetensors writes several in any order, and equal networks give equal bytes
    data = save(tensors, metadata={_KEY: json.dumps(header, sort_keys=True)})
    write_atomically(Path(path), data)


def _stored(name: str, tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if half and tensor.dtype == torch.float32 and tensor.ndim > 1 and "pos_embed" not in name:
        return tensor.half()
    return tensor


def load_checkpoint(path: Path | str) -> PKEchoNet:
    """Rebuild a network from our format or the published key layout.

    Args:
        path: .safetensors (ours or bare tensors), or a torch file with a state dict, bare or under
            `state_dict` / `model`, with or without a `module.` prefix. Pickles are read with
            `weights_only=True`: nothing in the file is executed.

    Returns:
        the network in eval mode, FP32, on the CPU.

    Raises:
        CheckpointError: missing, damaged, unsafe, not finite, or for another network; the message
            names missing, unexpected and misshapen keys and a backbone that would fit.
    """
    path = Path(path)
    tensors, config = _read(path)
    if config is None:
        config = recognise(tensors)
    # before memory is taken for the widths of a hostile header
    if wrong := difference(config, tensors):
        raise CheckpointError(
            f"does not fit {describe(config)}: {wrong}", path=path, remedy=advice(config, tensors)
        )
    values = {name: _value(name, tensor, path) for name, tensor in tensors.items()}
    network = PKEchoNet(config)
    network.load_state_dict(values)
    return network.eval()


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """The tensors of any state dict, finite and FP32, whatever network they belong to.

    Raises:
        CheckpointError: missing, damaged, unsafe, or not finite.
    """
    path = Path(path)
    tensors, _ = _read(path)
    return {name: _value(name, tensor, path) for name, tensor in tensors.items()}


def read_notes(path: Path | str) -> dict[str, str]:
    """What the header of our format says beside the configuration; empty for any other file.

    Raises:
        CheckpointError: it cannot be read at all.
    """
    path = Path(path)
    _require_regular(path)
    if not _is_safetensors(path):
        return {}
    header = _header(path)
    notes = header.get("notes") if header else None
    if not isinstance(notes, dict):
        return {}
    return {name: text for name, text in notes.items() if isinstance(text, str)}


def _value(name: str, tensor: Tensor, path: Path) -> Tensor:
    """In FP32 where it is a weight; only ordinary, finite tensors pass."""
    ordinary = tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_quantized)
    if not ordinary or tensor.is_complex():
        raise CheckpointError(
            f"{name} is not an ordinary tensor of real numbers", path=path, remedy=_CONVERT
        )
    value = tensor.float() if tensor.is_floating_point() else tensor
    if not bool(torch.isfinite(value).all()):
        raise CheckpointError(
            f"{name} holds NaN or infinite values", path=path, remedy="Train it again"
        )
    return value


def _read(path: Path) -> tuple[dict[str, Tensor], NetworkConfig | None]:
    _require_regular(path)
    if _is_safetensors(path):
        return _read_safetensors(path)
    return _read_pickle(path), None


def _is_safetensors(path: Path) -> bool:
    """Whether it begins as such a file does.

    Raises:
        CheckpointError: it cannot be read, or is empty.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise CheckpointError(
            f"cannot be read ({error.strerror})", path=path, remedy="Check the path"
        ) from error
    if not head:
        raise CheckpointError("is empty (0 bytes)", path=path, remedy="Copy or download it again")
    # eight bytes of header length, then a JSON object
    return len(head) == 9 and head[8:9] == b"{"


def _require_regular(path: Path) -> None:
    """Refuse what must not even be opened: a pipe would wait for a writer.

    Raises:
        CheckpointError: no such file, a folder, a pipe, a device, or a path that cannot be.
    """
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError as error:
        raise CheckpointError(
            "there is no such file", path=path, remedy="Check the path"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"cannot be read ({reason})", path=path, remedy="Check the path"
        ) from error
    if not regular:
        what = "is a folder" if path.is_dir() else "is not a regular file"
        raise CheckpointError(what, path=path, remedy="Name a file with weights")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], NetworkConfig | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(path, error) from error
    header = _header(path)
    if header is None:
        return _unwrapped(tensors), None
    try:
        return tensors, NetworkConfig.from_dict(header["config"])
    except (KeyError, TypeError, CheckpointError) as error:
        raise _unusable_header(path, error) from error


def _header(path: Path) -> dict[str, Any] | None:
    """Our metadata of a safetensors file; None where it has none.

    Raises:
        CheckpointError: the file is damaged, or the header is of another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _damaged(path, error) from error
    if _KEY not in metadata:
        return None
    try:
        header = json.loads(metadata[_KEY])
        if header["format"] != _FORMAT:
            raise ValueError(f"format {header['format']!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unusable_header(path, error) from error
    return dict(header)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"is damaged ({error})", path=path, remedy="Copy or download it again")


def _unusable_header(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"its header cannot be used ({error})", path=path, remedy="Save it again"
    )


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our error says what matters about the file
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged zip or pickle raises whatever its bytes provoke
        with path.open("rb") as file:
            pickled = file.read(2).startswith((b"\x80", b"PK"))  # protocol 2 or newer, or a zip
        unsafe = isinstance(error, pickle.UnpicklingError)
        if unsafe and (pickled or "GLOBAL" in str(error)):
            raise CheckpointError(
                "it is a pickle that holds more than tensors, and loading it would execute code",
                path=path,
                remedy=_CONVERT,
            ) from error
        if pickled:
            raise CheckpointError(
                f"it is damaged or not a checkpoint ({type(error).__name__})",
                path=path,
                remedy=_CONVERT,
            ) from error
        raise CheckpointError("it is not a checkpoint", path=path, remedy=_CONVERT) from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if not isinstance(loaded, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items()
    ):
        raise CheckpointError("it holds no state dict", path=path, remedy=_CONVERT)
    return _unwrapped(loaded)


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the `module.` prefix of data-parallel training."""
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
