"""Checkpoints: ours, the published layout, and everything that must be refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from pkecho_edge.errors import CheckpointError
from pkecho_edge.model.checkpoint import (
    checkpoint_sha256,
    load_checkpoint,
    read_notes,
    save_checkpoint,
)
from pkecho_edge.model.configuration import NetworkConfig
from pkecho_edge.model.network import PKEchoNet

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def published() -> PKEchoNet:
    """An unpruned ResNet-18 with random weights and running statistics."""
    torch.manual_seed(3)
    network = PKEchoNet().eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    return network


@pytest.fixture
def state(published: PKEchoNet) -> State:
    return dict(published.state_dict())


def outputs(network: PKEchoNet, size: int = 64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    clip = torch.rand(1, network.config.frames, 1, size, size, generator=generator)
    with torch.inference_mode():
        return network(clip)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert caught.value.exit_code == 7
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_our_format_returns_the_same_network(tmp_path: Path, network: PKEchoNet) -> None:
    path = tmp_path / "made" / "network.safetensors"

    save_checkpoint(network, path, notes={"recipe": "kept", "epoch": "3"})
    loaded = load_checkpoint(path)

    assert loaded.config == network.config
    assert read_notes(path) == {"recipe": "kept", "epoch": "3"}
    assert not loaded.training
    for ours, theirs in zip(outputs(loaded), outputs(network), strict=True):
        assert torch.equal(ours, theirs)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_equal_networks_make_equal_files(tmp_path: Path, network: PKEchoNet) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"

    notes = {str(number): "note" for number in range(9)}
    save_checkpoint(network, first, notes=notes)
    save_checkpoint(load_checkpoint(first), second, notes=notes)

    assert checkpoint_sha256(first) == checkpoint_sha256(second)


def test_half_precision_spares_norms_and_statistics(tmp_path: Path, network: PKEchoNet) -> None:
    path = tmp_path / "half.safetensors"

    save_checkpoint(network, path, half=True)
    stored, loaded = load_file(path), load_checkpoint(path)

    norms = ("bn1.weight", "norm.weight", "running_mean", "running_var", "norm.bias")
    assert {t.dtype for n, t in stored.items() if n.endswith(norms)} == {torch.float32}
    assert stored["kss.pos_embed"].dtype == torch.float32
    assert stored["encoder_layer1.0.conv1.weight"].dtype == torch.float16
    assert stored["kss.updator.0.0.fc.0.weight"].dtype == torch.float16
    assert {t.dtype for t in loaded.state_dict().values()} == {torch.float32, torch.int64}
    expected, got = outputs(network)[-1], outputs(loaded)[-1]
    assert 0 < (expected - got).abs().max() < 0.05 * expected.abs().max()


def test_the_published_keys() -> None:
    with torch.device("meta"):
        names = set(PKEchoNet().state_dict())

    assert {n for n in names if not n.startswith("kss.updator")} == documented_keys()
    inside = {n.removeprefix("kss.updator.") for n in names if n.startswith("kss.updator.")}
    parts = {tuple(n.split(".")[:2]) for n in inside}
    assert parts == {(str(i), str(j)) for i in range(3) for j in range(4)}
    for attention in ("0.feature_msa", "0.kernel_msa", "1.msa", "2.msa"):
        for parameter in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"):
            assert f"2.{attention}.{parameter}" in inside


def documented_keys() -> set[str]:
    """Of a ResNet-18 with three refinements, but for the insides of the updators."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    keys = {"encoder_layer0.0.weight", *(f"encoder_layer0.1.{n}" for n in norm)}
    for layer in range(1, 5):
        blocks = [f"encoder_layer{layer}.{block}" for block in range(2)]
        for block in blocks:
            keys |= {f"{block}.conv1.weight", f"{block}.conv2.weight"}
            keys |= {f"{block}.{bn}.{n}" for bn in ("bn1", "bn2") for n in norm}
        if layer > 1:
            keys |= {f"{blocks[0]}.downsample.0.weight"}
            keys |= {f"{blocks[0]}.downsample.1.{n}" for n in norm}
        estimator = f"estimator{layer}.estimator"
        keys |= {f"{estimator}.{n}" for n in ("0.weight", "3.weight", "3.bias")}
        keys |= {f"{estimator}.1.{n}" for n in norm}
    keys |= {f"kss.predictor_conv1.{n}" for n in ("0.weight", "0.bias")}
    keys |= {f"kss.predictor_conv1.1.{n}" for n in norm}
    keys |= {"kss.predictor_conv2.weight", "kss.predictor_conv2.bias", "kss.pos_embed"}
    return keys | {f"kss.bias.{i}" for i in range(3)}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
