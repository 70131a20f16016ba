"""Which split a conversation goes to: seeded, exact in its shares, and without rows of one kind in two of them.

Rows that belong together go to one split. They do when they ask the same (questions.py), when they are near duplicates
(near_duplicates.py), and when they are equal in data.group_by; what belongs to one of them belongs to all. How the
groups are dealt out stands in dealing.py: by a keyed hash of what they ask, so that neither the order of the rows nor
that of the files matters, and a row that comes moves others only next to it.

Several data sets are dealt out one after another, each exact in its own shares. A row that belongs to rows of an
earlier set goes where they are; where these lie in two splits it is left out. A set therefore changes nothing in those
before it, and may be added at the end at any time.

Rows that are equal to the letter are kept once. All this is held on the disk, in SQLite; the memory takes some 300
bytes a row, those of near_duplicates.py included.

    with SplitTable(seed=42, near_duplicates=0.8) as table:
        table.add(conversation, rank=0)             ->  None, or the source of the first equal one
        table.assign({"train": 0.8, "val": 0.1, "test": 0.1}, [""])       ->  [Dealt(...)], one for each data set
        list(table.rows())                          ->  [StoredRow("train", '{"system": ...}\\n', ...), ...]
        list(table.left_out())                      ->  [LeftOut(source, ["train", "val"], line), ...]

Worst bug: one question in two splits (tests/chat/test_splitting.py).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from ..errors import MachineError
from ..files import json_line
from .conversation import Conversation
from .dealing import ANYWHERE, SPLITS, deal, row_targets
from .groups import Groups
from .near_duplicates import NearDuplicates, Pair
from .questions import asked, common_above, spoken

if TYPE_CHECKING:
    import numpy as np

SAME, NEAR, FIELD = 1, 2, 4  # why rows belong together: they ask the same, are near duplicates, are equal in a field
LEFT_OUT = 255
LARGE_SHARE, LARGE_ROWS = 0.2, 10  # a group with more rows than both holds what should be in several splits

_SCHEMA = """
    CREATE TABLE conversations (
        number INTEGER PRIMARY KEY, identity BLOB UNIQUE, opening BLOB, prompt BLOB, source TEXT, line TEXT
    );
    CREATE TABLE fields (value BLOB, number INTEGER);
    CREATE TEMP TABLE common (opening BLOB PRIMARY KEY);
"""
_QUESTIONS = """
    SELECT CASE WHEN opening IN (SELECT opening FROM common) THEN prompt ELSE opening END AS question, number
    FROM conversations WHERE number < ? ORDER BY question, number
"""
_FIELDS = "SELECT value, number FROM fields WHERE number < ? ORDER BY value, number"


class StoredRow(NamedTuple):
    """A row on its way into a split's file."""

    split: str
    line: str
    rank: int


class LeftOut(NamedTuple):
    """A row that belongs to rows of two splits."""

    source: str
    splits: list[str]
    line: str


@dataclass(frozen=True)
class LargeGroup:
    """Rows of which many belong together: how many, mostly why (SAME, NEAR, FIELD), and two of them."""

    rows: int
    why: int
    example: tuple[str, str]


@dataclass
class Dealt:
    """What became of the groups of one data set. `follow` are the rows that went where rows of earlier sets are."""

    rows: int = 0
    groups: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    near_groups: int = 0
    near_rows: int = 0
    follow: int = 0
    left_out: int = 0
    large: list[LargeGroup] = field(default_factory=list)


