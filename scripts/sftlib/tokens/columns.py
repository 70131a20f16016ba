"""Some examples as columns of numbers: how they come from the tokenizer and go to the disk, without an object a token.

    Columns.of([Example([5, 6, 2], [-100, 6, 2], "a:1"), Example([7], [-100], "a:2")])
    ids      5 6 2 7        starts  0 3 4       sources  a:1 a:2
    trained  F T T F

Worst bug: a token that is counted to the neighbouring row (tests/tokens/test_columns.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .examples import IGNORED, Example

ROWS = 1000  # rows of one `Columns`, but the last: enough for a tokenizer's threads, some hundred kilobytes on the disk


@dataclass(slots=True)
class Columns:
    """T tokens of B rows.

    ids_T. trained_T: whether a label counts. starts: B + 1 places in them. The others: a value a row, as in `Example`.
    """

    ids: np.ndarray
    trained: np.ndarray
    starts: np.ndarray
    sources: list[str]
    is_complete: np.ndarray
    straddling: np.ndarray
    stray_ends: np.ndarray
    decoder_at: np.ndarray

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Columns:
        """The columns of these examples."""
        starts = places(len(one.input_ids) for one in examples)
        ids = joined((one.input_ids for one in examples), starts[-1])
        labels = joined((one.labels for one in examples), starts[-1])
        trained = labels != IGNORED
        assert np.array_equal(ids[trained], labels[trained]), "a label that is another token"
        counts = (
            np.fromiter((getattr(one, name) for one in examples), np.int32, count=len(examples))
            for name in ("straddling", "stray_ends", "decoder_at")
        )
        is_complete = np.fromiter((one.is_complete for one in examples), np.bool_, count=len(examples))
        return cls(ids, trained, starts, [one.source for one in examples], is_complete, *counts)

    def __len__(self) -> int:
        return len(self.sources)

    def rows(self, first: int, past: int) -> Columns:
        """Some rows of these; their numbers are not copied."""
        begin, end = self.starts[first], self.starts[past]
        counts = (getattr(self, name)[first:past] for name in ("is_complete", "straddling", "stray_ends", "decoder_at"))
        starts = self.starts[first : past + 1] - begin
        return Columns(self.ids[begin:end], self.trained[begin:end], starts, self.sources[first:past], *counts)

    def examples(self) -> Iterator[Example]:
        """An example a row."""
        labels = np.where(self.trained, self.ids, IGNORED)
        for row, source in enumerate(self.sources):
            own = slice(self.starts[row], self.starts[row + 1])
            yield Example(
                self.ids[own].tolist(), labels[own].tolist(), source, bool(self.is_complete[row]),
                int(self.straddling[row]), int(self.stray_ends[row]), int(self.decoder_at[row]),
            )  # fmt: skip

    def replace(self, row: int, example: Example) -> None:
        """The labels of a row as this example of it has them."""
        own = slice(self.starts[row], self.starts[row + 1])
        assert example.input_ids == self.ids[own].tolist(), "an example of other tokens"
        self.trained[own] = [label != IGNORED for label in example.labels]
        self.straddling[row], self.stray_ends[row] = example.straddling, example.stray_ends


def in_columns(examples: Iterable[Example]) -> Iterator[Columns]:
    """Examples one after another, ROWS at a time."""
    rest = iter(examples)
    while some := list(itertools.islice(rest, ROWS)):
        yield Columns.of(some)


def rebatched(parts: Iterable[Columns]) -> Iterator[Columns]:
    """The same rows, ROWS at a time, from parts of any size."""
    held: list[Columns] = []
    for part in parts:
        if not held and len(part) == ROWS:
            yield part
            continue
        held.append(part)
        if sum(map(len, held)) < ROWS:
            continue
        whole = _end_to_end(held)
        full = len(whole) - len(whole) % ROWS
        for first in range(0, full, ROWS):
            yield whole.rows(first, first + ROWS)
        held = [whole.rows(full, len(whole))] if len(whole) > full else []
    if any(map(len, held)):
        yield _end_to_end(held)


def _end_to_end(parts: Sequence[Columns]) -> Columns:
    lengths = np.concatenate([np.diff(part.starts) for part in parts])
    one_after_another = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("ids", "trained", "is_complete", "straddling", "stray_ends", "decoder_at")
    )
    ids, trained, *others = one_after_another
    return Columns(ids, trained, places(lengths), [source for part in parts for source in part.sources], *others)


def places(lengths: Iterable[int]) -> np.ndarray:
    """Where each row begins and the last ends."""
    return np.fromiter(itertools.accumulate(lengths, initial=0), np.int32)


def joined(lists: Iterable[Sequence[int]], count: int) -> np.ndarray:
    """The numbers of all lists, one after another."""
    return np.fromiter(itertools.chain.from_iterable(lists), np.int32, count=count)
