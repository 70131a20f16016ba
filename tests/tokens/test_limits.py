"""Lengths, knees and costs, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.tokens import limits
from sftlib.tokens.examples import IGNORED, Example
from sftlib.tokens.table import ExampleTable


def table(*rows: tuple[int, int]) -> ExampleTable:
    """Rows of (tokens, supervised ones at their end)."""
    examples = []
    for number, (tokens, supervised) in enumerate(rows):
        ids = list(range(10, 10 + tokens))
        labels = [IGNORED] * (tokens - supervised) + ids[tokens - supervised :]
        examples.append(Example(ids, labels, f"a:{number}"))
    return ExampleTable.of(examples)


def test_a_spread_is_of_lengths_that_there_are() -> None:
    found = limits.spread(list(range(1, 101)))
    assert found == {
        "rows": 100, "min": 1, "median": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100, "mean": 50.5, "sum": 5050,
    }  # fmt: skip
    assert limits.spread([7])["p95"] == 7
    assert limits.spread([]) == {"rows": 0}


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_a_histogram_holds_every_row_once(lengths: list[int]) -> None:
    bars = limits.histogram(np.array(lengths))
    assert sum(bar["rows"] for bar in bars) == len(lengths)
    for bar in bars:
        assert bar["rows"] == sum(bar["low"] <= length <= bar["high"] for length in lengths)


def test_a_long_tail_is_in_the_last_bar() -> None:
    bars = limits.histogram(np.array([10] * 999 + [5000]))
    assert len(bars) <= limits.BARS
    assert (bars[-1]["high"], bars[-1]["rows"]) == (5000, 1000)


def test_shares_fall_into_bars() -> None:
    assert limits.shares_histogram(np.array([0.0, 0.04, 0.05, 0.99, 1.0]))[:2] == [2, 1]
    assert limits.shares_histogram(np.array([0.99, 1.0]))[-1] == 2


def test_what_is_kept_of_dropped_and_of_cut_rows() -> None:
    rows = table((4, 2), (6, 5), (10, 3))
    at = np.array([3, 4, 6, 8, 10])
    lengths, supervised = rows.lengths, rows.supervised
    assert limits.kept_if_dropped(lengths, supervised, at).tolist() == [0, 0.2, 0.7, 0.7, 1.0]
    # before 3 tokens: 1 of the first and 2 of the second row are supervised; before 8: 2 + 5 + 1
    assert limits.kept_if_cut([rows], at).tolist() == [0.3, 0.5, 0.7, 0.8, 1.0]


def test_the_costs_of_a_limit() -> None:
    found = limits.costs([table((4, 2), (6, 5)), table((10, 3))], 6)
    assert found == {
        "rows_longer": 1, "rows_longer_share": pytest.approx(1 / 3), "dropped": 3, "dropped_share": 0.3, "cut": 3,
        "cut_share": 0.3, "tokens_if_dropped": 10, "tokens_if_cut": 16,
    }  # fmt: skip
    assert limits.costs([table((4, 2))], 6)["dropped"] == 0


@given(st.lists(st.tuples(st.integers(2, 60), st.integers(1, 60)), min_size=1, max_size=20), st.integers(1, 70))
@settings(max_examples=60, deadline=None)
def test_cutting_never_loses_more_than_dropping(rows: list[tuple[int, int]], limit: int) -> None:
    tables = [table(*((tokens, min(supervised, tokens - 1)) for tokens, supervised in rows))]
    found = limits.costs(tables, limit)
    assert 0 <= found["cut"] <= found["dropped"] <= sum(int(one.supervised.sum()) for one in tables)
    assert (found["rows_longer"] == 0) == (limit >= max(tokens for tokens, _ in rows))


def test_the_knee_is_where_the_curve_is_highest_above_its_diagonal() -> None:
    assert limits.knee([10, 20, 1000], [0.5, 0.98, 1.0]) == 20
    # y = 1 - (1 - x)^2 is highest above y = x at x = 1/2
    x = np.linspace(0, 100, 101)
    assert limits.knee(x, 1 - (1 - x / 100) ** 2) == 50
    assert limits.knee([7], [1.0]) == 7
    assert limits.knee([7, 8, 9], [1.0, 1.0, 1.0]) == 9


def test_candidates_are_told_apart_and_named() -> None:
    assert limits.candidates(1024, p95=233, bend=216, longest=381) == {
        216: ["knee"], 240: ["95 % of rows"], 384: ["longest row"], 1024: ["now"],
    }  # fmt: skip
    assert limits.candidates(240, p95=233, bend=235, longest=240) == {
        240: ["knee", "95 % of rows", "longest row", "now"],
    }  # fmt: skip


def test_a_curve_has_few_points_and_both_ends() -> None:
    points = limits.points_of(np.arange(1, 5000))
    assert len(points) <= limits.POINTS
    assert (points[0], points[-1]) == (1, 4999)
    assert limits.points_of(np.array([5, 5, 9])).tolist() == [5, 9]
