"""Replies that were paid for once, on the disk: asked for again, they cost nothing, and a kill loses none.

    with AnswerStore("outputs/answers.sqlite") as store:
        store.put(key, Reply("Ahoy!", "stop"))
        store.get(key)                              ->  Reply("Ahoy!", "stop"), or None

SQLite, one row a reply, committed as it comes. Keys and replies only: no address, no key of anybody, no question.
Worst bug: a reply lost by a kill (tests/chat/augmentation/test_answers.py).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType

from ...errors import MachineError
from .rewriting import Reply

WAIT = 30  # seconds for another process that is writing


class AnswerStore:
    """Replies by the key of their request. For one thread; several processes may share the file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> AnswerStore:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._data = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            self._data.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT, finish TEXT)")
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._data.close()

    def get(self, key: str) -> Reply | None:
        """The reply to this request, None when there is none."""
        try:
            row = self._data.execute("SELECT text, finish FROM replies WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        return Reply(*row) if row else None

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; it is on the disk when this returns."""
        try:
            self._data.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", (key, reply.text, reply.finish))
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def _unusable(self, error: sqlite3.Error) -> MachineError:
        return MachineError(
            f"The store of answers cannot be used: {error}.", where=str(self.path),
            cure="Look at free space and permissions there. A damaged file can be deleted: it is asked for again.",
        )  # fmt: skip
