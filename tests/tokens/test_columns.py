"""Rows go into the columns and come out of them as they were."""

from __future__ import annotations

import pytest

from sftlib.tokens.columns import ROWS, Columns, in_columns
from sftlib.tokens.examples import Example

X = -100


def test_by_hand() -> None:
    rows = [
        Example([5, 6, 2], [X, 6, 2], "a:1", straddling=1),
        Example([], [], "a:2", is_complete=False),
        Example([7, 8], [X, X], "a:3", stray_ends=2, decoder_at=1),
    ]
    columns = Columns.of(rows)
    assert columns.ids.tolist() == [5, 6, 2, 7, 8]
    assert columns.trained.tolist() == [False, True, True, False, False]
    assert columns.starts.tolist() == [0, 3, 3, 5]
    assert (len(columns), list(columns.examples())) == (3, rows)


def test_parts_of_any_stream() -> None:
    rows = [Example([n], [X], f"a:{n}") for n in range(2 * ROWS + 1)]
    parts = list(in_columns(iter(rows)))
    assert [len(part) for part in parts] == [ROWS, ROWS, 1]
    assert [one for part in parts for one in part.examples()] == rows


def test_a_row_that_is_replaced() -> None:
    rows = [Example([1, 2], [X, 2], "a:1"), Example([3, 4, 5], [X, 4, 5], "a:2"), Example([6], [X], "a:3")]
    columns = Columns.of(rows)
    other = Example([3, 4, 5], [X, X, 5], "a:2", straddling=1, stray_ends=3)
    columns.replace(1, other)
    assert list(columns.examples()) == [rows[0], other, rows[2]]
    with pytest.raises(AssertionError, match="other tokens"):
        columns.replace(0, other)
