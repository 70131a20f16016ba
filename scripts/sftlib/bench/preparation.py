"""The comparison of preparing: a file of conversations to ids and labels on the disk, and the same a second time.

    work.faults_of_run({"rows": 100000, "tokens": ..., "supervised": ..., "seconds": 21.0})  -> []

The tokenizer is loaded when the clock begins; the second start is a new process that finds the cache of the first.

Worst bug: a peer that prepares fewer tokens than we (tests/bench/test_preparation.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .entrants import PEERS, Entrant, ourselves
from .work import MEMORY, SECONDS, WHOLE, Column, Work, unequal

TEMPLATE = "template.jinja"  # with {% generation %}, as peers are given it
COUNTED = ("rows", "tokens", "supervised")


def file_of(rows: int) -> str:
    """The file that holds so many rows."""
    return f"rows-{rows}.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation(Work):
    """What is prepared.

    Args:
        model: the folder with the tokenizer. max_length: no row is longer, in tokens.
        counts: rows, tokens and supervised tokens of each file. With several sizes we are compared with ourselves.
    """

    model: str
    max_length: int
    counts: Sequence[Mapping[str, int]]

    columns: ClassVar[tuple[Column, ...]] = (
        Column("first start, s", SECONDS, is_compared=True, with_spread=True),
        Column("second start, s", "again", ".2f", is_compared=True),
        Column("rows/s", "rows_per_second", ".0f"), WHOLE, MEMORY,
    )  # fmt: skip
    starts: ClassVar[int] = 2

    @property
    def said(self) -> str:
        """Rows and tokens."""
        sizes = (
            f"{one['rows']} rows, {one['tokens']} tokens, {one['supervised']} of them supervised" for one in self.counts
        )
        return f"preparing {'; '.join(sizes)}; tokenizer and template of {Path(self.model).name}"

    def entrants(self) -> Sequence[Entrant]:
        """We and `datasets.map`; of several sizes, we with each."""
        sizes = [one["rows"] for one in self.counts]
        if len(sizes) > 1:
            return [ourselves(f"{rows} rows", f"{rows}-rows", rows=rows) for rows in sizes]
        runner, rows = PEERS / "with_datasets.py", sizes[0]
        return [
            ourselves("SFT-Play, `make train`'s preparation", rows=rows),
            Entrant("map-rows", "`datasets.map`, row by row as TRL does it", runner, "trl", {"rows": rows}),
            Entrant("map-batched", "`datasets.map`, batched", runner, "trl", {"rows": rows, "is_batched": True}),
        ]

    def job(self, folder: Path, *, check: bool, options: Mapping[str, Any]) -> dict[str, Any]:
        """What a runner is told."""
        here = Path(self.folder)
        return Work.job(self, folder, check=check, options=options) | {
            "model": self.model, "rows": str(here / file_of(options["rows"])), "template": str(here / TEMPLATE),
            "max_length": self.max_length,
        }  # fmt: skip

    def further(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Speed."""
        return {"rows_per_second": report["rows"] / report[SECONDS]}

    def faults_of_run(self, report: Mapping[str, Any]) -> list[str]:
        """Equally many of everything."""
        expected = next((one for one in self.counts if one["rows"] == report["asked"]), {})
        return [fault for name in COUNTED for fault in unequal(name, report.get(name), expected.get(name))]
