"""What the loss of each row was each time it was seen: seen.jsonl of a run, and which rows stand out in it.

In, from `learn`: a line an optimizer step. Out: the steps again, the times that one row was seen, the worst rows.

    {"step": 12, "loss": 1.6231, "grad_norm": 0.8104, "rows": [["raw.jsonl:17", 2.113, 14], ["raw.jsonl:4", 1.2, 60]]}

`rows` are source, loss a supervised token, supervised tokens; `loss` is that of the step, over all their tokens. null
stands for what was not finite.

A mean over few tokens says little: one rare word in an answer of three is a high one. So rows are compared by
`excess`: how far their mean is above the usual one, if each had SMOOTHED more tokens that are as usual.

Worst bug: a loss under another row's name (tests/learn/test_row_losses.py).
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ModelError
from .folder import RunFolder
from .journal import entries

DIGITS = 5  # that a number is written with: more would be noise, and half of the file
SMOOTHED = 8  # tokens: an answer of so many counts half of what it shows
USUAL = 32  # steps whose median is the usual loss: enough for a steady median, few beside the fall of a curve


class SeenRow(NamedTuple):
    """One row in one step: the loss a supervised token (None: not finite), and how many tokens that were."""

    source: str
    loss: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class SeenStep:
    """One optimizer step and its rows."""

    step: int
    loss: float | None
    grad_norm: float | None
    rows: tuple[SeenRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """A line of seen.jsonl."""
        return {"step": self.step, "loss": self.loss, "grad_norm": self.grad_norm, "rows": [list(r) for r in self.rows]}

    @classmethod
    def from_dict(cls, line: dict[str, Any]) -> SeenStep:
        """The step of a line."""
        return cls(line["step"], line["loss"], line["grad_norm"], tuple(SeenRow(*row) for row in line["rows"]))


@dataclass(frozen=True, slots=True)
class Sight:
    """One time that a row was seen: its loss, the step's, and its place among the rows of the step, worst first."""

    step: int
    row: SeenRow
    loss: float | None
    place: int
    rows: int


@dataclass(frozen=True, slots=True)
class RowOfRun:
    """A row over a whole run: means over the times it was seen; infinite where one was not finite."""

    source: str
    times: int
    tokens: int
    loss: float
    usual: float
    excess: float


def read_seen(run: RunFolder) -> Iterator[SeenStep]:
    """The steps of a run, in order."""
    return map(SeenStep.from_dict, entries(run.seen))


def find_seen(root: Path, name: str | None = None) -> RunFolder | None:
    """The run of that name, else the one that trained last; None when no run has seen rows. ModelError for a name."""
    found = {path.parent.name: path.stat().st_mtime_ns for path in root.glob("*/seen.jsonl")}
    if name is not None and name not in found:
        raise ModelError(
            f"The run {name} has no losses of rows.", where=str(RunFolder(root, name).seen),
            expected="one of: " + (", ".join(sorted(found)) or "(none yet)"), cure=f"make train RUN={name}",
        )  # fmt: skip
    return RunFolder(root, name or max(found, key=found.__getitem__)) if found else None


def times_seen(steps: Iterable[SeenStep], is_meant: Callable[[str], bool]) -> tuple[list[Sight], int]:
    """Each time that a row which is meant, by its source, was seen; and how many steps there were."""
    sights, count = [], 0
    for step in steps:
        count += 1
        if not any(is_meant(row.source) for row in step.rows):
            continue
        for place, row in enumerate(worst_first(step.rows, step.loss or 0.0), 1):
            if is_meant(row.source):
                sights.append(Sight(step.step, row, step.loss, place, len(step.rows)))
    return sights, count


def rounded(value: float | None) -> float | None:
    """The value as it is written; None for what is not finite."""
    return float(f"{value:.{DIGITS}g}") if value is not None and math.isfinite(value) else None


def worst_first(rows: Iterable[SeenRow], usual: float) -> list[SeenRow]:
    """The rows by `excess`; a loss that is not finite is the worst."""
    return sorted(rows, key=lambda row: -excess(row, usual))


def excess(row: SeenRow, usual: float) -> float:
    """How far a row is above the usual loss, counted down where it has few tokens."""
    return float("inf") if row.loss is None else (row.loss - usual) * row.tokens / (row.tokens + SMOOTHED)


def rows_by_excess(steps: Iterable[SeenStep]) -> list[RowOfRun]:
    """Every row of a run, first those whose loss was furthest above the usual one."""
    before: deque[float] = deque(maxlen=USUAL)
    sums: dict[str, list[float]] = {}  # times, tokens, loss, usual, excess
    for step in steps:
        if step.loss is not None:
            before.append(step.loss)
        usual = statistics.median(before) if before else 0.0
        for row in step.rows:
            of_row = sums.setdefault(row.source, [0, row.tokens, 0.0, 0.0, 0.0])
            of_row[0] += 1
            of_row[2] += float("inf") if row.loss is None else row.loss
            of_row[3] += usual
            of_row[4] += excess(row, usual)
    found = [
        RowOfRun(source, int(times), int(tokens), loss / times, usual / times, above / times)
        for source, (times, tokens, loss, usual, above) in sums.items()
    ]
    return sorted(found, key=lambda row: -row.excess)
