"""How an engine was made, read from a lineage that may come from anywhere."""

from __future__ import annotations

from typing import Any

import pytest

from pkecho_edge.verify.making import making_words

CONFIGURATION: dict[str, Any] = {
    "network": {"backbone": "resnet18", "frames": 10},
    "model": {"parameters": 2_500_000, "gmacs": 8.4, "baseline_gmacs": 42.1},
    "pruning": {"ratio": 0.8, "scope": "latency", "steps": 2400},
    "quantization": {"scheme": "openvino", "rule": "minmax", "float_layers": ["conv1", "head"]},
    "calibration": {"clips": 32, "patients": 30, "rule": "stratified", "sources": ["phantom"]},
    "options": {"precision": "int8", "threads": 2, "strict": True},
}


def test_it_says_what_was_pruned_quantized_and_calibrated() -> None:
    assert making_words({"configuration": CONFIGURATION}) == [
        ("network", "resnet18, 2.50 M parameters, 8.40 of 42.10 GMACs a clip"),
        ("pruned", "ratio 0.8, scope latency, steps 2400"),
        ("quantized", "openvino, minmax"),
        ("layers left in float", "conv1, head"),
        ("calibration", "32 clips of 30 patients, of phantom, rule stratified"),
        ("precision", "precision int8, threads 2"),
    ]


def test_nothing_pruned_and_nothing_restored_are_said() -> None:
    plain = {**CONFIGURATION, "pruning": None}
    plain["quantization"] = {**CONFIGURATION["quantization"], "float_layers": []}

    found = dict(making_words({"configuration": plain}))

    assert (found["pruned"], found["layers left in float"]) == ("not pruned", "none")


@pytest.mark.parametrize("strange", [True, float("nan"), 10**400, -(10**400), "8", None])
def test_what_is_no_amount_is_left_out(strange: object) -> None:
    found = making_words({"configuration": {"model": {"gmacs": strange}}})

    assert found == []


@pytest.mark.parametrize("configuration", [None, 3, [], "x", {}])
def test_without_a_configuration_there_is_nothing_to_say(configuration: object) -> None:
    assert making_words({"configuration": configuration}) == []


@pytest.mark.parametrize("part", list(CONFIGURATION))
def test_parts_of_any_kind_are_no_error(part: str) -> None:
    for strange in (None, 3, "x", [1], {"x": [1]}, {"gmacs": "many"}, {"parameters": 10**400}):
        making_words({"configuration": {**CONFIGURATION, part: strange}})
