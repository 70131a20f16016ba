"""The order of examples: each once, like lengths together, the same for the same seed and epoch."""

from __future__ import annotations

import itertools
import random

from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from sftlib.tokens.batching import LengthGroupedSampler


def order(lengths: list[int], size: int, seed: int = 0, epoch: int = 0) -> list[int]:
    sampler = LengthGroupedSampler(lengths, size, seed)
    sampler.set_epoch(epoch)
    assert len(sampler) == len(lengths)
    return list(sampler)


def batches(indices: list[int], size: int) -> list[list[int]]:
    return [indices[at : at + size] for at in range(0, len(indices), size)]


@given(st.lists(st.integers(1, 2000), max_size=300), st.integers(1, 9), st.integers(0, 5), st.integers(0, 3))
def test_each_index_exactly_once_and_the_longest_first(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    indices = order(lengths, size, seed, epoch)
    assert sorted(indices) == list(range(len(lengths)))
    assert indices == order(lengths, size, seed, epoch)
    if lengths and epoch == 0:
        assert max(lengths) in [lengths[index] for index in indices[:size]]


def test_like_lengths_are_together() -> None:
    lengths = random.Random(1).choices(range(10, 500), k=1000)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches(order(lengths, 8), 8))
    plain = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches(list(range(1000)), 8))
    assert padded < 1.05 * sum(lengths)
    assert plain > 1.5 * sum(lengths)


def test_by_hand_one_pool() -> None:
    """Six examples in threes: the three longest are one micro-batch, and it comes first."""
    assert [sorted(batch) for batch in batches(order([5, 90, 7, 80, 6, 70], 3), 3)] == [[1, 3, 5], [0, 2, 4]]


def test_only_the_last_micro_batch_is_not_full() -> None:
    lengths = list(range(1, 1004))
    for epoch in range(3):
        whole = batches(order(lengths, 4, epoch=epoch), 4)
        spread = [max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in whole]
        assert max(spread) < 60  # each is cut out of one sorted pool of 200
        assert len(whole[-1]) == 3
        assert (1002 in whole[0]) == (epoch == 0)  # the longest comes first, once


def test_epochs_and_seeds_differ_and_lengths_are_mixed() -> None:
    lengths = random.Random(1).choices(range(10, 500), k=400)
    orders = [order(lengths, 4, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(one) for one in orders}) == 4
    means = [sum(lengths[i] for i in batch) / 4 for batch in batches(orders[1], 4)]
    rises = sum(a < b for a, b in itertools.pairwise(means))
    assert 30 < rises < 69  # 99 neighbours: neither ascending nor descending


def test_the_order_is_the_same_on_every_machine() -> None:
    assert order([3, 1, 2, 9, 5, 4, 8], 2, seed=42, epoch=3) == [3, 6, 0, 2, 4, 5, 1]


def test_the_data_loader_of_the_trainer_sets_the_epoch() -> None:
    sampler = LengthGroupedSampler(list(range(40)), 2, 0)
    loader = Accelerator(cpu=True).prepare(DataLoader(list(range(40)), batch_size=2, sampler=sampler))
    loader.set_epoch(3)
    assert sampler.epoch == 3
    assert [index for batch in loader for index in batch.tolist()] == order(list(range(40)), 2, epoch=3)
