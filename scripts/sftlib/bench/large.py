"""`make prepare` on raw files of growing size: seconds, rows a second, memory; and a second one with nothing to do.

There is no peer: what is shown is how time and memory grow. Each run begins in an empty folder, so that nothing is
there beforehand: raw rows are read, cleaned, compared with each other, split, rendered, encoded and written as Parquet.
The second start of the same command finds all of it made.

    work.entrants()  ->  [10000 rows, 100000 rows, 1000000 rows]; ratios are to the first

Worst bug: rows that were left out and made it look fast (tests/bench/test_large.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..files import read_json
from .entrants import SCRIPTS, Entrant
from .starting import Command
from .work import MEMORY, SECONDS, Column, Work, unequal

METADATA = Path("data", "prepared", "metadata.json")  # in the folder of a run
GROWTH = 10  # times the rows from one size to the next


def config_of(rows: int) -> str:
    """The config of the file that holds so many rows."""
    return f"rows-{rows}.yaml"


class Prepare(Command):
    """scripts/prepare.py in a folder of its own."""

    __slots__ = ()

    def report(self, work: Work, folder: Path, began: float) -> dict[str, Any]:
        """The whole command by the clock, and what it prepared."""
        seconds = time.time() - began
        splits = read_json(folder / METADATA)["splits"].values()
        sets = [one for split in splits for one in split["sets"].values()]
        return {
            "versions": {}, SECONDS: seconds, "asked": int(self.name.removesuffix("-rows")),
            "rows": sum(one["lengths"]["rows"] for one in sets), "tokens": sum(one["share"]["tokens"] for one in sets),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Large(Work):
    """Raw files of different rows. model: the folder with the tokenizer. sizes: rows of each, the smallest first."""

    model: str
    sizes: Sequence[int]

    columns: ClassVar[tuple[Column, ...]] = (
        Column("rows", "rows", ".0f"), Column("tokens", "tokens", ".0f"),
        Column("first start, s", SECONDS, is_compared=True), Column("rows/s", "rows_per_second", ".0f"), MEMORY,
        Column("second start, s", "again", ".2f"),
    )  # fmt: skip
    starts: ClassVar[int] = 2

    @property
    def said(self) -> str:
        """What is done."""
        return f"`make prepare` from the raw file to Parquet; tokenizer of {Path(self.model).name}"

    def entrants(self) -> Sequence[Entrant]:
        """We, with each size."""
        return [
            Prepare(
                f"{rows}-rows", f"{rows} rows", SCRIPTS / "prepare.py",
                arguments=["--config", str(Path(self.folder) / config_of(rows))],
            )
            for rows in self.sizes
        ]  # fmt: skip

    def further(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Speed."""
        return {"rows_per_second": report["rows"] / report[SECONDS]}

    def faults_of_run(self, report: Mapping[str, Any]) -> list[str]:
        """Every row is in a split."""
        return unequal("rows", report["rows"], report["asked"])
