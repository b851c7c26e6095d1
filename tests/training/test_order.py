"""Which samples an epoch's steps see: all of them, one size at a time, in an order of chance."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pkecho_edge.training.order import epoch_batches, steps_per_epoch


def steps(counts: list[int], batch: int, seed: int = 0) -> list[tuple[int, list[int]]]:
    return epoch_batches(counts, batch, torch.Generator().manual_seed(seed))


@settings(max_examples=80, deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    batch=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
def test_every_sample_is_seen_once_but_for_those_that_fill_up(
    counts: list[int], batch: int, seed: int
) -> None:
    found = steps(counts, batch, seed)

    assert len(found) == steps_per_epoch(counts, batch)
    for which, count in enumerate(counts):
        mine = [indices for size, indices in found if size == which]
        assert all(len(indices) == batch for indices in mine)
        seen = Counter(index for indices in mine for index in indices)
        assert set(seen) == set(range(count))
        # as even as can be: ceil(count / batch) batches of a size, shared among its samples
        least, rest = divmod(len(mine) * batch, count)
        assert sorted(seen.values()) == [least] * (count - rest) + [least + 1] * rest


def test_steps_of_an_epoch_are_counted_size_by_size() -> None:
    assert steps_per_epoch([8], 4) == 2
    assert steps_per_epoch([9], 4) == 3
    assert steps_per_epoch([5, 3], 4) == 2 + 1  # not ceil(8 / 4): no batch mixes sizes


def test_a_last_batch_is_filled_up_from_the_first() -> None:
    (_, first), (_, _), (_, last) = steps([5], 2)

    assert last[1] == first[0]
    assert last[0] not in first


def test_the_generator_alone_decides() -> None:
    torch.manual_seed(1)
    once = steps([20, 9], 4, seed=7)
    torch.manual_seed(2)

    assert steps([20, 9], 4, seed=7) == once
    assert steps([20, 9], 4, seed=8) != once


def test_samples_and_sizes_come_mixed() -> None:
    found = steps([40, 40], 2)

    sizes = [which for which, _ in found]
    assert sizes != sorted(sizes)
    assert sizes != sorted(sizes, reverse=True)
    for size in (0, 1):
        order = [index for which, indices in found if which == size for index in indices]
        assert order != sorted(order)
    alone = [index for _, indices in steps([40], 2) for index in indices]
    assert alone != sorted(alone)
