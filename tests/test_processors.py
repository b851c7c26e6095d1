"""What is said of a processor is what the quantizer goes by."""

from __future__ import annotations

import pytest

from pkecho_edge import processors
from pkecho_edge.processors import int8_support, sums_products_exactly


@pytest.mark.parametrize(
    ("flags", "machine", "name"),
    [
        ("avx2 avx512_vnni avx_vnni amx_int8", "x86_64", "AMX"),
        ("avx2 avx512_vnni avx_vnni", "x86_64", "AVX512-VNNI"),
        ("avx2 avx_vnni", "x86_64", "AVX-VNNI"),
        ("avx2 avx512f", "x86_64", "AVX2 only"),
        ("sse4_2", "x86_64", "none"),
        ("asimd asimddp i8mm", "aarch64", "Arm i8mm"),
        ("asimd i8mm", "aarch64", "Arm, no dot products"),
        ("avx2 amx_int8", "x86_64", "AVX2 only"),
        ("asimd asimddp", "aarch64", "Arm dotprod"),
        ("asimd", "aarch64", "Arm, no dot products"),
        ("", "x86_64", "unknown"),
    ],
)
def test_the_best_feature_names_it(
    monkeypatch: pytest.MonkeyPatch, flags: str, machine: str, name: str
) -> None:
    found = int8_support(frozenset(flags.split()), machine)

    assert found.name == name
    monkeypatch.setattr(processors, "cpu_flags", lambda: frozenset(flags.split()))
    assert ("exact" in found.accuracy) is sums_products_exactly()
    assert found.speed.endswith(".")
