"""A few raw rows that stand for all of them, as JSON Lines.

In: raw paths as data.raw_path has them. Out: lines that `make process` takes for what the rows were. A row that the
readers refuse stays one that is refused, so that a sample fails where the whole would.

    sample_lines(["faq.csv"], "auto", 120)  ->  ['{"question":"2+2?","answer":"4"}', ...]

Worst bug: a sample that hides what is wrong with the data (tests/chat/test_sampling.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from .readers import find_sources
from .rows import SURROGATES, RawRow, Rejected, compact_json

LOOKED_AT = 20  # rows that are read for each one that is taken: more than the first few, never a whole large file


def sample_lines(paths: Sequence[str], encoding: str, count: int) -> list[str]:
    """At most `count` rows, evenly out of the first rows of every source. DataError as the readers raise it."""
    sources, _ = find_sources(paths, encoding)
    share = max(1, LOOKED_AT * count // len(sources))
    rows = [row for source in sources for row in islice(source.read(None), share)]
    step = max(1, len(rows) / count)
    taken = [rows[int(index * step)] for index in range(min(count, len(rows)))]
    return [_line(row) for row in taken]


def _line(row: RawRow | Rejected) -> str:
    if isinstance(row, RawRow):
        return SURROGATES.sub("\ufffd", compact_json(row.value))
    return "refused: " + " ".join(row.seen.split())  # no JSON, whatever it was