class SplitTable:
    """Conversations on the disk, on their way to their splits. SQLite deletes its unnamed file by itself."""

    def __init__(self, seed: int, near_duplicates: float | None = None) -> None:
        self._key = seed.to_bytes(8, "big")
        self._near = NearDuplicates(near_duplicates) if near_duplicates is not None else None
        self._ends: list[int] = []  # of the data sets: the number behind the last row of each
        self._splits, self._met = bytearray(), bytearray()

    def __enter__(self) -> SplitTable:
        self._data = sqlite3.connect("")
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-16384"):
            self._data.execute(f"PRAGMA {pragma}")
        self._data.executescript(_SCHEMA)
        if self._near is not None:
            self._near.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._data.close()
        if self._near is not None:
            self._near.__exit__(kind, error, at)
        if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
            raise MachineError(
                "The disk is full.",
                where="the folder of temporary files",
                expected="as much free space as the raw data takes",
                cure="Free some space, or set TMPDIR to a folder on a larger disk.",
            ) from error

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def add(self, conversation: Conversation, rank: int = 0, value: str | None = None) -> str | None:
        """Take a conversation in; if an equal one is there already, leave it out and say where that one came from.

        rank: of its data set; sets come one after another. value: what data.group_by holds.
        """
        while len(self._ends) <= rank:
            self._ends.append(len(self))
        opening, prompt = asked(conversation.messages)
        identity, number = (
            self._digest(json.dumps([one.to_stored() for one in conversation.messages], sort_keys=True)),
            len(self),
        )
        line = json_line(conversation.to_row())
        added = self._data.execute(
            "INSERT INTO conversations VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (number, identity, self._digest(opening), self._digest(prompt), conversation.source, line),
        )
        first = None
        if added.rowcount:
            self._ends[rank] += 1
            if self._near is not None:
                self._near.add(spoken(conversation.messages), rank)
        else:
            query = "SELECT number, source FROM conversations WHERE identity = ?"
            number, first = self._data.execute(query, (identity,)).fetchone()
        if value is not None and number >= self._start(rank):
            self._data.execute("INSERT INTO fields VALUES (?, ?)", (self._digest(value), number))
        return first

    def assign(self, shares: Mapping[str, float], names: Sequence[str]) -> list[Dealt]:
        """Decide the splits of every data set. DataError when too many rows are asked for to evaluate on."""
        near = groupby(self._near.pairs() if self._near is not None else (), key=lambda pair: self._rank(pair.second))
        found, pairs = next(near, (None, ()))
        dealt = []
        for rank, name in enumerate(names):
            while len(self._ends) <= rank:
                self._ends.append(len(self))
            of_rank = _SetOfRows(self._start(rank), self._ends[rank])
            self._find_common(of_rank)
            self._join_equal(_QUESTIONS, of_rank, SAME)
            self._join_equal(_FIELDS, of_rank, FIELD)
            if found == rank:
                self._join_near(pairs, of_rank)
                found, pairs = next(near, (None, ()))
            splits, one = of_rank.deal(shares, name)
            one.large = list(self._large(of_rank))
            self._splits += splits.tobytes()
            self._met += of_rank.met
            dealt.append(one)
        return dealt

    def rows(self) -> Iterator[StoredRow]:
        """Every conversation that is in a split, in the order of `add`."""
        rank = 0
        for number, line in self._data.execute("SELECT number, line FROM conversations ORDER BY number"):
            while number >= self._ends[rank]:
                rank += 1
            if self._splits[number] != LEFT_OUT:
                yield StoredRow(SPLITS[self._splits[number]], line, rank)

    def left_out(self) -> Iterator[LeftOut]:
        """Every conversation that is in none."""
        for number, split in enumerate(self._splits):
            if split == LEFT_OUT:
                source, line = self._data.execute(
                    "SELECT source, line FROM conversations WHERE number = ?", (number,)
                ).fetchone()
                yield LeftOut(source, [name for at, name in enumerate(SPLITS) if self._met[number] >> at & 1], line)

    def _find_common(self, of_rank: _SetOfRows) -> None:
        """Note the openings that say nothing: common in this set, or in all so far."""
        for start in {of_rank.start, 0}:
            self._data.execute(
                "INSERT OR IGNORE INTO common SELECT opening FROM conversations WHERE number >= ? AND number < ? "
                "GROUP BY opening HAVING count(*) > ?",
                (start, of_rank.end, common_above(of_rank.end - start)),
            )

    def _join_equal(self, query: str, of_rank: _SetOfRows, why: int) -> None:
        """Join the rows whose keys are equal; those of earlier sets, which come first, say where they lie."""
        before: bytes | None = None
        met, mate = 0, -1
        for key, number in self._data.execute(query, (of_rank.end,)):
            if key != before:
                before, met, mate = key, 0, -1
            if number < of_rank.start:
                met |= self._place(number)
                continue
            row = number - of_rank.start
            of_rank.met[row] |= met
            if why == SAME:
                of_rank.keys[row] = int.from_bytes(key[:8], "big")
            if mate >= 0:
                of_rank.join(mate, row, why)
            mate = row

    def _join_near(self, pairs: Iterator[Pair], of_rank: _SetOfRows) -> None:
        for first, second, _ in pairs:
            row = second - of_rank.start
            if first < of_rank.start:
                of_rank.met[row] |= self._place(first)
            else:
                of_rank.join(first - of_rank.start, row, NEAR)

    def _large(self, of_rank: _SetOfRows) -> Iterator[LargeGroup]:
        for rows, why, example in of_rank.large():
            query = "SELECT source FROM conversations WHERE number = ?"
            first, second = (self._data.execute(query, (of_rank.start + row,)).fetchone()[0] for row in example)
            yield LargeGroup(rows, why, (first, second))

    def _place(self, number: int) -> int:
        """The split of an earlier row, as one bit; 0 when it is in none."""
        split = self._splits[number]
        return 0 if split == LEFT_OUT else 1 << split

    def _start(self, rank: int) -> int:
        return self._ends[rank - 1] if rank else 0

    def _rank(self, number: int) -> int:
        return next(rank for rank, end in enumerate(self._ends) if number < end)

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8"), digest_size=16, key=self._key).digest()


