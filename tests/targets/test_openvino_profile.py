"""The times of nodes, out of averages that count every run since the model was compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pkecho_edge.targets import openvino_profile
from pkecho_edge.targets.base import Engine
from pkecho_edge.targets.openvino_profile import Profiler, median_of, profile_engine

WARMUP = 5
"""Untimed runs of profile_engine."""


class Averages:
    """A compiled model and its request, whose profile is that of OpenVINO 2026.

    A node says its average over all runs so far, and cuts it to microseconds; while that is 0, it
    says that it did not run. The second node never runs. The third takes a microsecond in its first
    runs and less than that later.

    Args:
        runs_us: what the first node takes in each run.
    """

    def __init__(self, runs_us: Sequence[float]) -> None:
        self._left: Iterator[float] = iter(runs_us)
        self._sums, self._runs = [0, 0, 0], 0
        self.latency = 0.0  # milliseconds

    def create_infer_request(self) -> Averages:
        return self

    def infer(self, inputs: object, *, share_inputs: bool, share_outputs: bool) -> None:
        taken = next(self._left)
        self._sums[0] += int(taken)
        self._sums[2] += self._runs < 12
        self._runs += 1
        self.latency = taken / 1e3

    @property
    def profiling_info(self) -> list[Any]:
        averages = [total // self._runs for total in self._sums]
        return [
            SimpleNamespace(
                node_name=name,
                node_type="Convolution",
                exec_type="jit_avx2_I8",
                status=SimpleNamespace(name="EXECUTED" if average else "NOT_RUN"),
                real_time=timedelta(microseconds=average),
            )
            for name, average in zip(("first", "fused", "short"), averages, strict=True)
        ]


def profiled(runs_us: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What profile_engine says of an engine whose node takes these times."""
    monkeypatch.setattr(openvino_profile, "compile_engine", lambda *_: Averages(runs_us))
    return profile_engine(Engine("cpu", Path(), (), (), ()), {}, len(runs_us) - WARMUP)


@pytest.mark.parametrize("runs", [1, 3, 5, 20, 57])
def test_slow_first_runs_do_not_count(runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = profiled([9000, 3000, 800, 400, 300, *[200] * runs], monkeypatch)

    node, *others = profile.nodes
    assert {other.name for other in others} <= {"short"}  # what did not run is not there
    # of a single run its rounding is that of all six
    assert node.ms == pytest.approx(0.2, abs=0.003 if runs >= 5 else 0.006)
    assert profile.wall_ms == pytest.approx(0.2)


def test_a_median_ignores_what_disturbs_some_of_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [200.0] * 50
    runs[12:25] = [5000.0] * 13

    node = profiled([200] * WARMUP + runs, monkeypatch).nodes[0]

    assert node.ms == pytest.approx(0.2, abs=0.006)


def test_a_node_may_be_too_short_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = profiled([200] * 40, monkeypatch).nodes

    assert [node.name for node in nodes] == ["first", "short"]
    assert 0 <= nodes[1].ms <= 0.001


def test_each_run_that_counts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    monkeypatch.setattr(openvino_profile, "compile_engine", lambda *_: Averages([100] * 18))

    profile_engine(Engine("cpu", Path(), (), (), ()), {}, 13, lambda: heard.append(1))

    assert len(heard) == 13


def test_blocks_are_apart() -> None:
    profiler = Profiler(Averages([700] * 10 + [100] * 10 + [300] * 10))

    first, second, third = (profiler.block({}, 10) for _ in range(3))

    assert first.nodes[0].ms == pytest.approx(0.7, abs=0.001)
    assert second.nodes[0].ms == pytest.approx(0.1, abs=0.002)
    assert third.nodes[0].ms == pytest.approx(0.3, abs=0.003)
    assert third.walls_ms == pytest.approx([0.3] * 10)
    assert median_of([first, second, third]).nodes[0].ms == third.nodes[0].ms


def test_rounding_is_no_bias() -> None:
    """Runs of 9 and 10 microseconds: each block is off by one or two, their mean is not."""
    profiler = Profiler(Averages([9, 10] * 500))

    found = [profiler.block({}, 10).nodes[0].ms for _ in range(100)]

    assert sum(found) / len(found) == pytest.approx(0.0095, abs=0.0006)
