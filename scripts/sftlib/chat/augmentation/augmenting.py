"""A file of rows to a file of more and other rows: read, understood, cleaned, augmented, accounted for.

In: raw sources of any known shape, and the operations. Out: JSON Lines of conversations as `make process` stores them,
whole or not at all, and the report of what became of every row.

    {"system": "Be brief.", "user": "2+2?", "assistant": "4", "source": "faq.csv:17", "augmented": ["system"]}

`source` (and `dataset`) is the row's own where it is a stored row, else its file and line; copies share it.
`augmented` names the operations that changed the row and is not read by anything: to `make process` it is a field like
others.
Worst bug: a row that disappears (tests/chat/augmentation/test_augmenting.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from ... import console
from ...errors import DataError
from ...files import json_line, whole_file
from ...units import percent
from ..cleaning import clean
from ..conversation import Conversation
from ..formats import detect, to_conversation
from ..provenance import LINE, row_of
from ..readers import Source
from ..rows import RawRow, Rejected, RowError, clip
from .answers import AnswerStore
from .asking import FAILED, NOT_ASKED, Asked, from_store, gather
from .chance import Chance
from .endpoint import Endpoint
from .guard import OWN, TABLE_ROWS, guarded, is_fit, table_rows
from .operations import Augmented, Counts, Operations, augmented

EXAMPLES = 3  # rejected rows that are named


@dataclass
class AugmentReport:
    """What became of the rows."""

    read: int = 0
    rejected: dict[str, int] = field(default_factory=dict)  # reason -> rows
    examples: list[str] = field(default_factory=list)
    left_out: int = 0  # for their tags
    copies: int = 0
    guards: int = 0
    written: int = 0
    operations: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # operation -> what -> rows
    asked: Asked | None = None

    @property
    def kept(self) -> int:
        """Rows that could be used."""
        return self.read - sum(self.rejected.values())


def conversations(sources: Sequence[Source], columns: Mapping[str, str]) -> Iterator[Conversation | Rejected]:
    """Every row, understood and cleaned, or why it cannot be used."""
    for source in sources:
        for row in source.read(None):
            yield row if isinstance(row, Rejected) else _understood(row, columns)


def augment_rows(
    asked: Operations, out: Path, *, sources: Sequence[Source], columns: Mapping[str, str], max_rejected: float,
    store: AnswerStore | None = None, endpoint: Endpoint | None = None, limit: int | None = None,
    max_failed: float = 0.05,
) -> AugmentReport:  # fmt: skip
    """Write `out`. store: of replies, where there is a style; endpoint: None where the network is forbidden."""

    def usable() -> Iterator[Conversation]:
        return (row for row in conversations(sources, columns) if isinstance(row, Conversation))

    def rewrite(conversation: Conversation) -> tuple[Conversation, str | None]:
        changed, why = from_store(conversation, asked.style, store)
        return changed, NOT_ASKED if why == FAILED and report.asked.left and not report.asked.failed else why

    report, counts = AugmentReport(), Counts()
    _count_rejected(conversations(sources, columns), report, max_rejected)
    if asked.style:
        report.asked = gather(usable, asked, store, endpoint, limit, max_failed)
    with whole_file(out) as stream:
        guards = _Guards(asked.guard, asked.seed)
        for row in console.progress(usable(), "augmenting", report.kept):
            made = augmented(row, asked, rewrite, counts)
            report.left_out += not made
            report.copies += max(len(made) - 1, 0)
            for one in made:
                _write(stream, one, report)
            if made:
                guards.offer(made[0])
        for one in guards.rows():
            _write(stream, one, report)
            report.guards += 1
        if not report.written:
            raise DataError("Not one row would be left.", where=str(out), cure="Take --tags remove rather than drop.")
    report.operations = counts.by
    return report


class _Guards:
    """The rows of the output that guard rows are made of: those that rank first, and no more of them in memory."""

    def __init__(self, count: int, seed: int) -> None:
        self._table = min(TABLE_ROWS, count - count * OWN // (OWN + 1))
        self._most, self._seed, self._seen = count - self._table, seed, 0
        self._best: list[tuple[int, int, Augmented]] = []

    def offer(self, row: Augmented) -> None:
        if self._most and is_fit(row.conversation):
            self._seen += 1
            rank = Chance(self._seed, row.conversation.to_dicts()).rank("guard")
            keep = heapq.heappush if len(self._best) < self._most else heapq.heappushpop
            keep(self._best, (-rank, -self._seen, row))

    def rows(self) -> Iterator[Augmented]:
        for _, _, row in sorted(self._best, reverse=True):
            chance = Chance(self._seed, row.conversation.to_dicts())
            yield replace(row, conversation=guarded(row.conversation, chance), done=(*row.done, "guard"))
        order = Chance(self._seed, "table").order("guard", TABLE_ROWS)
        for conversation in table_rows(order[: self._table]):
            yield Augmented(conversation, ("guard",))


def _count_rejected(rows: Iterable[Conversation | Rejected], report: AugmentReport, allowed: float) -> None:
    """Read everything once, before anything is asked for or written. DataError when too much of it cannot be used."""
    for row in console.progress(rows, "reading"):
        report.read += 1
        if isinstance(row, Rejected):
            report.rejected[row.reason] = report.rejected.get(row.reason, 0) + 1
            if len(report.examples) < EXAMPLES:
                report.examples.append(clip(f"{row.source}: {row.reason}: {row.detail}"))
    lost = report.read - report.kept
    if not report.read:
        raise DataError("There are no rows to augment.", cure="Name files that hold some.")
    if not report.kept or lost > allowed * report.read:
        raise DataError(
            f"{lost} of {report.read} rows cannot be used, such as {'; '.join(report.examples)}",
            expected=f"at most {percent(allowed, 1)} (data.max_rejected), and one usable row or more",
            cure="Repair them, name your columns (--set data.columns.user=...), or raise data.max_rejected.",
        )


def _understood(row: RawRow, columns: Mapping[str, str]) -> Conversation | Rejected:
    said, name = row.value.get("source"), row.value.get("dataset")
    is_stored = isinstance(said, str) and LINE.search(row_of(said)) is not None
    source = said if is_stored else row.source
    dataset = name if is_stored and isinstance(name, str) else ""
    try:
        return clean(to_conversation(row.value, detect(row.value, columns), source, dataset))[0]
    except RowError as error:
        return Rejected(row.source, error.reason, error.detail, "")


def _write(stream: IO[str], row: Augmented, report: AugmentReport) -> None:
    stored: dict[str, Any] = row.conversation.to_row()
    stream.write(json_line(stored | ({"augmented": list(row.done)} if row.done else {})))
    report.written += 1
