"""Dealing: numbers of rows are met exactly where groups allow it, and every split gets a group while it can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftlib.chat.dealing import ANYWHERE, SPLITS, deal, row_targets, split_counts
from sftlib.errors import DataError

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


@pytest.mark.parametrize(
    ("groups", "shares", "counts"),
    [
        (0, (0.8, 0.1, 0.1), (0, 0, 0)),
        (1, (0.8, 0.1, 0.1), (1, 0, 0)),
        (2, (0.8, 0.1, 0.1), (1, 1, 0)),
        (3, (0.8, 0.1, 0.1), (1, 1, 1)),
        (5, (0.8, 0.1, 0.1), (3, 1, 1)),
        (10, (0.8, 0.1, 0.1), (8, 1, 1)),
        (503, (0.8, 0.1, 0.1), (403, 50, 50)),  # 402.4, 50.3, 50.3: the one left over goes to .4
        (1000, (0.7, 0.2, 0.1), (700, 200, 100)),
        (100, (0.29, 0.0, 0.71), (29, 0, 71)),
        (1, (0.1, 0.0, 0.9), (1, 0, 0)),
        (2, (0.1, 0.1, 0.8), (1, 1, 0)),
        (2, (1.0, 0.0, 0.0), (2, 0, 0)),
    ],
)
def test_counts_by_largest_remainder(groups, shares, counts):
    assert tuple(split_counts(groups, dict(zip(SHARES, shares, strict=True))).values()) == counts


@given(st.integers(0, 10_000), st.tuples(st.integers(1, 100), st.integers(0, 100), st.integers(0, 100)))
def test_counts_add_up_and_are_at_most_one_off(groups, weights):
    shares = {name: weight / sum(weights) for name, weight in zip(SHARES, weights, strict=True)}
    counts = split_counts(groups, shares)
    assert sum(counts.values()) == groups
    if groups >= 500:  # below, a split with a small share may be lifted to one
        assert all(abs(counts[name] - groups * shares[name]) < 2 for name in counts)
    assert all(count == 0 for name, count in counts.items() if shares[name] == 0)


@pytest.mark.parametrize(
    ("rows", "shares", "targets"),
    [
        (100, (0.8, 0.1, 0.1), (80, 10, 10)),
        (100, (0.8, 15, 5), (80, 15, 5)),
        (100, (0.8, 15, 0.1), (75, 15, 10)),
        (100, (0.8, 15, 0), (85, 15, 0)),
        (17, (0.8, 15, 0), (2, 15, 0)),
    ],
)
def test_numbers_of_rows(rows, shares, targets):
    assert row_targets(rows, dict(zip(SPLITS, shares, strict=True))) == dict(zip(SPLITS, targets, strict=True))


def test_numbers_that_leave_nothing_to_train_on():
    with pytest.raises(DataError, match="The data set faq has 20 rows that can be used") as caught:
        row_targets(20, {"train": 0.8, "val": 15, "test": 5}, "faq")
    assert "fewer than 20 rows" in caught.value.expected


def dealt(sizes, targets, keys=None, follows=None) -> list[int]:
    keys = np.array(keys or range(len(sizes)), np.uint64)
    follows = np.array(follows or [ANYWHERE] * len(sizes))
    return deal(keys, np.array(sizes), follows, dict(zip(SPLITS, targets, strict=True))).tolist()


@pytest.mark.parametrize(
    ("sizes", "targets", "splits"),
    [
        ([1] * 10, (8, 1, 1), [0] * 8 + [1, 2]),
        ([1] * 5, (3, 1, 1), [0, 0, 0, 1, 2]),
        ([4, 1, 1, 1, 1, 3], (9, 1, 1), [0, 0, 0, 1, 2, 0]),  # three do not fit into one
        ([1, 1, 2, 2, 5], (7, 2, 2), [0, 0, 1, 2, 0]),
        ([5, 5, 5], (13, 1, 1), [0, 2, 1]),  # nothing fits: the smallest, val first
        ([5, 9, 7], (19, 1, 1), [1, 0, 2]),
        ([6, 4], (8, 1, 1), [0, 1]),
        ([10], (8, 1, 1), [0]),
        ([2, 2], (4, 0, 0), [0, 0]),
    ],
)
def test_groups_by_hand(sizes, targets, splits):
    assert dealt(sizes, targets) == splits


def test_the_key_decides_the_order():
    assert dealt([1] * 5, (3, 1, 1), keys=[50, 10, 40, 30, 20]) == [2, 0, 1, 0, 0]


def test_groups_that_follow_stay_and_count():
    follows = [2, ANYWHERE, 1, ANYWHERE, ANYWHERE, 0]
    assert dealt([2, 1, 1, 1, 1, 1], (3, 2, 2), follows=follows) == [2, 0, 1, 0, 1, 0]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_exact_wherever_single_rows_can_fill_up(large, random_):
    sizes = large + [1] * (sum(large) // 3 + 20)
    random_.shuffle(sizes)
    rows = sum(sizes)
    targets = row_targets(rows, SHARES)
    splits = dealt(sizes, targets.values())
    assert [sum(s for s, at in zip(sizes, splits, strict=True) if at == place) for place in range(3)] == [
        targets[name] for name in SPLITS
    ]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_val_and_test_are_too_large_only_where_they_would_be_empty(sizes):
    targets = row_targets(sum(sizes), SHARES)
    splits = dealt(sizes, targets.values())
    for place, name in list(enumerate(SPLITS))[1:]:
        inside = [size for size, at in zip(sizes, splits, strict=True) if at == place]
        assert sum(inside) <= targets[name] or len(inside) == 1
        if len(sizes) > place and targets[name]:
            assert inside
    assert 0 in splits
