"""How our own training grows: twice the rows take twice the time in the same memory, rows twice as long about twice.

    work.entrants()  ->  [1x rows, 2x rows, 2x length]; ratios are to the first

Worst bug: a second size that holds the same rows (tests/bench/test_scaling.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .entrants import Entrant
from .training import make_train
from .work import SECONDS, Column, Work, unequal


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling(Work):
    """Trainings of several sizes. sizes: name -> rows, tokens, supervised; each has a config and rows of its name."""

    model: str
    adapter: str
    batch: int
    epochs: float
    sizes: Mapping[str, Mapping[str, int]]

    columns: ClassVar[tuple[Column, ...]] = (
        Column("rows", "rows", ".0f", is_compared=True), Column("tokens", "tokens", ".0f", is_compared=True),
        Column("training, s", SECONDS, is_compared=True, with_spread=True),
        Column("tokens/s", "tokens_per_second"), Column("peak GiB", "peak_gib", ".2f", is_compared=True),
    )  # fmt: skip

    @property
    def said(self) -> str:
        """Model and adapter."""
        return f"{Path(self.model).name}, {self.adapter}, batch {self.batch}; ratios are to the first line"

    def entrants(self) -> Sequence[Entrant]:
        """We, with each size."""
        return [
            make_train(f"training, {name}", name, config=f"{name}.yaml", rows=f"{name}.jsonl") for name in self.sizes
        ]

    def further(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Tokens and speed."""
        tokens = self._size(report).get("tokens", 0)
        return {"tokens": tokens, "tokens_per_second": tokens * self.epochs / report[SECONDS]}

    def faults_of_run(self, report: Mapping[str, Any]) -> list[str]:
        """What was trained on is one of the sizes."""
        size = self._size(report)
        return [] if size else unequal("supervised tokens", report["supervised"], "those of a size")

    def _size(self, report: Mapping[str, Any]) -> Mapping[str, int]:
        found = (report.get("rows"), report.get("supervised"))
        return next((one for one in self.sizes.values() if (one["rows"], one["supervised"]) == found), {})
