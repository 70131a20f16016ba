"""Which split a conversation goes to: seeded, exact in its shares, and without the same question in two of them.

Rows that ask the same belong to one group, and a group goes to one split as a whole. Two rows ask the same when their
first user messages are equal after folding case and white space (and composing Unicode, NFC); the system message does
not count. A first message that more than 1 % of the rows share (at least 10, "Hi", "Summarise this.") says nothing;
there the whole prompt decides: system and all turns before the last answer.

The groups are ordered by a keyed hash of what they ask. The first 80 % of them train, the next 10 % validate, the rest
test, by largest remainder, so shares are exact to one group at any size. Neither the order of the rows nor that of the
files matters; a new group moves at most one other across each border. (A fixed threshold on the hash would move none,
but misses the shares of small sets by several percent.) Every split with a share gets a group while there are enough,
train first, then val, then test: 1 row trains; 2 are train 1, val 1; 5 are 3, 1, 1.

Rows that are equal to the letter are kept once. All this is held on the disk, in SQLite, so memory does not grow with
the data.

    with SplitTable(seed=42) as table:
        table.add(conversation)                     ->  None, or the source of the first equal one
        table.assign({"train": 0.8, "val": 0.1, "test": 0.1})
        list(table.rows())                          ->  [("train", '{"system": ...}\\n'), ...] in the order of add

Worst bug: one question in two splits (tests/chat/test_splitting.py).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from types import TracebackType

from ..errors import MachineError
from ..files import json_line
from .conversation import Conversation
from .questions import asked, common_above

SPLITS = ("train", "val", "test")

_SCHEMA = """
    CREATE TABLE conversations (
        number INTEGER PRIMARY KEY, identity BLOB UNIQUE, opening BLOB, question BLOB, source TEXT, line TEXT
    )
"""


def split_counts(groups: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many groups each split gets: largest remainder, then at least one each while there are enough."""
    counts = {name: int(groups * share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: groups * shares[name] - counts[name], reverse=True)
    for name in by_remainder[: groups - sum(counts.values())]:
        counts[name] += 1
    served = [name for name, share in shares.items() if share > 0][:groups]
    for name in served:
        if counts[name] == 0:
            giver = max(counts, key=lambda other: counts[other] - (other in served))
            counts[name], counts[giver] = 1, counts[giver] - 1
    return counts


class SplitTable:
    """Conversations on the disk, on their way to their splits. SQLite deletes its unnamed file by itself."""

    def __init__(self, seed: int) -> None:
        self._key = seed.to_bytes(8, "big")
        self._borders: list[tuple[str, bytes | None]] = []

    def __enter__(self) -> SplitTable:
        self._data = sqlite3.connect("")
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-16384"):
            self._data.execute(f"PRAGMA {pragma}")
        self._data.execute(_SCHEMA)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._data.close()
        if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
            raise MachineError(
                "The disk is full.",
                where="the folder of temporary files",
                expected="as much free space as the raw data takes",
                cure="Free some space, or set TMPDIR to a folder on a larger disk.",
            ) from error

    def add(self, conversation: Conversation) -> str | None:
        """Take a conversation in; if an equal one is there already, leave it out and say where that one came from."""
        opening, prompt = asked(conversation.messages)
        row = (
            self._digest(json.dumps(conversation.to_dicts(), sort_keys=True)),
            self._digest(opening),
            self._digest(prompt),
            conversation.source,
            json_line(conversation.to_row()),
        )
        added = self._data.execute(
            "INSERT INTO conversations (identity, opening, question, source, line) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            row,
        )
        if added.rowcount:
            return None
        return self._one("SELECT source FROM conversations WHERE identity = ?", row[0])

    def assign(self, shares: Mapping[str, float]) -> dict[str, int]:
        """Decide the splits; the number of groups (different questions) in each."""
        rows = self._one("SELECT count(*) FROM conversations")
        self._data.execute("CREATE INDEX openings ON conversations (opening)")
        self._data.execute("CREATE TEMP TABLE common (opening BLOB PRIMARY KEY)")
        self._data.execute(
            "INSERT INTO common SELECT opening FROM conversations GROUP BY opening HAVING count(*) > ?",
            (common_above(rows),),
        )
        # From here on `question` is the group: the opening, or the whole prompt where the opening says nothing.
        self._data.execute(
            "UPDATE conversations SET question = opening WHERE opening NOT IN (SELECT opening FROM common)"
        )
        self._data.execute("CREATE INDEX questions ON conversations (question)")
        groups = self._one("SELECT count(*) FROM (SELECT question FROM conversations GROUP BY question)")
        counts = split_counts(groups, shares)
        self._borders, reached = [], 0
        for name, count in counts.items():
            reached += count
            border = self._one(
                "SELECT question FROM conversations GROUP BY question ORDER BY question LIMIT 1 OFFSET ?", reached
            )
            self._borders.append((name, border))
        return counts

    def rows(self) -> Iterator[tuple[str, str]]:
        """(split, stored line) of every conversation, in the order of `add`."""
        for question, line in self._data.execute("SELECT question, line FROM conversations ORDER BY number"):
            yield next(name for name, border in self._borders if border is None or question < border), line

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8"), digest_size=16, key=self._key).digest()

    def _one(self, query: str, *values: object) -> object:
        row = self._data.execute(query, values).fetchone()
        return row[0] if row else None