def test_the_published_layout_gives_the_same_logits(
    tmp_path: Path, published: PKEchoNet, state: State, wrapper: str, prefix: str
) -> None:
    renamed = {prefix + name: tensor for name, tensor in state.items()}
    path = tmp_path / "published.pth"
    torch.save({wrapper: renamed, "epoch": 7} if wrapper else renamed, path)

    loaded = load_checkpoint(path)

    assert loaded.config == NetworkConfig("resnet18")
    assert torch.equal(outputs(loaded)[-1], outputs(published)[-1])


def test_bare_safetensors_load_too(tmp_path: Path, published: PKEchoNet, state: State) -> None:
    save_file({f"module.{n}": t for n, t in state.items()}, tmp_path / "bare.safetensors")

    loaded = load_checkpoint(tmp_path / "bare.safetensors")

    assert torch.equal(outputs(loaded)[-1], outputs(published)[-1])


def test_clip_length_and_refinements_are_read_off_the_weights(tmp_path: Path) -> None:
    config = NetworkConfig("resnet34", frames=4, kernel_channels=64, refinements=2)
    torch.save(PKEchoNet(config).state_dict(), tmp_path / "other.pt")

    assert load_checkpoint(tmp_path / "other.pt").config == config


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.victim), "w")


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize(
    ("protocol", "reason"),
    [(0, "not a checkpoint"), (2, "execute code"), (4, "execute code"), (None, "execute code")],
)
def test_a_pickle_that_executes_code_is_refused(
    tmp_path: Path, protocol: int | None, reason: str
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "evil.pt"
    content = {"state_dict": {"kss.pos_embed": Payload(victim)}}
    if protocol is None:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=protocol))

    message = refusal(path)

    assert not victim.exists()
    assert reason in message
    assert "torch.save(network.state_dict()" in message
    if protocol is None:
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())  # noqa: S301 - the payload is ours, three lines up
    assert victim.exists(), "the payload is harmless, so this test proves nothing"


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"these are notes, not weights\n" * 9, b'{"a": 1}', b"12345678{", bytes(4096)],
)
def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)

    message = refusal(path)

    assert str(path) in message
    assert "execute code" not in message


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, state: State, kind: str, share: float) -> None:
    path = tmp_path / "cut"
    if kind == "torch":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    assert str(path) in refusal(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nowhere.pt")


def test_a_file_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "list.pt")

    assert "no state dict" in refusal(tmp_path / "list.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, state: State, value: float
) -> None:
    name = "estimator2.estimator.3.bias"
    state[name] = state[name].clone()
    state[name][5] = value
    torch.save(state, tmp_path / "broken.pt")

    assert f"{name} holds NaN or infinite" in refusal(tmp_path / "broken.pt")


@pytest.mark.parametrize("kind", ["sparse", "complex", "meta"])
def test_tensors_that_are_no_weights_are_refused(tmp_path: Path, state: State, kind: str) -> None:
    name = "encoder_layer0.0.weight"
    change = {
        "sparse": Tensor.to_sparse,
        "complex": lambda tensor: tensor.to(torch.complex64),
        "meta": lambda tensor: tensor.to("meta"),
    }
    state[name] = change[kind](state[name])
    torch.save(state, tmp_path / "odd.pt")

    assert f"{name} is not an ordinary tensor" in refusal(tmp_path / "odd.pt")


