"""Taking turns, by a clock that moves only when a fake network says so."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import groupby

import pytest

from pkecho_edge.bench.turns import take_turns
from pkecho_edge.errors import UsageError

MS = 1_000_000


class Clock:
    """Nanoseconds, and who made them pass."""

    def __init__(self) -> None:
        self.now = 0
        self.calls: list[str] = []

    def __call__(self) -> int:
        return self.now

    def takes(self, name: str, *nanoseconds: int) -> Callable[[], None]:
        """A call that takes these times one after the other, and the last one from then on."""
        times = list(nanoseconds)

        def call() -> None:
            self.now += times.pop(0) if len(times) > 1 else times[0]
            self.calls.append(name)

        return call

    def blocks(self) -> list[tuple[str, int]]:
        """Who was called, and how often in a row."""
        return [(name, len(list(group))) for name, group in groupby(self.calls)]


def test_turns_alternate_in_blocks_of_time() -> None:
    clock, rounds = Clock(), []
    calls = [clock.takes("a", 10 * MS), clock.takes("b", 30 * MS)]

    taken = take_turns(calls, 2, warmup=0, advance=lambda: rounds.append(1), clock=clock)

    # 0.15 s: fifteen calls of a, five of b; the first of each is not timed
    assert clock.blocks() == [("a", 15), ("b", 5)] * 2
    assert taken == [[10 * MS] * 28, [30 * MS] * 8]
    assert len(rounds) == 2


def test_the_first_call_of_a_turn_and_the_warm_up_are_not_timed() -> None:
    clock = Clock()
    cold_in_each_turn = clock.takes("a", 999 * MS, 500 * MS, *[50 * MS] * 4)

    (taken,) = take_turns([cold_in_each_turn], 1, warmup=1, clock=clock)

    assert taken == [50 * MS] * 2
    assert len(clock.calls) == 1 + 3


def test_a_slow_call_still_gets_three_calls_and_a_fast_one_no_more_than_the_block() -> None:
    clock = Clock()
    calls = [clock.takes("slow", 2000 * MS), clock.takes("fast", 1)]

    slow, fast = take_turns(calls, 1, block=40, warmup=0, clock=clock)

    assert clock.blocks() == [("slow", 3), ("fast", 41)]
    assert slow == [2000 * MS] * 2
    assert fast == [1] * 40


def test_blocks_of_one_are_single_timed_calls() -> None:
    clock = Clock()
    calls = [clock.takes("a", 10), clock.takes("b", 30)]

    taken = take_turns(calls, 3, block=1, warmup=2, clock=clock)

    assert taken == [[10, 10, 10], [30, 30, 30]]
    assert "".join(clock.calls) == "aabb" + "ab" * 3


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_meanwhile_and_the_setting_comes_back(enabled: bool) -> None:
    was_enabled, seen = gc.isenabled(), []
    (gc.enable if enabled else gc.disable)()
    try:
        take_turns([lambda: seen.append(gc.isenabled())], 1, block=1, warmup=0)
        assert seen == [False]
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_collection_is_back_after_an_error() -> None:
    def fails() -> None:
        raise RuntimeError("device lost")

    with pytest.raises(RuntimeError, match="device lost"):
        take_turns([fails], 1, warmup=0)
    assert gc.isenabled()


@pytest.mark.parametrize(("rounds", "warmup", "block"), [(0, 3, 1), (1, -1, 1), (1, 0, 0)])
def test_impossible_numbers_of_rounds_are_refused(rounds: int, warmup: int, block: int) -> None:
    with pytest.raises(UsageError, match="cannot time"):
        take_turns([], rounds, warmup=warmup, block=block)
