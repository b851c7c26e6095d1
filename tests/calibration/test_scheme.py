"""Schemes: four that are told apart by their files, and no value that there is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pkecho_edge.calibration.lint import RULES
from pkecho_edge.calibration.scheme import Scheme, load_scheme, scheme_names
from pkecho_edge.errors import UsageError

DOCUMENT = Path(__file__).parents[2] / "docs" / "quantization.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of the document, without its head."""
    text = DOCUMENT.read_text(encoding="utf-8").split(f"\n{heading}\n", 1)[1]
    lines = text[text.index("\n|") + 1 :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_there_are_four() -> None:
    assert scheme_names() == ("cpu", "cpu-avx2", "onnxruntime", "tensorrt")


def test_integers_per_scheme() -> None:
    levels = {
        name: (load_scheme(name).activation_levels, load_scheme(name).weight_level)
        for name in scheme_names()
    }

    assert levels == {
        "cpu": ((0, 255), 127),
        "cpu-avx2": ((0, 255), 63),
        "onnxruntime": ((0, 255), 63),
        "tensorrt": ((-127, 127), 127),
    }


def test_two_products_of_seven_bits_fit_sixteen() -> None:
    scheme = load_scheme("cpu-avx2")

    assert 2 * scheme.activation_levels[1] * scheme.weight_level < 2**15
    assert 2 * load_scheme("cpu").activation_levels[1] * load_scheme("cpu").weight_level >= 2**15


def test_layers_in_float_are_patterns() -> None:
    scheme = load_scheme("onnxruntime")

    assert scheme.keeps_in_float("upsamplers.3.scores")
    assert not scheme.keeps_in_float("upsamplers.3.depthwise")
    assert not load_scheme("cpu").keeps_in_float("encoder.stem")
    assert load_scheme("tensorrt").keeps_in_float("encoder.stem")
    assert not load_scheme("tensorrt").keeps_in_float("encoder.stem.more")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activations", "u4"),
        ("weight_bits", 4),
        ("weights", "packed"),
        ("bias", "s16"),
        ("residual", "main"),
        ("pool", "behind"),
    ],
)
def test_a_value_that_there_is_not_is_refused(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"scheme cpu: {key} is {value!r}.*Use one of"):
        replace(load_scheme("cpu"), **{key: value})


@pytest.mark.parametrize("name", ["gpu", "", "../cpu", "cpu.toml"])
def test_a_scheme_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cpu, cpu-avx2, onnxruntime, tensorrt"):
        load_scheme(name)


def test_the_document_shows_what_the_files_say() -> None:
    def cells(scheme: Scheme) -> list[str]:
        layers = ", ".join(f"`{layer}`" for layer in scheme.float_layers) or "none"
        values = (scheme.activations, scheme.weight_bits, scheme.weights, scheme.bias)
        values += (scheme.residual, scheme.pool)
        return [f"`{scheme.name}`", *map(str, values), layers, str(scheme.max_opset)]

    assert rows("## Schemes") == [cells(load_scheme(name)) for name in scheme_names()]


def test_the_document_shows_every_rule_of_the_linter() -> None:
    assert rows("## The linter") == [[f"`{name}`", what] for name, what in RULES.items()]
