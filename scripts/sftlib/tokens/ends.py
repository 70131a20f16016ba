"""Whether the model is taught to stop: the last trained token of each whole row must end a turn.

    rows_without_end(examples, stop_ids=[2])  ->  ["raw.jsonl:17"]        a row whose last label is another token

Rows that were cut (`is_complete` is false) teach no end on purpose and count as rows without one.
Worst bug: a training after which the model never stops (tests/tokens/test_ends.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .examples import IGNORED, Example


def rows_without_end(examples: Sequence[Example], stop_ids: Collection[int]) -> list[str]:
    """Sources of the rows whose last supervised token is none of stop_ids."""
    stops = set(stop_ids)
    return [example.source for example in examples if not example.is_complete or _last_trained(example) not in stops]


def _last_trained(example: Example) -> int:
    return next((label for label in reversed(example.labels) if label != IGNORED), IGNORED)
