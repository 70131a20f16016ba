"""How long the rows are, as bars of text, and which of them the length policy takes.

In come the lengths of all rows in tokens, before anything is cut, and model.max_seq_len; out go bars. A bar ends at
max_seq_len, so that what is too long is told apart.

    bars([10, 20, 70], max_seq_len=64)  ->  [Bar(1, 16, 1, False), Bar(17, 32, 1, False), ..., Bar(65, 80, 1, True)]

Worst bug: a row in no bar, or in two (tests/tokens/test_histogram.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

MOST = 16  # bars below max_seq_len or the longest row: they fit a screen


@dataclass(frozen=True, slots=True)
class Bar:
    """Rows of `low` to `high` tokens; `is_too_long` when that is more than max_seq_len."""

    low: int
    high: int
    rows: int
    is_too_long: bool


def bars(lengths: Sequence[int], max_seq_len: int) -> list[Bar]:
    """Bars of one width, a power of two, from the shortest row to the longest."""
    longest = max(lengths)
    width = 1
    while width * MOST < longest:
        width *= 2
    edges = sorted({*range(0, longest + width, width), *([max_seq_len] if max_seq_len < longest else [])})
    found = [
        Bar(low + 1, high, sum(low < length <= high for length in lengths), low >= max_seq_len)
        for low, high in itertools.pairwise(edges)
    ]
    first = next(place for place, bar in enumerate(found) if bar.rows)
    return found[first:]
