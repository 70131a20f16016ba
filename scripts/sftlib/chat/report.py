"""What became of every raw row: counted while it happens, shown on the screen, kept as report.json.

    report.accept(format, changes=("cut after the last answer",), unused=["id"], source="faq.jsonl:17")
    report.reject(Rejected("faq.jsonl:18", "empty answer", "message 2 of user, assistant", "..."))
    report.show()

read = rows of the splits + duplicates + rejected, always. Memory holds counts and a few examples, never rows.
Worst bug: a row in none of these counts (tests/chat/test_processing.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import console
from ..units import percent
from .formats import Format
from .readers import Source
from .rows import Rejected, clip

DUPLICATE = "duplicate"
EXAMPLES = 3  # rejected rows shown for each reason
NAMES = 50  # different names of unused fields that are counted one by one; data with more of them has values as names


@dataclass
class ProcessReport:
    """What became of the raw rows."""

    seed: int
    shares: dict[str, float]
    files: list[dict[str, Any]] = field(default_factory=list)  # path, kind, why, rows, sha256
    skipped: list[dict[str, str]] = field(default_factory=list)  # path, why
    read: int = 0
    duplicates: int = 0
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> rows, questions, sha256
    formats: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> rows, why, first (source)
    rejected: dict[str, int] = field(default_factory=dict)  # reason -> rows
    examples: dict[str, list[str]] = field(default_factory=dict)  # reason -> "source: detail"
    changed: dict[str, int] = field(default_factory=dict)  # repair -> rows
    left_out: dict[str, int] = field(default_factory=dict)  # unused field -> rows

    @property
    def rejected_rows(self) -> int:
        """Rows that could not be used."""
        return sum(self.rejected.values())

    @property
    def kept_rows(self) -> int:
        """Rows that go into the splits."""
        return self.read - self.duplicates - self.rejected_rows

    def accept(self, format: Format, changes: Iterable[str], unused: Iterable[str], source: str) -> None:
        """Count a row that was taken."""
        self.read += 1
        entry = self.formats.setdefault(format.name, {"rows": 0, "why": clip(format.reason), "first": source})
        entry["rows"] += 1
        for change in changes:
            _count(self.changed, change)
        for name in map(clip, unused):
            _count(self.left_out, name if name in self.left_out or len(self.left_out) < NAMES else "(others)")

    def reject(self, row: Rejected) -> None:
        """Count a row that was not; a duplicate is no fault."""
        self.read += 1
        if row.reason == DUPLICATE:
            self.duplicates += 1
            return
        _count(self.rejected, row.reason)
        examples = self.examples.setdefault(row.reason, [])
        if len(examples) < EXAMPLES:
            examples.append(clip(f"{row.source}: {row.detail}"))

    def close_file(self, source: Source, rows: int, sha256: str | None) -> None:
        """Note a file that was read to its end."""
        entry = {"path": source.name, "kind": source.kind, "why": source.why, "rows": rows, "sha256": sha256}
        self.files.append(entry)

    def show(self) -> None:
        """Print what was taken for what, why, and where every row went."""
        files = [(file["path"], file["rows"], file["kind"], file["why"]) for file in self.files]
        console.table("Files", ["file", "rows", "taken for", "because"], files)
        for skip in self.skipped:
            console.warn(f"{skip['path']} was left out: {skip['why']}.")
        formats = [(name, one["rows"], f"{one['first']} {one['why']}") for name, one in self.formats.items()]
        console.table("Row formats", ["format", "rows", "because"], formats)
        where = [(name, one["rows"], percent(one["rows"], self.kept_rows)) for name, one in self.splits.items()]
        where += [(f"{DUPLICATE} (left out)", self.duplicates, "-"), ("rejected", self.rejected_rows, "-")]
        console.table("Rows", ["went to", "rows", "share"], where)
        for title, counts in (("Repaired", self.changed), ("Fields left out", self.left_out)):
            if counts:
                console.table(title, ["what", "rows"], _ranked(counts))
        if self.rejected:
            self.show_rejected()
        for name, share in self.shares.items():
            if share > 0 and not self.splits[name]["rows"]:
                console.warn(f"The {name} split is empty: there are fewer different questions than splits.")

    def show_rejected(self) -> None:
        """Print why rows were rejected, with examples."""
        rows = [(reason, count, "\n".join(self.examples[reason])) for reason, count in _ranked(self.rejected)]
        console.table("Rejected", ["reason", "rows", "for instance"], rows, to_stderr=True)

    def main_reason(self) -> tuple[str, int, str]:
        """The reason for most of the rejected rows, how many, and the first example."""
        reason, count = _ranked(self.rejected)[0]
        return reason, count, self.examples[reason][0]


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: -pair[1])
