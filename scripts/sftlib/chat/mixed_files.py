"""Files of rows to one file: weighted, without doubles where that is asked for, shuffled. The rows stay as they are.

In: sets such as `a.jsonl:2` (path and weight) of any shape that the readers know. Out: JSON Lines, whole or not at all,
and what each set came to.

    {"q": "2+2?", "a": "4", "mixed_from": "a.jsonl:17"}     the row, and the file and line it came from

A row keeps every field and the digits of its numbers, its own `source` too; `mixed_from` is put in, unless it is there
from an earlier mix. (`make process` makes `source` out of the line of the mixed file, which leads to `mixed_from`.)

How many rows each set gives and which stands in shares.py. Doubles are judged by what a row says as a conversation, so
that one question in two shapes is one; a row of no known shape, by its fields. The first one stays, in the order given:
    exact    equal to the letter        folded   but for case and white space        near   but for a few words
Rows lie in an unnamed file on the disk, memory holds a few numbers a row.
Worst bug: a row that is left out while others come twice (tests/chat/test_mixed_files.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from .. import console
from ..errors import DataError, UsageError
from ..files import whole_file
from ..units import percent
from .formats import detect, to_conversation
from .groups import Groups
from .near_duplicates import NearDuplicates
from .questions import fold
from .readers import Source, find_sources
from .rows import SURROGATES, RawRow, Rejected, RowError, clip, compact_json
from .shares import counts_of, take

if TYPE_CHECKING:
    import numpy as np

Dedupe = Literal["no", "exact", "folded", "near"]
DEDUPES: tuple[Dedupe, ...] = ("no", "exact", "folded", "near")
ORIGIN = "mixed_from"
MAX_BROKEN = 0.05  # share of lines that are no rows, above which a file is not what it is taken for
_WEIGHT = re.compile(r"(.+):([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")


@dataclass
class MixedSet:
    """One of the sets, and what became of its rows."""

    path: str
    weight: float | None
    read: int = 0
    broken: int = 0
    duplicates: int = 0
    rows: int = 0  # that may be taken
    taken: int = 0
    files: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)  # broken lines that are named

    def times(self) -> str:
        """How often its rows are in the mix: `1`, `0 or 1`, `2 or 3`."""
        low, rest = divmod(self.taken, self.rows) if self.rows else (0, 0)
        return f"{low} or {low + 1}" if rest else str(low)


@dataclass(frozen=True)
class Wishes:
    """How the sets are to be mixed."""

    seed: int
    rows: int | None = None
    temperature: float = 1.0
    dedupe: Dedupe = "no"
    similarity: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.similarity <= 1:
            raise UsageError(
                f"--similarity is {self.similarity:g}.", expected="above 0, at most 1", cure="Take 0.8, or none."
            )


def read_sets(given: Sequence[str]) -> list[MixedSet]:
    """Paths and weights. What is there under its whole name is a path, else a number behind the last colon a weight."""
    sets: list[MixedSet] = []
    for one in given:
        match = None if Path(one).exists() else _WEIGHT.fullmatch(one)
        path, weight = (match.group(1), float(match.group(2))) if match else (one, None)
        if path in (other.path for other in sets):
            raise UsageError(f"{path} is named twice.", cure="Name it once, with one weight.")
        sets.append(MixedSet(path, weight))
    return sets


def mix(sets: Sequence[MixedSet], wishes: Wishes, columns: Mapping[str, str], encoding: str, out: Path) -> None:
    """Write the mix, and fill in what became of the sets."""
    sources = _sources(sets, encoding, out)
    with tempfile.TemporaryFile() as spool, contextlib.ExitStack() as stack:
        doubles = stack.enter_context(_Doubles(wishes, columns))
        places, ends = array("Q"), []
        for rank, (one, own) in enumerate(zip(sets, sources, strict=True)):
            _take_in(one, own, rank, spool, places, doubles)
            ends.append(len(places))
        kept = doubles.kept(ends)
        for one, rows in zip(sets, kept, strict=True):
            one.rows = len(rows)
            one.duplicates = one.read - one.broken - one.rows
        picks = _picks(sets, kept, wishes)
        with whole_file(out, "wb") as stream:
            for number in console.progress(picks, "mixing"):
                spool.seek(places[number])
                stream.write(spool.readline())


def _sources(sets: Sequence[MixedSet], encoding: str, out: Path) -> list[list[Source]]:
    """The files of each set. An error where one is in two sets, or is the output."""
    found: list[list[Source]] = []
    owners: dict[Path, str] = {}
    for one in sets:
        sources, skipped = find_sources([one.path], encoding)
        for path, why in skipped:
            console.warn(f"{path} was left out: {why}.")
        for source in sources:
            if source.path is None:
                continue
            if source.path.resolve() == out.resolve():
                raise UsageError("The output is one of the inputs.", where=str(out), cure="Give another file by --out.")
            if (other := owners.setdefault(source.path.resolve(), one.path)) != one.path:
                raise UsageError(
                    f"This file is in two of the sets, {other} and {one.path}.", where=source.name,
                    cure="Name files rather than folders, each once.",
                )  # fmt: skip
        one.files = [source.name for source in sources]
        found.append(sources)
    return found


def _take_in(
    one: MixedSet, sources: Sequence[Source], rank: int, spool: IO[bytes], places: array, doubles: _Doubles
) -> None:
    """Read a set: its rows go into the spool, one a line, and their places into `places`."""
    for source in sources:
        for row in console.progress(source.read(None), source.name):
            one.read += 1
            if isinstance(row, Rejected):
                one.broken += 1
                one.examples += [clip(f"{row.source}: {row.reason}: {row.detail}")] if len(one.examples) < 3 else []
            elif doubles.is_new(row, rank):
                places.append(spool.tell())
                spool.write(_line(row))
    if one.broken > MAX_BROKEN * one.read:
        raise DataError(
            f"{one.broken} of {one.read} lines are no rows, such as {'; '.join(one.examples)}", where=one.path,
            expected=f"at most {percent(MAX_BROKEN, 1)}", cure="Repair or remove these lines.",
        )  # fmt: skip


def _line(row: RawRow) -> bytes:
    value = row.value if ORIGIN in row.value else {**row.value, ORIGIN: row.source}
    return (SURROGATES.sub("\ufffd", compact_json(value)) + "\n").encode("utf-8")


def _picks(sets: Sequence[MixedSet], kept: Sequence[np.ndarray], wishes: Wishes) -> np.ndarray:
    """The numbers of the rows of the mix, in its order."""
    import numpy as np

    weights = {one.path: one.weight for one in sets if one.weight is not None}
    counts = counts_of(
        {one.path: one.rows for one in sets}, weights=weights or None, temperature=wishes.temperature, rows=wishes.rows
    )
    if not sum(counts.values()):
        raise DataError("The sets hold no rows.", where=", ".join(counts), cure="Name files that hold some.")
    picks = []
    for one, rows in zip(sets, kept, strict=True):
        one.taken = counts[one.path]
        picks.append(rows[take(one.rows, one.taken, wishes.seed, one.path)])
    together = np.concatenate(picks)
    order = np.random.RandomState(_seed(wishes.seed)).permutation(len(together))
    return together[order]


def _seed(seed: int) -> int:
    """Any seed as one of 32 bits, which is what numpy takes."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\nmix".encode(), digest_size=4).digest(), "big")


