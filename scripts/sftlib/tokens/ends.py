"""Whether the model is taught to stop: the last trained token of a row must end a turn, unless its end was cut off.

    rows_without_end(examples, stop_ids=[2])  ->  [example]        whose last label is another token

Worst bug: a training after which the model never stops (tests/tokens/test_ends.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .examples import IGNORED, Example


def rows_without_end(examples: Sequence[Example], stop_ids: Collection[int]) -> list[Example]:
    """The rows whose last supervised token is none of stop_ids."""
    stops = set(stop_ids)
    return [example for example in examples if _last_trained(example) not in stops]


def _last_trained(example: Example) -> int:
    return next((label for label in reversed(example.labels) if label != IGNORED), IGNORED)
