"""What became of every raw row: counted while it happens, shown on the screen, kept as report.json.

    report.accept(format, changes=("cut after the last answer",), unused=["id"], source="faq.jsonl:17")
    report.reject(Rejected("faq.jsonl:18", "empty answer", "message 2 of user, assistant", "..."))
    report.show()

read = rows of the splits + duplicates + rejected + on the blocklist + in two splits, always. Memory holds counts and a
few examples, never rows.
Worst bug: a row in none of these counts (tests/chat/test_processing.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import console
from ..units import percent, some
from .formats import Format
from .readers import Source
from .rows import Rejected, clip
from .splitting import FIELD, NEAR, Dealt, LargeGroup

DUPLICATE = "duplicate"
BLOCKED = "on the blocklist"
IN_TWO_SPLITS = "near duplicate of rows in two splits"
EXAMPLES = 3  # rejected rows shown for each reason
NAMES = 50  # different names of unused fields that are counted one by one; data with more of them has values as names


@dataclass
class SetCounts:
    """The rows of one data set. near_rows: in near_groups; follow: went where rows of earlier data sets are."""

    read: int = 0
    kept: int = 0
    rejected: int = 0
    duplicates: int = 0
    blocked: int = 0
    in_two_splits: int = 0
    near_groups: int = 0
    near_rows: int = 0
    follow: int = 0
    reasons: dict[str, int] = field(default_factory=dict)  # of the rejected rows
    firsts: dict[str, str] = field(default_factory=dict)  # reason -> "source: detail" of the first

    def main_reason(self) -> tuple[str, int, str]:
        """The reason for most of the rejected rows, how many, and the first of them."""
        reason, count = _ranked(self.reasons)[0]
        return reason, count, self.firsts[reason]


@dataclass
class ProcessReport:
    """What became of the raw rows."""

    seed: int
    shares: dict[str, float]
    files: list[dict[str, Any]] = field(default_factory=list)  # path, kind, why, rows, sha256, dataset
    skipped: list[dict[str, str]] = field(default_factory=list)  # path, why
    read: int = 0
    duplicates: int = 0
    blocked: int = 0
    in_two_splits: int = 0
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> rows, questions, sha256, sets
    sets: dict[str, SetCounts] = field(default_factory=dict)  # name ("" of data.raw_path) -> counts
    formats: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> rows, why, first (source)
    rejected: dict[str, int] = field(default_factory=dict)  # reason -> rows
    examples: dict[str, list[str]] = field(default_factory=dict)  # reason -> "source: detail"
    changed: dict[str, int] = field(default_factory=dict)  # repair -> rows
    left_out: dict[str, int] = field(default_factory=dict)  # unused field -> rows
    groups: dict[str, int] = field(default_factory=dict)  # split -> groups of rows that belong together
    large: list[str] = field(default_factory=list)  # groups that are too large, in words
    unmet: list[str] = field(default_factory=list)  # sources of the blocklist that no row came from
    key: dict[str, Any] = field(default_factory=dict)  # what the splits were made of

    @property
    def rejected_rows(self) -> int:
        """Rows that could not be used."""
        return sum(self.rejected.values())

    @property
    def kept_rows(self) -> int:
        """Rows that go into the splits."""
        return self.read - self.duplicates - self.rejected_rows - self.blocked - self.in_two_splits

    def open_set(self, name: str) -> None:
        """The rows that follow are of this data set."""
        self.sets[name] = SetCounts()

    def accept(self, format: Format, changes: Iterable[str], unused: Iterable[str], source: str) -> None:
        """Count a row that was taken."""
        self.read += 1
        self._counts.read += 1
        self._counts.kept += 1
        entry = self.formats.setdefault(format.name, {"rows": 0, "why": clip(format.reason), "first": source})
        entry["rows"] += 1
        for change in changes:
            _count(self.changed, change)
        for name in map(clip, unused):
            _count(self.left_out, name if name in self.left_out or len(self.left_out) < NAMES else "(others)")

    def reject(self, row: Rejected) -> None:
        """Count a row that was not; a duplicate is no fault, nor is what the blocklist lists."""
        counts = self._counts
        self.read += 1
        counts.read += 1
        if row.reason == DUPLICATE:
            self.duplicates += 1
            counts.duplicates += 1
            return
        if row.reason == BLOCKED:
            self.blocked += 1
            counts.blocked += 1
            return
        counts.rejected += 1
        _count(counts.reasons, row.reason)
        counts.firsts.setdefault(row.reason, clip(f"{row.source}: {row.detail}"))
        _count(self.rejected, row.reason)
        examples = self.examples.setdefault(row.reason, [])
        if len(examples) < EXAMPLES:
            examples.append(clip(f"{row.source}: {row.detail}"))

    def close_file(self, source: Source, rows: int, sha256: str | None) -> None:
        """Note a file that was read to its end."""
        entry = {"path": source.name, "kind": source.kind, "why": source.why, "rows": rows, "sha256": sha256}
        self.files.append({**entry, "dataset": next(reversed(self.sets))})

    def note_dealt(self, dealt: Mapping[str, Dealt], group_by: str | None) -> None:
        """Note which rows belong together, and which are left out for it."""
        for name, one in dealt.items():
            counts = self.sets[name]
            counts.kept, counts.in_two_splits, counts.follow = one.rows, one.left_out, one.follow
            counts.near_groups, counts.near_rows = one.near_groups, one.near_rows
            self.in_two_splits += one.left_out
            self.groups = {split: self.groups.get(split, 0) + count for split, count in one.groups.items()}
            self.large += [_too_large(group, name, one.rows, group_by) for group in one.large]

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
        where += [
            (name, rows, "-") for name, rows in ((BLOCKED, self.blocked), (IN_TWO_SPLITS, self.in_two_splits)) if rows
        ]
        console.table("Rows", ["went to", "rows", "share"], where)
        if any(self.sets):
            self._show_sets()
        elif near := self.sets[""].near_groups:
            console.note(
                f"{self.sets[''].near_rows} rows in {near} groups are near duplicates; each group is in one split."
            )
        for title, counts in (("Repaired", self.changed), ("Fields left out", self.left_out)):
            if counts:
                console.table(title, ["what", "rows"], _ranked(counts))
        if self.rejected:
            self.show_rejected()
        for name, share in self.shares.items():
            if share > 0 and not self.splits[name]["rows"]:
                console.warn(f"The {name} split is empty: there are fewer different questions than splits.")
        for said in self.large:
            console.warn(said)
        if self.unmet:
            console.warn(f"No row came from {some(self.unmet, EXAMPLES)}, which data.blocklist lists.")

    def _show_sets(self) -> None:
        """Print what became of the rows of each data set."""
        kinds = ("read", "kept", "rejected", "duplicates", "blocked", "in_two_splits", "follow", "near_groups")
        shown = [kind for kind in kinds if kind in kinds[:4] or any(getattr(one, kind) for one in self.sets.values())]
        rows = [
            (name, *(getattr(counts, kind) for kind in shown),
             *(split["sets"].get(name, {}).get("rows", 0) for split in self.splits.values()))
            for name, counts in self.sets.items()
        ]  # fmt: skip
        words = {
            "blocked": BLOCKED,
            "in_two_splits": "in two splits",
            "follow": "follow earlier",
            "near_groups": "near-duplicate groups",
        }
        console.table("Data sets", ["data set", *(words.get(kind, kind) for kind in shown), *self.splits], rows)
        for name, counts in self.sets.items():
            if not counts.kept:
                console.warn(f"Of the data set {name} no row is left.")

    def show_rejected(self) -> None:
        """Print why rows were rejected, with examples."""
        rows = [(reason, count, "\n".join(self.examples[reason])) for reason, count in _ranked(self.rejected)]
        console.table("Rejected", ["reason", "rows", "for instance"], rows, to_stderr=True)

    @property
    def _counts(self) -> SetCounts:
        return self.sets[next(reversed(self.sets))]


def _too_large(group: LargeGroup, name: str, rows: int, group_by: str | None) -> str:
    why, what_to_do = {
        NEAR: (
            "they are near duplicates",
            " Raise data.near_duplicates, or set it to null, if they should not be one.",
        ),
        FIELD: (f"they are equal in {group_by}", " Choose another field for data.group_by if they should not be one."),
    }.get(group.why, ("they ask the same", ""))
    return (
        f"{group.rows} of {rows} rows{f' of {name}' if name else ''} ({percent(group.rows, rows)}) are one group and "
        f"go to one split: {why}, as {group.example[0]} and {group.example[1]}.{what_to_do}"
    )


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: -pair[1])
