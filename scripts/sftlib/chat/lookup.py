"""One row found again: in the splits, among those that were left out, and in its raw file.

In: the files of the splits and what a person calls the row. Out: the places where it stands. A row is called by its
source or by the end of it, from a `/` or `:` on; a chunk of it finds the row.

    find_rows(files, "faq.jsonl:17")  ->  [Place("raw/faq.jsonl:17", "train", "data/processed/train.jsonl:12", {...})]
    find_rows(files, "17")            the same, where no other file has a line 17

Lines are looked through as text and only those parsed that may be meant: a million take a few seconds.

Worst bug: another row's life told (tests/chat/test_lookup.py).
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, UsageError
from ..files import numbered_lines
from ..units import some
from .provenance import row_of
from .readers import find_sources
from .report import DUPLICATE
from .rows import RawRow, Rejected

LEFT_OUT = "left out"  # what stands in rejected.jsonl
NEAREST = 5  # names offered for one that is unknown
NAMED = 10  # rows, where several are meant


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands: its source, the split (or LEFT_OUT), file and line, and the stored row."""

    source: str
    split: str
    where: str
    row: dict[str, Any]


def find_rows(files: Mapping[str, Path], called: str) -> list[Place]:
    """Every place of the one row that is meant. UsageError when several rows are, DataError when none is."""
    wanted = row_of(called.strip())
    end = wanted.rpartition(":")[2]
    number = int(end) if end.isdigit() else None
    tail = json.dumps(end, ensure_ascii=False)[1:-1]
    places = [
        place
        for split, path in files.items()
        for line_number, line in numbered_lines(path)
        if tail in line or line_number == number
        if (place := _place(split, path, line_number, line)) is not None and _is_meant(place.source, wanted)
    ]
    sources = list(dict.fromkeys(place.source for place in places))
    exact = [place for place in places if place.source == wanted]
    if exact or len(sources) == 1:
        return exact or places
    if not sources:
        raise _unknown(files, wanted)
    raise UsageError(
        f"{len(sources)} rows are called {called}.", where="ROW", expected=f"one of {some(sources, NAMED)}",
        cure=f"Name one in full: make why ROW={sources[0]}",
    )  # fmt: skip


def equal_rows(rejected: Path, source: str) -> list[str]:
    """The rows that were left out because they are equal to this one."""
    if not rejected.is_file():
        return []
    lines = (json.loads(line) for _, line in numbered_lines(rejected) if DUPLICATE in line)
    return [row["source"] for row in lines if row["reason"] == DUPLICATE and row["detail"] == f"equal to {source}"]


def raw_row(source: str, encoding: str) -> RawRow | Rejected | None:
    """The row in its raw file, as `process` reads it; None where that file is gone, or of the hub."""
    path = Path(source.rpartition(":")[0])
    if not path.is_file():
        return None
    [file], _ = find_sources([str(path)], encoding)
    return next((row for row in file.read(None) if row.source == source), None)


def _place(split: str, path: Path, number: int, line: str) -> Place | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    where = f"{path.as_posix()}:{number}"
    return Place(str(row.setdefault("source", where)), split, where, row)


def _is_meant(source: str, wanted: str) -> bool:
    return source == wanted or source.endswith((f"/{wanted}", f":{wanted}"))


def _unknown(files: Mapping[str, Path], wanted: str) -> DataError:
    """Nobody knows the row: which files are known, and which of their rows come near."""
    known = list(_sources(files))
    rows = Counter(source.rpartition(":")[0] for source in known)
    name = wanted.rpartition(":")[0] or wanted
    ends = {file.rpartition("/")[2]: file for file in rows}
    near = difflib.get_close_matches(name.rpartition("/")[2], ends, NEAREST, cutoff=0.5)
    file = ends[near[0]] if near else ""
    lines = sorted(int(n) for source in known if (n := source.removeprefix(f"{file}:")).isdigit()) if file else []
    asked = wanted.rpartition(":")[2]
    if lines and asked.isdigit():
        nearest = [f"{file}:{line}" for line in sorted(lines, key=lambda line: abs(line - int(asked)))[:NEAREST]]
    else:
        nearest = [ends[end] for end in near]
    listed = some([f"{file} ({count} rows)" for file, count in rows.most_common()], NAMED)
    return DataError(
        f"No row is called {wanted}.", where=", ".join(path.as_posix() for path in files.values()),
        expected=f"a row of {listed or 'a split: none is there yet'}",
        cure=f"The nearest: {', '.join(nearest)}." if nearest else "make process, or name a row of these files.",
    )  # fmt: skip


def _sources(files: Mapping[str, Path]) -> Iterator[str]:
    for split, path in files.items():
        for number, line in numbered_lines(path):
            if (place := _place(split, path, number, line)) is not None:
                yield place.source
