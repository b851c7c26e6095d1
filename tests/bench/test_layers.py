"""Which part of the network a layer belongs to, and sums over groups."""

from __future__ import annotations

import pytest

from pkecho_edge.bench.layers import LayerRow, group_by, part_of
from pkecho_edge.bench.memory import status_mb


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("/encoder/stem/Conv/WithoutBiases", "encoder stem"),
        ("/encoder/pool/MaxPool", "encoder stem"),
        ("/encoder/stages.2/stages.2.0/Add", "encoder stages.2"),
        ("/reduction/convolution/Conv", "reduction"),
        ("/head/MatMul_2", "head"),
        ("/upsamplers.3/scores/Conv", "upsamplers.3"),
        ("Multiply_610", None),
        ("/Concat_acdb_abcd_", None),
    ],
)
def test_parts(name: str, part: str | None) -> None:
    assert part_of(name) == part


def test_groups_are_summed_and_the_slowest_comes_first() -> None:
    rows = [
        LayerRow("a", "head", "MatMul", "p", 1.0, 0.1),
        LayerRow("b", "reduction", "Convolution", "p", 6.0, 0.6),
        LayerRow("c", "head", "Convolution", "p", 3.0, 0.3),
    ]

    parts = group_by(rows, lambda row: row.part)

    assert [(group.name, group.layers) for group in parts] == [("reduction", 1), ("head", 2)]
    assert parts[1].ms == pytest.approx(4)
    assert parts[1].share == pytest.approx(0.4)


def test_memory_is_read_from_the_status_of_a_process() -> None:
    text = "Name:\tpython\nVmHWM:\t  2000 kB\nVmRSS:\t  1000 kB\n"

    assert status_mb(text, "VmRSS") == pytest.approx(1.024)
    assert status_mb(text, "VmHWM") == pytest.approx(2.048)
    assert status_mb("", "VmRSS") is None