class _Doubles:
    """Rows on their way: which of them say what an earlier one has said. 80 bytes a row in memory, for `near` 220."""

    def __init__(self, wishes: Wishes, columns: Mapping[str, str]) -> None:
        self._how, self._columns = wishes.dedupe, columns
        self._seen: set[bytes] = set()
        self._near = NearDuplicates(wishes.similarity) if wishes.dedupe == "near" else None

    def __enter__(self) -> _Doubles:
        if self._near is not None:
            self._near.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._near is not None:
            self._near.__exit__(*error)  # type: ignore[arg-type]

    def is_new(self, row: RawRow, rank: int) -> bool:
        """Whether the row goes on. Near doubles are found when all are there (`kept`)."""
        if self._how == "no":
            return True
        said = _said(row, self._columns)
        if self._near is not None:
            self._near.add("\n".join(text for _, text in said), rank)
            return True
        text = json.dumps([(role, fold(text)) for role, text in said] if self._how == "folded" else said)
        digest = hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
        is_new = digest not in self._seen
        self._seen.add(digest)
        return is_new

    def kept(self, ends: Sequence[int]) -> list[np.ndarray]:
        """The numbers of the rows that stay, for each set; `ends` are the numbers behind the last of each."""
        import numpy as np

        stays = np.ones(ends[-1], dtype=bool)
        if self._near is not None:
            groups = Groups(len(self._near))
            for pair in self._near.pairs():
                groups.join(pair.first, pair.second)
            stays = groups.roots() == np.arange(len(groups))  # the root of a group is its first row
        return [start + np.flatnonzero(stays[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _said(row: RawRow, columns: Mapping[str, str]) -> list[tuple[str, str]]:
    """Who says what in a row; its fields where it is no conversation."""
    mapped = columns if set(columns.values()) <= row.value.keys() else {}  # they may be those of another set
    try:
        conversation = to_conversation(row.value, detect(row.value, mapped), row.source)
    except RowError:
        fields = {key: value for key, value in row.value.items() if key not in ("source", ORIGIN)}
        return [("row", compact_json(dict(sorted(fields.items()))))]
    return [
        (message.role, message.content + (json.dumps(message.extra, sort_keys=True) if message.extra else ""))
        for message in conversation.messages
    ]
