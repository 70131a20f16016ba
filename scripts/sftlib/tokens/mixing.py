"""Several data sets as one: how often each example of each is seen in a pass, and a table of that.

In: an `ExampleTable` a data set, by its name, and what the config says of its share. Out: a `MixedTable`, which holds
row numbers only; the examples stay where they lie. Shares are exact to one example. Which rows are taken is seeded by
the name of their data set alone: another one beside it changes how many these are, not which come first.

    faq 3 rows, weight 1; sums 90 rows, weight 2    ->  Share(rows=3, taken=3), Share(rows=90, taken=6)

The order is a seeded shuffle. Splits that are measured are joined whole, in order: `join_tables`.
Worst bug: a share that is not the one that was asked for (tests/tokens/test_mixing.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from ..chat.shares import counts_of, take
from ..config.schema import DatasetSection, MixingSection
from .examples import Example
from .table import COUNTS, ExampleTable


@dataclass(frozen=True, slots=True)
class Share:
    """Of one data set: the examples there are, those that max_rows leaves, those that a pass takes, and their sums."""

    rows: int
    chosen: int
    taken: int
    tokens: int
    supervised: int


class MixedTable(Sequence[Example]):
    """Examples of several tables; all arrays have one number a row, as those of an `ExampleTable`.

    set_names: of the data sets. set_of: the number of each row's in them.
    """

    def __init__(self, tables: Mapping[str, ExampleTable], taken: Mapping[str, np.ndarray], order: np.ndarray) -> None:
        """taken: row numbers of each table. order: a permutation of all that is taken."""
        self.set_names = list(tables)
        self._tables = list(tables.values())
        rows = [taken[name] for name in self.set_names]
        self._rows = np.concatenate([*rows, np.zeros(0, np.int64)])[order]
        self.set_of = np.repeat(np.arange(len(rows), dtype=np.int16), [len(some) for some in rows])[order]
        for column in ("lengths", "supervised", *COUNTS):
            values = [getattr(table, column)[some] for table, some in zip(self._tables, rows, strict=True)]
            setattr(self, column, np.concatenate([*values, np.zeros(0, np.int64)])[order])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """One example, or a list of some; each is made anew."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        return self._tables[self.set_of[index]][int(self._rows[index])]

    def __iter__(self) -> Iterator[Example]:
        return (self[row] for row in range(len(self)))

    def name_of(self, row: int) -> str:
        """The data set that a row came from."""
        return self.set_names[self.set_of[row]]


def mix(
    tables: Mapping[str, ExampleTable], sets: Mapping[str, DatasetSection], mixing: MixingSection, seed: int
) -> tuple[MixedTable, dict[str, Share]]:
    """One pass over the data sets, shuffled, and the share of each."""
    chosen: dict[str, np.ndarray] = {}
    available: dict[str, int] = {}
    for name, table in tables.items():
        most = min(len(table), sets[name].max_rows or len(table))
        chosen[name] = take(len(table), most, seed, f"{name}/max_rows")
        available[name] = max(1, round(most * sets[name].repeat)) if most else 0
    given = {name: sets[name].weight for name in tables}
    weights = {name: weight or 1.0 for name, weight in given.items()} if any(given.values()) else None
    counts = counts_of(available, weights=weights, temperature=mixing.temperature, rows=mixing.rows)
    taken = {name: chosen[name][take(len(chosen[name]), count, seed, name)] for name, count in counts.items()}
    order = np.random.RandomState(seed).permutation(sum(map(len, taken.values())))  # the same in all versions of numpy
    mixed = MixedTable(tables, taken, order)
    return mixed, {name: _share(tables[name], chosen[name], rows) for name, rows in taken.items()}


def join_tables(tables: Mapping[str, ExampleTable]) -> tuple[MixedTable, dict[str, Share]]:
    """Every example once, in order."""
    whole = {name: np.arange(len(table)) for name, table in tables.items()}
    joined = MixedTable(tables, whole, np.arange(sum(map(len, tables.values()))))
    return joined, {name: _share(tables[name], rows, rows) for name, rows in whole.items()}


def _share(table: ExampleTable, chosen: np.ndarray, taken: np.ndarray) -> Share:
    sums = (int(column[taken].sum()) for column in (table.lengths, table.supervised))
    return Share(len(table), len(chosen), len(taken), *sums)
