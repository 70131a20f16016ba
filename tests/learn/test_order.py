"""Every row once an epoch, in steps that do not depend on the micro-batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sftlib.learn.order import StepSampler


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 17), st.integers(0, 5), st.integers(0, 3))
def test_each_row_once_and_each_step_from_long_to_short(lengths: list[int], step: int, seed: int, epoch: int) -> None:
    sampler = StepSampler(lengths, step, seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths)))
    assert len(sampler) == len(lengths)
    for start in range(0, len(order), step):
        of_step = [lengths[row] for row in order[start : start + step]]
        assert of_step == sorted(of_step, reverse=True)
    again = StepSampler(lengths, step, seed)
    again.set_epoch(epoch)
    assert list(again) == order


def test_epochs_and_seeds_differ_and_the_longest_row_comes_first() -> None:
    lengths = [3 + (row * 7) % 23 for row in range(30)]
    first = StepSampler(lengths, 8, seed=0)
    order = list(first)
    assert lengths[order[0]] == max(lengths)
    first.set_epoch(1)
    assert list(first) != order
    assert list(StepSampler(lengths, 8, seed=1)) != order


def test_a_step_mixes_lengths_and_its_parts_do_not() -> None:
    lengths = [1] * 16 + [100] * 16
    spread = 0
    order = list(StepSampler(lengths, 8, seed=0))
    for start in range(0, 32, 8):
        step = [lengths[row] for row in order[start : start + 8]]
        spread += len(set(step)) == 2
        assert all(len(set(step[at : at + 4])) == 1 for at in (0, 4))
    assert spread >= 1
