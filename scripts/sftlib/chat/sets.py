"""The data sets of a split's file: where the rows of each stand, and what they hash to.

Rows of one data set stand together, in the order of the config; a file written by hand may have them in any order.

    sets_of("data/processed/train.jsonl")  ->  [SetRows("faq", digest, rows=80), SetRows("sums", digest, rows=12)]
    set_rows(path, sets_of(path)[0])       ->  Conversation(...), ... of that one, a row at a time

Worst bug: a row read for another data set (tests/chat/test_sets.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..files import numbered_lines, read_json, sha256_file
from .freshness import REPORT
from .stored import Row, split_rows

KEY = '"dataset"'


@dataclass(frozen=True, slots=True)
class SetRows:
    """One data set in a split's file: its name ("" where rows name none), the hash of its lines, how many they are."""

    name: str
    digest: str
    rows: int


def sets_of(path: Path) -> list[SetRows]:
    """The data sets of a split, in order; one at least. What report.json says of this very file is not read again."""
    return _as_made(path) or _as_read(path)


def _as_made(path: Path) -> list[SetRows] | None:
    try:
        made = read_json(path.parent / REPORT)["splits"][path.stem]
        if made["sha256"] != sha256_file(path):
            return None
        return [SetRows(name, one["sha256"], one["rows"]) for name, one in made["sets"].items()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _as_read(path: Path) -> list[SetRows]:
    hashes: dict[str, hashlib._Hash] = {}
    counts: dict[str, int] = {}
    for _, line in numbered_lines(path):
        name = _name(line)
        hashes.setdefault(name, hashlib.sha256()).update(line.encode("utf-8", "surrogatepass") + b"\n")
        counts[name] = counts.get(name, 0) + 1
    return [SetRows(name, found.hexdigest(), counts[name]) for name, found in hashes.items()] or [SetRows("", "", 0)]


def set_rows(path: Path, part: SetRows) -> Iterator[Row]:
    """The rows of one data set, as `split_rows` reads them."""
    return (row for row in split_rows(path) if row.dataset == part.name)


def _name(line: str) -> str:
    if KEY not in line:
        return ""
    try:
        name = json.loads(line).get("dataset", "")
    except (ValueError, AttributeError, RecursionError):
        return ""  # `split_rows` says what is wrong with it
    return name if isinstance(name, str) else ""
