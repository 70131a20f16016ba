"""Findings, counted while rows go by: how many rows, of which data sets and splits, which first, and one example.

    found = Findings()
    found.count_row(Place("train", "faq", "faq.csv:3"))
    found.add("mojibake", place, lambda: excerpt("CafÃ© ...", 3, 5))
    findings, styles = found.close()        Finding("mojibake", rows=1, share=1.0, sources=["faq.csv:3"], ...)

A style is a kind that more than half of a data set's rows are of, where that is no fault (kinds.py). Memory holds
LISTED sources of a kind and data set, never rows; every example is masked before it is kept.

Worst bug: a row counted twice for one kind (tests/chat/quality/test_findings.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .kinds import KINDS
from .private import mask

LISTED = 1000  # sources of a kind and a data set: enough for a blocklist by hand
AROUND = 60  # characters on either side of what an example shows
EXAMPLE = 240  # of a whole text
COMMON, FEW = 0.5, 10  # a style is of more than half of a data set, if that has so many rows


class Place(NamedTuple):
    """Where a row stands."""

    split: str
    dataset: str
    source: str


@dataclass(slots=True)
class Example:
    """What a row says, and the row it is compared with, if any; masked and cut short."""

    source: str
    text: str
    other_source: str = ""
    other_text: str = ""


@dataclass(slots=True)
class Tally:
    """Rows of one kind and one data set."""

    rows: int = 0
    by_split: Counter[str] = field(default_factory=Counter)
    sources: list[str] = field(default_factory=list)
    example: Example | None = None

    def add(self, place: Place, example: Callable[[], str] | None) -> None:
        """One more; the first with a text is the example."""
        self.rows += 1
        self.by_split[place.split] += 1
        if len(self.sources) < LISTED:
            self.sources.append(place.source)
        if self.example is None and example is not None:
            self.example = Example(place.source, example())


@dataclass(frozen=True, slots=True)
class Finding:
    """A kind of finding over all data sets."""

    kind: str
    group: str
    title: str
    advice: str
    is_serious: bool
    rows: int
    share: float
    by_set: dict[str, int]
    by_split: dict[str, int]
    sources: list[str]
    example: Example | None


@dataclass(frozen=True, slots=True)
class Style:
    """A kind that is how this data set is written."""

    kind: str
    title: str
    dataset: str
    rows: int
    share: float


class Findings:
    """All that is found."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._rows: Counter[str] = Counter()

    def count_row(self, place: Place) -> None:
        """One row that is looked at."""
        self._rows[place.dataset] += 1

    def add(self, kind: str, place: Place, example: Callable[[], str] | None = None) -> None:
        """A row of this kind, once a row."""
        assert kind in KINDS, kind
        self._tallies.setdefault((kind, place.dataset), Tally()).add(place, example)

    def merge(self, kind: str, dataset: str, more: Tally) -> None:
        """Rows that were counted elsewhere."""
        tally = self._tallies.setdefault((kind, dataset), Tally())
        tally.rows += more.rows
        tally.by_split += more.by_split
        tally.sources = (tally.sources + more.sources)[:LISTED]
        tally.example = tally.example or more.example

    def close(self) -> tuple[list[Finding], list[Style]]:
        """What concerns, the serious first and then by rows; and what is the style of a data set."""
        styles = list(self._styles())
        quiet = {(style.kind, style.dataset) for style in styles}
        findings = []
        for kind in KINDS:
            of_sets = {
                dataset: tally
                for (own, dataset), tally in self._tallies.items()
                if own == kind and (kind, dataset) not in quiet
            }
            if of_sets:
                findings.append(self._finding(kind, of_sets))
        findings.sort(key=lambda one: (not one.is_serious, -one.rows))
        return findings, styles

    def _finding(self, kind: str, of_sets: dict[str, Tally]) -> Finding:
        known, tallies = KINDS[kind], list(of_sets.values())
        rows = sum(tally.rows for tally in tallies)
        by_split: Counter[str] = sum((tally.by_split for tally in tallies), Counter())
        return Finding(
            kind, known.group, known.title, known.advice, known.is_serious, rows, rows / self._rows.total(),
            {dataset: tally.rows for dataset, tally in of_sets.items()}, dict(by_split),
            [source for tally in tallies for source in tally.sources],
            next((tally.example for tally in tallies if tally.example), None),
        )  # fmt: skip

    def _styles(self) -> Iterator[Style]:
        for (kind, dataset), tally in self._tallies.items():
            of = self._rows[dataset]
            if KINDS[kind].is_style_when_common and of >= FEW and tally.rows > COMMON * of:
                yield Style(kind, KINDS[kind].title, dataset, tally.rows, tally.rows / of)


def beside(text: str, other: str) -> tuple[str, str]:
    """Excerpts of two texts that begin alike, from shortly before the place where they part."""
    pairs = enumerate(zip(text, other, strict=False))
    alike = next((at for at, (one, another) in pairs if one != another), min(len(text), len(other)))
    if max(len(text), len(other)) <= EXAMPLE or alike < AROUND or text == other:
        return excerpt(text), excerpt(other)
    return excerpt(text, alike, alike + AROUND), excerpt(other, alike, alike + AROUND)


def excerpt(text: str, start: int = 0, end: int | None = None) -> str:
    """A place in a text with what stands around it, or its beginning; masked, in one line."""
    first, last = (max(0, start - AROUND), end + AROUND) if end is not None else (0, EXAMPLE)
    shown = " ".join(mask(text)[first:last].split())
    return f"{'… ' if first else ''}{shown}{' …' if last < len(text) else ''}"
