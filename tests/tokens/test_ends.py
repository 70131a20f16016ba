"""A row teaches to stop when its last trained token ends a turn."""

from __future__ import annotations

from sftlib.tokens.ends import rows_that_end, rows_without_end
from sftlib.tokens.examples import IGNORED, Example


def test_the_last_trained_token_decides() -> None:
    rows = [
        Example([1, 5, 2, 9], [IGNORED, 5, 2, IGNORED], "ends:1"),  # white space behind the end is not trained
        Example([1, 5, 9], [IGNORED, 5, 9], "other:2"),
        Example([1, 2, 5], [IGNORED, 2, 5], "early:3"),
        Example([1, 2], [IGNORED, IGNORED], "nothing:4"),
        Example([1, 5, 3], [IGNORED, 5, 3], "also:5"),
        Example([1, 5, 9], [IGNORED, 5, 9], "cut:6", is_complete=False),  # it must not teach to stop
    ]
    assert [row.source for row in rows_without_end(rows, [2, 3])] == ["other:2", "early:3", "nothing:4"]
    assert rows_without_end(rows[:1], [2]) == []
    assert (rows_that_end(rows, [2, 3]), rows_that_end(rows[-1:], [2, 3])) == (2, 0)