class _SetOfRows:
    """The rows of one data set by their places in it: who belongs to whom, and to which splits of earlier sets.

    met: the splits of earlier rows that a row belongs to, a bit each. keys: what decides the order of the groups.
    """

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.met, self.keys = bytearray(end - start), array("Q", bytes(8 * (end - start)))
        self._groups, self._why = Groups(end - start), bytearray(end - start)
        self._mates = array("I", range(end - start))  # the row that one was last joined with

    def join(self, one: int, other: int, why: int) -> None:
        """Put two rows into one group."""
        self._why[one] |= why if why == NEAR else 0
        self._why[other] |= why
        self._mates[other] = one
        self._groups.join(one, other)

    def deal(self, shares: Mapping[str, float], name: str) -> tuple[np.ndarray, Dealt]:
        """The split of each row, LEFT_OUT where it belongs to two, and the counts."""
        import numpy as np

        met = np.frombuffer(self.met, np.uint8)
        _, of = np.unique(self._groups.roots(), return_inverse=True)
        count = int(of.max()) + 1 if len(of) else 0
        bound = np.stack([np.bincount(of, met == 1 << place, minlength=count) for place in range(len(SPLITS))])
        follows = np.where(bound.any(axis=0), bound.argmax(axis=0), ANYWHERE)
        out = (met > 0) & (met != 1 << np.maximum(follows[of], 0))
        keys = np.full(count, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(keys, of, np.frombuffer(self.keys, np.uint64))
        sizes = np.bincount(of, ~out, minlength=count).astype(np.int64)
        there = np.flatnonzero(sizes)
        of_group = np.zeros(count, np.int64)
        if len(there):
            targets = row_targets(int(sizes.sum()), shares, name)
            of_group[there] = deal(keys[there], sizes[there], follows[there], targets)
        splits = np.where(out, LEFT_OUT, of_group[of]).astype(np.uint8)
        is_near = np.frombuffer(self._why, np.uint8) & NEAR > 0
        one = Dealt(
            rows=int(sizes.sum()),
            groups={split: int((of_group[there] == place).sum()) for place, split in enumerate(SPLITS)},
            near_groups=len(np.unique(of[is_near])), near_rows=int(is_near.sum()),
            follow=int(sizes[follows != ANYWHERE].sum()), left_out=int(out.sum()),
        )  # fmt: skip
        return splits, one

    def large(self) -> Iterator[tuple[int, int, tuple[int, int]]]:
        """Groups of more rows than is good: their size, mostly why, and two rows that belong together for it."""
        import numpy as np

        roots, sizes = np.unique(self._groups.roots(), return_counts=True)
        why = np.frombuffer(self._why, np.uint8)
        for root in roots[sizes > max(LARGE_ROWS, LARGE_SHARE * (self.end - self.start))]:
            rows = np.flatnonzero(self._groups.roots() == root)
            reason = max((NEAR, FIELD, SAME), key=lambda one: int((why[rows] & one > 0).sum()))
            joined = [*rows[why[rows] == reason].tolist(), *rows.tolist()]
            row = next(row for row in joined if self._mates[row] != row)
            yield len(rows), reason, (self._mates[row], row)
