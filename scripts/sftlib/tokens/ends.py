"""Whether the model is taught to stop: the last trained token of a row must end a turn, unless its end was cut off.

    rows_without_end(examples, stop_ids=[2])  ->  [example]        whole, and its last label is another token
    rows_that_end(examples, stop_ids=[2])     ->  96               of which the model learns to stop

An example whose end was cut off (`is_complete` False: truncated, or a part of a split answer) must not teach to stop,
and is in neither.

Worst bug: a training after which the model never stops (tests/tokens/test_ends.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .examples import IGNORED, Example


def rows_without_end(examples: Sequence[Example], stop_ids: Collection[int]) -> list[Example]:
    """The complete rows whose last supervised token is none of stop_ids."""
    stops = set(stop_ids)
    return [example for example in examples if example.is_complete and _last_trained(example) not in stops]


def rows_that_end(examples: Sequence[Example], stop_ids: Collection[int]) -> int:
    """How many rows have one of stop_ids as their last supervised token."""
    stops = set(stop_ids)
    return sum(_last_trained(example) in stops for example in examples)


def _last_trained(example: Example) -> int:
    return next((label for label in reversed(example.labels) if label != IGNORED), IGNORED)
