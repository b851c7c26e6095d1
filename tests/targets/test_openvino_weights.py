"""Several models, one file of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from pkecho_edge.targets.openvino_weights import WEIGHTS, save_with_shared_weights

RNG = np.random.default_rng(0)
LARGE = RNG.standard_normal((64, 100)).astype(np.float32)
OWN = RNG.standard_normal((100, 7)).astype(np.float32)


def model(*, with_own: bool, like: int = 1) -> ov.Model:
    x = ops.parameter([3, 64], np.float32, name="x")
    y = ops.matmul(x, ops.constant(LARGE), False, False)
    y = ops.multiply(y, ops.constant(np.float32(like)))
    if with_own:
        y = ops.matmul(y, ops.constant(OWN), False, False)
    return ov.Model([y], [x])


def outputs(folder: Path, name: str, x: np.ndarray) -> np.ndarray:
    core = ov.Core()
    read = core.read_model(folder / f"{name}.xml", folder / WEIGHTS)
    return np.asarray(core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0])


def test_what_models_have_in_common_is_there_once(tmp_path: Path) -> None:
    models = {"clip": model(with_own=False), "stream": model(with_own=True)}

    save_with_shared_weights(models, tmp_path)

    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.xml", "stream.xml", WEIGHTS]
    size = (tmp_path / WEIGHTS).stat().st_size
    assert LARGE.nbytes + OWN.nbytes <= size < LARGE.nbytes + OWN.nbytes + 512
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    np.testing.assert_allclose(outputs(tmp_path, "clip", x), x @ LARGE, atol=1e-4)
    np.testing.assert_allclose(outputs(tmp_path, "stream", x), x @ LARGE @ OWN, atol=1e-3)


def test_constants_that_differ_stay_apart(tmp_path: Path) -> None:
    save_with_shared_weights(
        {"clip": model(with_own=False, like=2), "stream": model(with_own=False, like=5)}, tmp_path
    )

    x = RNG.standard_normal((3, 64)).astype(np.float32)
    np.testing.assert_allclose(outputs(tmp_path, "clip", x), 2 * (x @ LARGE), atol=1e-3)
    np.testing.assert_allclose(outputs(tmp_path, "stream", x), 5 * (x @ LARGE), atol=1e-3)


def test_the_same_models_give_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        save_with_shared_weights({"clip": model(with_own=True)}, tmp_path / name)
        made.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})

    weights = [each[WEIGHTS] for each in made]
    assert weights[0] == weights[1]


def test_every_constant_starts_a_cache_line(tmp_path: Path) -> None:
    save_with_shared_weights({"clip": model(with_own=True)}, tmp_path)

    text = (tmp_path / "clip.xml").read_text()
    offsets = [int(part.split('"')[1]) for part in text.split(" offset=")[1:]]
    assert len(offsets) == 3
    assert all(offset % 64 == 0 for offset in offsets)


def test_a_place_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_with_shared_weights({"clip": model(with_own=False)}, tmp_path / "nowhere")
