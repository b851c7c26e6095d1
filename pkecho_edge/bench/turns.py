"""Timing several things in one run, turn by turn, so that a machine's drift falls on all alike.

A turn is a block of calls, not a single one: engines that alternate call by call throw each other's
weights out of the processor's caches, and an engine of 3 ms then measures as one of 5 ms, which it
never is in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pkecho_edge.errors import UsageError
from pkecho_edge.verify.speed import no_garbage_collection

__all__ = ["BLOCK", "BLOCK_SECONDS", "take_turns"]

BLOCK = 100
"""Timed calls after which a turn is over, however fast they were."""

BLOCK_SECONDS = 0.15
"""Time after which a turn is over: long against what refilling the caches costs, short against a
machine's drift."""

_LEAST_TIMED = 2


def take_turns(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    *,
    block: int = BLOCK,
    seconds: float = BLOCK_SECONDS,
    warmup: int = 3,
    advance: Callable[[], None] = lambda: None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[list[int]]:
    """Time calls in turns, AAA... BBB... CCC..., AAA... and so on, with garbage collection off.

    A turn is one untimed call, which brings weights and threads back, then timed calls until
    `block` of them are made or `seconds` are over, but never fewer than three calls in all.

    Args:
        calls: each returns only when its result is there.
        rounds: turns of each call, at least 1.
        block: most timed calls in a turn; 1 is one timed call and no untimed one, for calls so long
            that caches do not matter.
        seconds: of a turn, from the start of its untimed call.
        warmup: untimed calls of each before the first turn.
        advance: called after each round.
        clock: nanoseconds, monotonic.

    Returns:
        nanoseconds, [call][timed call], in the order they were made. A fast call has more of them.

    Raises:
        UsageError: fewer than one round, or a negative warm-up.
    """
    if rounds < 1 or warmup < 0 or block < 1:
        raise UsageError(
            f"cannot time {rounds} rounds of {block} calls after {warmup} warm-up calls",
            remedy="Ask for at least one round",
        )
    for call in calls:
        for _ in range(warmup):
            call()
    taken: list[list[int]] = [[] for _ in calls]
    with no_garbage_collection():
        for _ in range(rounds):
            for call, latencies in zip(calls, taken, strict=True):
                latencies.extend(_turn(call, block, seconds, clock))
            advance()
    return taken


def _turn(
    call: Callable[[], object], block: int, seconds: float, clock: Callable[[], int]
) -> list[int]:
    """One block's timed calls."""
    latencies: list[int] = []
    began = clock()
    if block > 1:
        call()
    least = min(block, _LEAST_TIMED)
    while len(latencies) < block:
        start = clock()
        call()
        end = clock()
        latencies.append(end - start)
        if len(latencies) >= least and end - began >= seconds * 1e9:
            break
    return latencies
