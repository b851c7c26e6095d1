"""Checkpoints that the command line must refuse: one line, exit code 7, nothing left."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pkecho_edge.model.checkpoint import save_checkpoint
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet

Refuses = Callable[..., str]
Typed = Callable[[str], Any]
Spoil = Callable[[Path], None]

COMPILE = "compile weights.pt --data data --size 96"


def good(folder: Path) -> dict[str, Tensor]:
    """The world's own weights."""
    return load_file(folder / "network.safetensors")


def header(folder: Path) -> dict[str, Any]:
    """The configuration that the world's checkpoint carries."""
    with safe_open(folder / "network.safetensors", framework="pt") as file:
        parsed: dict[str, Any] = json.loads(file.metadata()["pkecho_edge"])
    return parsed


def bytes_of(content: bytes) -> Spoil:
    return lambda folder: _write(folder / "weights.pt", content)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def a_folder(folder: Path) -> None:
    (folder / "weights.pt").mkdir()


def a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "weights.pt")


def a_link_to_itself(folder: Path) -> None:
    (folder / "weights.pt").symlink_to("weights.pt")


def unreadable(folder: Path) -> None:
    """Opening it works and reading it fails, for every user: an input/output error."""
    (folder / "weights.pt").symlink_to("/proc/self/mem")


