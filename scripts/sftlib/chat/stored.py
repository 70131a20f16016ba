"""Processed splits, read back: conversations, or the rendered pairs of `make render`.

    read_split("data/processed/train.jsonl")  ->  StoredSplit(path, "conversations", [Conversation(...), ...])
    read_split("data/rendered/train.jsonl")   ->  StoredSplit(path, "rendered", [RenderedPair(...), ...])
    split_rows("data/processed/train.jsonl")  ->  Conversation(...), ... one at a time, for splits of any size

Files written by hand are welcome in the same two forms; `source` may be left out. Nothing is repaired or left out here:
that is the business of `make process`, and a row that would need it is an error with its line.
Worst bug: a row that is skipped (tests/chat/test_stored.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError
from ..files import numbered_lines
from .cleaning import clean
from .conversation import Conversation, named_set
from .rows import TOO_DEEP, RowError, is_too_deep, may_be_too_deep

FORMS = '{"system", "user", "assistant"}, {"messages": [...]}, or {"input", "target"}'


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """The prompt as the model sees it, and the text that it is to produce."""

    input: str
    target: str
    source: str
    dataset: str = ""


Row = Conversation | RenderedPair


@dataclass(frozen=True)
class StoredSplit:
    """One split: its kind says whether `rows` are conversations or rendered pairs."""

    path: Path
    kind: Literal["conversations", "rendered"]
    rows: list[Conversation] | list[RenderedPair]

    def __len__(self) -> int:
        return len(self.rows)


def read_split(path: str | Path) -> StoredSplit:
    """The rows of a split, in memory. DataError when it is missing, empty or broken."""
    path = Path(path)
    rows = list(split_rows(path))
    return StoredSplit(path, "rendered" if isinstance(rows[0], RenderedPair) else "conversations", rows)  # type: ignore[arg-type]


def split_rows(path: Path) -> Iterator[Row]:
    """The rows of a split one at a time, all of one kind. DataError when it is missing, empty or broken."""
    first: Row | None = None
    for row in iterate_split(path):
        if first is None:
            first = row
        elif type(row) is not type(first):
            raise DataError(
                "The split mixes conversations and rendered pairs; the first of the other kind came from "
                f"{row.source}.",
                where=str(path),
                cure="Keep them in two files.",
            )
        yield row
    if first is None:
        raise DataError(
            "The split holds no rows.",
            where=str(path),
            expected="one row or more",
            cure="Add raw data, or give this split a larger share (data.split.*), and run: make process",
            code="E302",
        )


def require_split(path: Path) -> Path:
    """The path itself. DataError when there is no file."""
    if not path.is_file():
        raise DataError("The split is missing.", where=str(path), cure=f"Make it with: {_target_of(path)}", code="E301")
    return path


def iterate_split(path: Path) -> Iterator[Row]:
    """The rows of a split one at a time; of an empty one, none."""
    name, number = path.as_posix(), 0
    try:
        for number, line in numbered_lines(require_split(path)):
            yield stored_row(line, f"{name}:{number}")
    except UnicodeDecodeError as error:
        raise DataError(
            f"Byte 0x{error.object[error.start]:02x} after line {number} is not UTF-8.",
            where=str(path),
            cure=f"Make the file again with: {_target_of(path)}",
            code="E303",
        ) from None


def stored_row(line: str, where: str) -> Row:
    """The row of a line of a split. DataError when it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"The line is not valid JSON: {error}", where=where, cure="Repair it, or run: make process", code="E303"
        ) from None
    if not isinstance(row, dict):
        raise _not_a_row("it is no object", where)
    if may_be_too_deep(line) and is_too_deep(row):
        raise _not_a_row(TOO_DEEP, where)
    row.setdefault("source", where)
    if "input" in row and "target" in row:
        return _pair(row, where)
    try:
        conversation = Conversation.from_row(row)
        _, changes = clean(conversation)
    except KeyError as error:
        raise _not_a_row(f"it has {', '.join(map(repr, row))} but not {error}", where) from None
    except (TypeError, ValueError, AttributeError, RowError) as error:
        raise _not_a_row(str(error), where) from None
    if changes:
        raise _not_a_row(f"it would have to be repaired first ({', '.join(changes)})", where)
    return conversation


def _pair(row: dict[str, Any], where: str) -> RenderedPair:
    if not all(isinstance(row[key], str) for key in ("input", "target", "source")):
        raise _not_a_row("input and target must be texts", where)
    if not row["target"].strip():
        raise _not_a_row("the target is empty", where)
    try:
        return RenderedPair(row["input"], row["target"], row["source"], named_set(row))
    except TypeError as error:
        raise _not_a_row(str(error), where) from None


def _not_a_row(why: str, where: str) -> DataError:
    return DataError(
        f"This is not a processed row: {why}.",
        where=where,
        expected=FORMS,
        cure="Raw data of other shapes goes through: make process",
        code="E303",
    )


def _target_of(path: Path) -> str:
    """The make target that writes this file."""
    folder = path.parent.name
    if "style" in folder:
        return 'make style STYLE="..."'
    return "make render" if "rendered" in folder else "make process"
