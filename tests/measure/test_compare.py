"""The paired bootstrap on cases that can be worked out."""

from __future__ import annotations

import math
import random

import pytest

from sftlib.measure.compare import paired_bootstrap


def test_two_rows_by_hand():
    # Differences 0 and 1: the mean of a resample is 0, 0.5 or 1 with probabilities 1/4, 1/2, 1/4.
    interval = paired_bootstrap([0, 0], [0, 1], samples=1000, seed=0)
    assert (interval.difference, interval.low, interval.high) == (0.5, 0.0, 1.0)
    assert not interval.excludes_zero


def test_a_constant_difference_is_certain():
    interval = paired_bootstrap([0.1, 0.4, 0.9], [0.3, 0.6, 1.1], samples=100, seed=0)
    assert [interval.difference, interval.low, interval.high] == pytest.approx([0.2, 0.2, 0.2])
    assert interval.excludes_zero


def test_rows_are_paired():
    # Means differ by 0.1 in every row, while the rows differ by 1: unpaired, the interval would be wide.
    interval = paired_bootstrap([0.0, 1.0] * 20, [0.1, 1.1] * 20, samples=200, seed=1)
    assert interval.high - interval.low < 1e-9


def test_width_is_that_of_the_normal_law_for_many_rows():
    draw = random.Random(0)
    differences = [draw.gauss(0.5, 2.0) for _ in range(2000)]
    interval = paired_bootstrap([0.0] * 2000, differences, samples=4000, seed=3)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 2.0 / math.sqrt(2000), rel=0.06)


def test_rows_without_a_score_are_left_out():
    with_none = paired_bootstrap([0.0, None, 0.0, 5.0], [0.0, 9.0, 1.0, None], samples=1000, seed=0)
    assert with_none == paired_bootstrap([0, 0], [0, 1], samples=1000, seed=0)


@pytest.mark.parametrize("rows", [[], [1.0], [1.0, None]])
def test_fewer_than_two_rows_say_nothing(rows: list[float | None]):
    assert paired_bootstrap(rows, rows, samples=100, seed=0) is None


def test_seeded():
    first, second = [0.1, 0.5, 0.3, 0.9], [0.2, 0.9, 0.1, 0.8]
    once, again, other = (paired_bootstrap(first, second, samples=101, seed=seed) for seed in (7, 7, 8))
    assert once == again != other


def test_systems_of_different_rows_are_refused():
    with pytest.raises(ValueError, match="zip"):
        paired_bootstrap([1.0, 2.0], [1.0], samples=100, seed=0)