def test_wrong_keys_are_counted_and_named(tmp_path: Path, state: State) -> None:
    del state["kss.pos_embed"]
    state["classifier.weight"] = torch.zeros(3)
    state["kss.bias.1"] = torch.zeros(7)
    torch.save(state, tmp_path / "wrong.pt")

    message = refusal(tmp_path / "wrong.pt")

    assert "does not fit resnet18" in message
    assert "1 keys missing (kss.pos_embed)" in message
    assert "1 keys unexpected (classifier.weight)" in message
    assert "1 keys of the wrong shape (kss.bias.1 [7] instead of [1])" in message
    assert "resnet18 is the nearest; none fits exactly" in message


def test_the_backbone_that_would_fit_is_named(tmp_path: Path) -> None:
    header = {"format": "pkecho-edge/checkpoint/1", "config": NetworkConfig("resnet18").as_dict()}
    weights = PKEchoNet(NetworkConfig("resnet34")).state_dict()
    save_file(weights, tmp_path / "a.safetensors", metadata={"pkecho_edge": json.dumps(header)})

    message = refusal(tmp_path / "a.safetensors")

    assert "does not fit resnet18" in message
    assert "fit resnet34 exactly" in message
    assert "unexpected (encoder_layer1.2.bn1.bias" in message


def hostile(**changes: object) -> str:
    """Our header with other values in its configuration."""
    config = {**NetworkConfig("resnet18").as_dict(), **changes}
    return json.dumps({"format": "pkecho-edge/checkpoint/1", "config": config})


WIDTHS = NetworkConfig("resnet18").as_dict()["widths"]
assert isinstance(WIDTHS, dict)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "[]",
        "null",
        "{" * 100_000,
        "[" * 100_000,
        '{"format": "pkecho-edge/checkpoint/2"}',
        '{"format": "pkecho-edge/checkpoint/1"}',
        '{"format": "pkecho-edge/checkpoint/1", "config": 7}',
        hostile(backbone=[]),
        hostile(backbone="../../etc"),
        hostile(frames=10**30),
        hostile(frames="10"),
        hostile(kernel_channels=1 << 20),
        hostile(refinements=-1),
        hostile(unknown=1),
        hostile(widths={}),
        hostile(widths={**WIDTHS, "stem": 10**9}),
        hostile(widths={**WIDTHS, "stem": "64"}),
        hostile(widths={**WIDTHS, "stem": 0}),
        hostile(widths={**WIDTHS, "outputs": [64] * 5}),
        hostile(widths={**WIDTHS, "inner": [[[64]]]}),
        hostile(widths={**WIDTHS, "inner": 5}),
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(save({"x": torch.zeros(1)}, metadata={"pkecho_edge": header}))

    assert "its header cannot be used" in refusal(path)


def test_a_header_of_huge_widths_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The widths are within their limits, but the network would hold 2.4 thousand million."""
    widths = {
        "stem": 4096,
        "outputs": [4096] * 4,
        "inner": [[[4096]] * 2] * 4,
    }
    path = tmp_path / "huge.safetensors"
    path.write_bytes(save({"x": torch.zeros(1)}, metadata={"pkecho_edge": hostile(widths=widths)}))
    devices = []

    def recorded(network: PKEchoNet, *args: object) -> None:
        devices.append(torch.get_default_device().type)
        real(network, *args)  # type: ignore[arg-type]

    real = PKEchoNet.__init__
    monkeypatch.setattr(PKEchoNet, "__init__", recorded)

    assert "does not fit resnet18" in refusal(path)
    assert set(devices) == {"meta"}


def test_the_hash_is_of_the_files_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")

    assert checkpoint_sha256(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    with pytest.raises(CheckpointError, match="is a folder"):
        checkpoint_sha256(tmp_path)


def test_a_failed_save_leaves_the_old_file(
    tmp_path: Path, network: PKEchoNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "network.safetensors"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(network, path)

    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
