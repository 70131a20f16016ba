"""Shares of a mix: counts by hand, exact in fractions; rows as evenly as whole numbers allow."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.chat.shares import counts_of, take
from sftlib.errors import DataError, UsageError

SETS = {"faq": 300, "web": 10_000}


@pytest.mark.parametrize(
    ("available", "asked", "counts"),
    [
        (SETS, {}, {"faq": 300, "web": 10_000}),
        ({"empty": 0, "faq": 3}, {}, {"empty": 0, "faq": 3}),
        (SETS, {"weights": {"faq": 1, "web": 2}}, {"faq": 300, "web": 600}),
        (SETS, {"weights": {"web": 2}}, {"faq": 300, "web": 600}),  # the others count as 1
        (SETS, {"weights": {"faq": 1, "web": 100}}, {"faq": 100, "web": 10_000}),
        ({"a": 10, "b": 100}, {"weights": {"a": 0.1, "b": 0.3}}, {"a": 10, "b": 30}),
        ({"a": 10, "b": 100}, {"weights": {"a": 3, "b": 7}}, {"a": 10, "b": 23}),  # 33 rows: 9.9 and 23.1
        (SETS, {"weights": {"faq": 1, "web": 2}, "rows": 1000}, {"faq": 333, "web": 667}),
        (SETS, {"rows": 103}, {"faq": 3, "web": 100}),
        ({"a": 1, "b": 1, "c": 1}, {"rows": 2}, {"a": 1, "b": 1, "c": 0}),  # a tie goes by order
        ({"c": 1, "b": 1, "a": 1}, {"rows": 4}, {"c": 2, "b": 1, "a": 1}),
        ({"a": 100, "b": 400}, {"temperature": 2}, {"a": 100, "b": 200}),  # square roots: 10 to 20
        ({"a": 100, "b": 400}, {"temperature": 0.5}, {"a": 25, "b": 400}),  # squares: 1 to 16
        ({"a": 100, "b": 400}, {"temperature": 2, "rows": 30}, {"a": 10, "b": 20}),
        ({"a": 100, "b": 400}, {"temperature": 1e9}, {"a": 100, "b": 100}),
        ({"a": 50, "b": 400}, {"weights": {"a": 1, "b": 9}, "temperature": 2}, {"a": 50, "b": 150}),
        ({"a": 1, "b": 10**6}, {"temperature": 0.001, "rows": 5}, {"a": 0, "b": 5}),
        ({"none": 0, "b": 10}, {"rows": 25}, {"none": 0, "b": 25}),  # by its size, its share is none
    ],
)
def test_counts_by_hand(available, asked, counts):
    assert counts_of(available, **asked) == counts
    assert list(counts_of(available, **asked)) == list(available)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"weights": {"faq": 0}}, UsageError, "The weight of faq is 0.*leave the set out"),
        ({"weights": {"faq": -1.5}}, UsageError, "The weight of faq is -1.5"),
        ({"weights": {"web": float("nan")}}, UsageError, "The weight of web is nan"),
        ({"weights": {"web": float("inf")}}, UsageError, "The weight of web is inf"),
        ({"weights": {"wep": 1}}, UsageError, "for wep, which is not in the mix.*one of faq, web, none"),
        ({"temperature": 0}, UsageError, "The temperature is 0"),
        ({"temperature": float("inf")}, UsageError, "The temperature is inf"),
        ({"rows": 0}, UsageError, "is to have 0 rows"),
        ({"weights": {"faq": 2}}, DataError, "none holds no rows"),
    ],
)
def test_what_means_nothing_is_refused(asked, error, said):
    with pytest.raises(error, match=f"(?s){said}"):
        counts_of({**SETS, "none": 0}, **asked)


def test_nothing_cannot_be_mixed():
    assert counts_of({}) == {}
    with pytest.raises(DataError, match="The mix holds no rows"):
        counts_of({"a": 0}, rows=5)
    with pytest.raises(DataError, match="The mix holds no rows"):
        counts_of({}, rows=5)
    with pytest.raises(DataError, match="a holds no rows, and 5 are to come out of it"):
        take(0, 5, 42, "a")
    assert take(0, 0, 42, "a").tolist() == []


sizes = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 500), min_size=1)
numbers = st.floats(0.01, 100).map(lambda number: round(number, 2))


@settings(max_examples=150, deadline=None)
@given(sizes, st.data())
def test_shares_are_exact_to_one_row(available, data):
    weights = data.draw(st.dictionaries(st.sampled_from(sorted(available)), numbers))
    rows = data.draw(st.none() | st.integers(1, 2000))
    counts = counts_of(available, weights=weights, rows=rows)
    whole = {name: Fraction(str(weights.get(name, 1))) for name in available}
    total, sum_of_weights = sum(counts.values()), sum(whole.values())
    assert all(abs(counts[name] - total * whole[name] / sum_of_weights) < 1 for name in available)
    if rows is None:
        assert all(counts[name] <= available[name] for name in available)
        more = total + 1
        assert any(more * whole[name] / sum_of_weights > available[name] for name in available), "more would fit"
    else:
        assert total == rows


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(0, 200), st.integers(0, 2**40), st.text(max_size=5))
def test_rows_repeat_evenly(available, count, seed, name):
    rows = take(available, count, seed, name)
    assert rows.dtype == np.int64
    assert rows.tolist() == sorted(rows.tolist())
    times = np.bincount(rows, minlength=available)
    assert times.sum() == count
    assert set(times.tolist()) <= {count // available, -(-count // available)}
    fewer = np.bincount(take(available, count // 2, seed, name), minlength=available)
    assert (fewer <= times).all(), "a larger count has to keep the rows of a smaller one"


def test_the_choice_is_seeded_and_the_sets_own():
    assert take(4, 4, 7, "x").tolist() == [0, 1, 2, 3]
    assert take(10, 4, 42, "faq").tolist() == [0, 1, 4, 5]  # written down: it may not change with numpy or Python
    assert take(100, 40, 42, "faq").tolist() != take(100, 40, 43, "faq").tolist()
    assert take(100, 40, 42, "faq").tolist() != take(100, 40, 42, "web").tolist()
    counts = sum(np.bincount(take(10, 3, seed, "faq"), minlength=10) for seed in range(2000))
    assert counts.min() > 500  # 600 each, standard deviation 20
    assert counts.max() < 700
