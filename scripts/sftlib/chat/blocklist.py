"""Rows that are not to be trained on, by their sources: a file that `make blocklist` writes or a person does.

    # what made the loss jump
    data/raw/faq.jsonl:17
    faq.jsonl:4711            the name of the file, or the end of its path, is enough
    faq.jsonl:90#2            a chunk of a row names the row

    blocklist = Blocklist.read("blocklist.txt")
    blocklist.has("data/raw/faq.jsonl:4711")   ->  True
    blocklist.unmet()                          ->  ["faq.jsonl:90"], entries that no row was asked about
    add_to_blocklist(path, {"data/raw/faq.jsonl:4": "loss 7.4, usual are 1.2"})

Worst bug: another row left out (tests/chat/test_blocklist.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError
from ..files import append_text, numbered_lines
from .provenance import row_of

_ENTRY = re.compile(r".+:[0-9]+\Z")


class Blocklist:
    """Sources, and which of them were met."""

    def __init__(self, sources: list[str]) -> None:
        self._by_name: dict[str, dict[str, bool]] = {}  # file name and line -> source -> whether a row was met
        for source in sources:
            self._by_name.setdefault(source.rpartition("/")[2], {})[source] = False

    @classmethod
    def read(cls, path: str | Path) -> Blocklist:
        """The blocklist of a file. DataError when it is missing, or a line is no source."""
        if not Path(path).is_file():
            raise DataError(
                "There is no such blocklist.", where=f"{path} (data.blocklist)",
                cure="Correct data.blocklist, or set it to null. make blocklist RUN=... writes one.",
            )  # fmt: skip
        sources = []
        for number, line in numbered_lines(path):
            entry = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
            if not entry:
                continue
            source = row_of(entry)
            if not _ENTRY.match(source):
                raise DataError(
                    f"This is no source of a row: {entry!r}.", where=f"{path}:{number}",
                    expected="a file and a line, as faq.jsonl:17; comments begin with #", cure="Correct the line.",
                )  # fmt: skip
            sources.append(source.removeprefix("./"))
        return cls(sources)

    def has(self, source: str) -> bool:
        """Whether the row is to be left out; the entries that say so count as met."""
        entries = self._by_name.get(source.rpartition("/")[2])
        if entries is None:
            return False
        found = [entry for entry in entries if source == entry or source.endswith(f"/{entry}")]
        entries.update(dict.fromkeys(found, True))
        return bool(found)

    def unmet(self) -> list[str]:
        """The sources that no row came from."""
        return [entry for entries in self._by_name.values() for entry, is_met in entries.items() if not is_met]


def add_to_blocklist(path: Path, reasons: Mapping[str, str]) -> list[str]:
    """Append rows, each below a comment that says why, and return those that were not listed before.

    What the file holds stays; a row that it lists already is not written again. A source that somebody gave a row by
    hand, without a file and a line, cannot be listed.
    """
    listed = Blocklist.read(path) if path.is_file() else Blocklist([])
    new = [source for source in reasons if _ENTRY.match(source) and not listed.has(source)]
    if new:
        path.parent.mkdir(parents=True, exist_ok=True)
        ends_in_a_line = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
        lines = [f"# {' '.join(reasons[source].split())}\n{source}\n" for source in new]
        append_text(path, ("\n" if ends_in_a_line else "") + "".join(lines))
    return new
