"""The registry and the options, without any toolchain."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pkecho_edge import targets
from pkecho_edge.errors import UsageError
from pkecho_edge.targets.base import CompileOptions, TensorSpec, check_inputs, release


def test_listing_targets_imports_no_toolchain() -> None:
    code = "import sys; from pkecho_edge import targets; targets.names(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not set(done.stdout.split()) & {"openvino", "onnxruntime", "onnx", "torch", "tensorrt"}


def test_missing_imports_no_toolchain() -> None:
    code = (
        "import sys; from pkecho_edge import targets\n"
        "for name in targets.names(): targets.get(name).missing()\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not set(done.stdout.split()) & {"openvino", "onnxruntime", "onnx", "torch", "tensorrt"}


def test_names_are_the_targets_own() -> None:
    assert "cpu" in targets.names()
    assert [targets.get(name).name for name in targets.names()] == list(targets.names())


def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown target 'gpu'\. Use one of .*cpu"):
        targets.get("gpu")


@pytest.mark.parametrize("changes", [{"float_precision": "f8"}, {"threads": -1}, {"threads": 257}])
def test_impossible_options_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        CompileOptions(**changes)  # type: ignore[arg-type]


def test_options_are_recorded_as_text() -> None:
    assert CompileOptions("bf16", 2).as_dict() == {"float_precision": "bf16", "threads": "2"}


@pytest.mark.parametrize(
    ("older", "newer"),
    [("2025.4.1", "2026.1.0"), ("2026.9.0", "2026.10.0"), ("2026.1.0", "2026.1.1")],
)
def test_releases_compare_as_numbers(older: str, newer: str) -> None:
    assert release(older) < release(newer)
    assert release(f"{newer}-12345-abc") == release(newer)


def test_inputs_are_checked_by_name_dtype_and_shape() -> None:
    specs = (TensorSpec("frame", "u8", (1, 2)), TensorSpec("history", "f32", (3,)))
    good = {"history": np.zeros(3, np.float32), "frame": np.zeros((1, 2), np.uint8)}

    check_inputs(specs, good)

    for name in good:
        with pytest.raises(UsageError, match=name):
            check_inputs(specs, {**good, name: good[name].astype(np.float64)})
        with pytest.raises(UsageError, match=name):
            check_inputs(specs, {**good, name: good[name][..., :-1]})
        with pytest.raises(UsageError, match="inputs are"):
            check_inputs(specs, {n: a for n, a in good.items() if n != name})
