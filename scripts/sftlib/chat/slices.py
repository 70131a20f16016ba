"""A part of a split of the hub, in the words of `datasets`: `train[:80%]`, `train[100:200]`, `train[-500:]`.

Comes in: what a config calls the split. Goes out: its name, and the rows of it with their numbers, streamed. Percents
are rounded to the nearest row, as `datasets` rounds them; they, and numbers from the end, need a split whose size the
hub tells.

    Slice.parse("train[:80%]").rows(stream, total=10)   ->  (1, first), ..., (8, eighth)

Worst bug: a row of the held-out end among those that are trained (tests/chat/test_slices.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from ..errors import DataError

T = TypeVar("T")
BOUND = r"-?\d+%?"
FORM = re.compile(rf"(?P<split>[^\[\]]+?)(?:\[(?P<start>{BOUND})?:(?P<stop>{BOUND})?\])?")


@dataclass(frozen=True, slots=True)
class Slice:
    """A split and the bounds of a part of it, as they were written; '' where there is none."""

    split: str
    start: str = ""
    stop: str = ""

    @classmethod
    def parse(cls, text: str) -> Slice:
        """Read `split` or `split[start:stop]`. DataError for anything else."""
        found = FORM.fullmatch(text)
        if not found:
            raise DataError(
                f"{text!r} is neither a split nor a part of one.", expected="train, train[:80%], train[100:200]",
                cure="Correct the split of the data set.",
            )  # fmt: skip
        return cls(found["split"], found["start"] or "", found["stop"] or "")

    @property
    def needs_total(self) -> bool:
        """Whether the bounds cannot be told without the number of rows."""
        return any(bound.endswith("%") or bound.startswith("-") for bound in (self.start, self.stop))

    def rows(self, stream: Iterable[T], total: int | None) -> Iterator[tuple[int, T]]:
        """The rows of the part with their numbers in the whole split, from 1. DataError when the size is not known."""
        if self.needs_total and total is None:
            raise DataError(
                f"The hub does not tell how many rows {self.split} has, and {self.start}:{self.stop} needs that.",
                expected="rows counted from the beginning, as train[:1000]", cure="Write the part in rows.",
            )  # fmt: skip
        start = _row(self.start, total) if self.start else 0
        stop = _row(self.stop, total) if self.stop else None
        return islice(enumerate(stream, 1), start, None if stop is None else max(start, stop))


def _row(bound: str, total: int | None) -> int:
    """The number of rows before a bound."""
    value = int(bound.removesuffix("%"))
    if bound.endswith("%"):
        value = round(value * total / 100)
    return min(max(value + total, 0), total) if value < 0 else value