def truncated_safetensors(folder: Path) -> None:
    data = (folder / "network.safetensors").read_bytes()
    _write(folder / "weights.pt", data[: len(data) // 2])


def truncated_torch(folder: Path) -> None:
    torch.save(good(folder), folder / "weights.pt")
    data = (folder / "weights.pt").read_bytes()
    _write(folder / "weights.pt", data[: len(data) // 2])


def endless_header(folder: Path) -> None:
    _write(folder / "weights.pt", struct.pack("<Q", 1 << 60) + b'{"a": 1}')


def tensor_beyond_the_end(folder: Path) -> None:
    text = b'{"a":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4294967296]}}'
    _write(folder / "weights.pt", struct.pack("<Q", len(text)) + text + bytes(64))


def with_value(value: float) -> Spoil:
    def spoil(folder: Path) -> None:
        state = good(folder)
        state["estimator2.estimator.3.bias"][5] = value
        said = {"pkecho_edge": json.dumps(header(folder))}
        save_file(state, folder / "weights.pt", metadata=said)

    return spoil


def other_backbone(folder: Path) -> None:
    """Weights of a ResNet-18 whose configuration says ResNet-34."""
    said = header(folder)
    said["config"]["backbone"] = "resnet34"
    said["config"]["widths"]["inner"] = [
        [block[0]] * count
        for block, count in zip(said["config"]["widths"]["inner"], (3, 4, 6, 3), strict=True)
    ]
    save_file(good(folder), folder / "weights.pt", metadata={"pkecho_edge": json.dumps(said)})


def other_format(folder: Path) -> None:
    said = header(folder) | {"format": "pkecho-edge/checkpoint/2"}
    save_file(good(folder), folder / "weights.pt", metadata={"pkecho_edge": json.dumps(said)})


def other_network(folder: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(8, 3, 7, 7)}, folder / "weights.pt")


def whole_module(folder: Path) -> None:
    """What `torch.save(model)` writes where the state dict was meant."""
    torch.save(torch.nn.Linear(2, 2), folder / "weights.pt")


def no_state_dict(folder: Path) -> None:
    torch.save([torch.zeros(3)], folder / "weights.pt")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(lambda folder: None, "no such file", id="missing file"),
        pytest.param(a_folder, "is a folder", id="a folder as checkpoint"),
        pytest.param(a_pipe, "not a regular file", id="a pipe as checkpoint"),
        pytest.param(a_link_to_itself, "cannot be read", id="a link that leads to itself"),
        pytest.param(
            unreadable,
            "cannot be read (Input/output error)",
            id="a file that cannot be read",
            marks=pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no such file"),
        ),
        pytest.param(bytes_of(b""), "is empty (0 bytes)", id="zero-byte checkpoint"),
        pytest.param(
            bytes_of(b"these are notes\n" * 9), "torch.save(network", id="text file renamed .pt"
        ),
        pytest.param(
            bytes_of(b"\x89PNG\r\n\x1a\n" + bytes(99)), "not a checkpoint", id="picture renamed .pt"
        ),
        pytest.param(truncated_safetensors, "is damaged", id="truncated safetensors"),
        pytest.param(truncated_torch, "damaged", id="truncated torch file"),
        pytest.param(endless_header, "is damaged", id="safetensors header of 2^60 bytes"),
        pytest.param(tensor_beyond_the_end, "is damaged", id="safetensors tensor beyond the end"),
        pytest.param(whole_module, "would execute code", id="whole module pickled"),
        pytest.param(no_state_dict, "no state dict", id="torch file without a state dict"),
        pytest.param(
            with_value(float("nan")), "holds NaN or infinite values", id="weights with NaN"
        ),
        pytest.param(
            with_value(float("-inf")), "holds NaN or infinite values", id="weights with infinity"
        ),
        pytest.param(other_backbone, "does not fit resnet34", id="wrong backbone"),
        pytest.param(other_network, "does not fit resnet18", id="weights of another network"),
        pytest.param(
            other_format, "pkecho-edge/checkpoint/2", id="checkpoint of another format version"
        ),
    ],
)
def test_compile_refuses(world: Path, refuses: Refuses, spoil: Spoil, says: str) -> None:
    spoil(world)

    refuses(COMPILE, 7, "weights.pt", says)


@pytest.mark.parametrize(
    "command",
    [
        "compile weights.pt --data data --size 96",
        "bench peers weights.pt --size 96 --rounds 3",
        "verify heart.pkb --data data --baseline weights.pt",
    ],
)
def test_every_command_that_takes_a_checkpoint_refuses(
    world: Path, refuses: Refuses, command: str
) -> None:
    bytes_of(b"these are notes\n" * 9)(world)

    refuses(command, 7, "weights.pt", case="text file renamed .pt")


def test_a_network_of_another_clip_length_gets_clips_of_its_length(
    world: Path, typed: Typed
) -> None:
    config = NetworkConfig.from_dict(header(world)["config"] | {"frames": 4})
    torch.manual_seed(0)  # weights of other seeds may be out of the lowering's range
    save_checkpoint(PKEchoNet(config), world / "weights.pt")

    outcome = typed(f"{COMPILE} --clips 2 --gates gates.toml --out new.pkb --quiet")

    # untrained: the gates may fail, but what they are measured on is there
    assert outcome.code in (0, 3), outcome.err
    manifest = json.loads((world / "new.pkb" / "manifest.json").read_text())
    assert manifest["window"]["length"] == 4


class Payload:
    """Makes a folder called `victim` when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("victim",)


@pytest.mark.parametrize("protocol", [0, 2, 4, None])
def test_a_malicious_pickle_does_not_run(
    world: Path, refuses: Refuses, protocol: int | None
) -> None:
    content = {"state_dict": {"kss.pos_embed": Payload()}}
    if protocol is None:
        torch.save(content, "weights.pt")
    else:
        Path("weights.pt").write_bytes(pickle.dumps(content, protocol=protocol))

    form = "torch.save" if protocol is None else f"protocol {protocol}"
    remedy = "torch.save(network.state_dict()"
    refuses(COMPILE, 7, "weights.pt", remedy, case=f"malicious pickle, {form}")

    assert not Path("victim").exists()
    if protocol is None:
        torch.load("weights.pt", weights_only=False)
    else:
        pickle.loads(Path("weights.pt").read_bytes())  # noqa: S301 - ours: it shows its teeth
    assert Path("victim").exists(), "the payload is harmless, so this test proves nothing"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("[bold]weights[/].pt", id="markup in a file name"),
        pytest.param("[/red]weights.pt", id="unbalanced markup in a file name"),
        pytest.param(":heart:.pt", id="emoji code in a file name"),
        pytest.param("\x1b[2Jweights.pt", id="escape sequence in a file name"),
        pytest.param("two\nlines.pt", id="newline in a file name"),
        pytest.param("weights\\", id="backslash at the end of a file name"),
        pytest.param(os.fsdecode(b"weights-\xff.pt"), id="file name that is not UTF-8"),
        pytest.param("w" * 300, id="file name of 300 characters"),
    ],
)
def test_an_odd_file_name_is_printed_plainly(world: Path, refuses: Refuses, name: str) -> None:
    printed = "".join(c if c.isprintable() else " " for c in name)

    refuses(f"compile '{name}' --data data --size 96", 7, printed)
