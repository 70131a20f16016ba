"""Which steps stand out: a loss or a gradient norm far above those of the steps before, and which rows made it so.

In come the steps as they are seen; out goes a `Spike` for one that is above its limit. The limit is the median of the
last USUAL steps (run/seen.py) plus SPREADS robust standard deviations of theirs, and at least FLOOR times the median: a
curve that lies flat has no spread. A loss that falls, as in every training, only lowers the next limit. Of gradient
norms, which differ by factors, the logarithms are looked at.

    usual 1.21, limit 1.82, step 37 has 3.10  ->  Spike(37, {"loss": Above(3.1, 1.21, 1.82)}, [worst row, ...], 1)

`blamed` are the first rows, as few as have to be left out for the loss to be under its limit. Where that takes more
than SUSPECTS of them, it is not the rows: a learning rate that is too high raises the loss of all.

Worst bug: a corrupt row that passes for an ordinary one (tests/learn/test_spikes.py).
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..run.outliers import usual_and_limit
from ..run.seen import USUAL, SeenRow, SeenStep, rounded, worst_first

WARM_UP = 16  # steps before the first limit: a median distance of fewer is too rough
# Of 20,000 steps made of rows of gsm8k, with the losses that SmolLM2 gives them, so many in 10,000 were above their
# limit by chance: 15 with 2 rows a step, 7 with 4, 4 with 8, none with 16 or 32; with the answers of an FAQ none.
SPREADS = 5.0
FLOOR = {"loss": 1.25, "grad_norm": 2.0}  # times the median
TINY = 1e-12  # a norm of nothing has no logarithm
SUSPECTS = 0.5  # share of the rows of a step


@dataclass(frozen=True, slots=True)
class Above:
    """A number, what was usual, and the limit that it is above."""

    value: float
    usual: float
    limit: float


@dataclass(frozen=True, slots=True)
class Spike:
    """A step that stands out. above: by name. rows: worst first, of which the first `blamed` explain it."""

    step: int
    above: dict[str, Above]
    rows: list[SeenRow]
    blamed: int

    def words(self) -> str:
        """What was exceeded, as a sentence."""
        parts = [
            f"{name.replace('_', ' ')} is {one.value:.3g}, usual are {one.usual:.3g} (limit {one.limit:.3g})"
            for name, one in self.above.items()
        ]
        return f"Step {self.step} stands out: its {' and its '.join(parts)}."

    def to_dict(self, texts: Mapping[SeenRow, str]) -> dict[str, Any]:
        """A line of spikes.jsonl."""
        rows = [
            {
                "source": row.source, "loss": row.loss, "tokens": row.tokens, "blamed": place < self.blamed,
                "text": texts[row],
            }
            for place, row in enumerate(self.rows)
        ]  # fmt: skip
        return {"step": self.step, "above": {name: asdict(one) for name, one in self.above.items()}, "rows": rows}


class Watch:
    """Knows what was usual lately. steps: those before the first that is looked at."""

    def __init__(self, steps: Iterable[SeenStep] = ()) -> None:
        self._before = {name: deque[float](maxlen=USUAL) for name in FLOOR}
        for step in steps:
            self._remember(step)

    def look(self, step: SeenStep) -> Spike | None:
        """The step as a spike, if it is one; from now on it belongs to what was before."""
        found = {name: above for name in FLOOR if (above := self._above(name, getattr(step, name)))}
        usual = self._usual_loss(step)
        self._remember(step)
        if not found:
            return None
        rows = worst_first(step.rows, usual)
        return Spike(step.step, found, rows, _blamed(rows, found["loss"].limit) if "loss" in found else 0)

    def _above(self, name: str, value: float | None) -> Above | None:
        before = self._before[name]
        if value is None or len(before) < WARM_UP or value <= FLOOR[name] * statistics.median(before):
            return None
        if name == "grad_norm":
            usual, limit = map(math.exp, usual_and_limit([math.log(max(norm, TINY)) for norm in before], SPREADS))
        else:
            usual, limit = usual_and_limit(before, SPREADS)
        limit = max(limit, FLOOR[name] * usual)
        return Above(value, rounded(usual), rounded(limit)) if value > limit else None

    def _remember(self, step: SeenStep) -> None:
        for name, before in self._before.items():
            if (value := getattr(step, name)) is not None:
                before.append(value)

    def _usual_loss(self, step: SeenStep) -> float:
        """What each row of the step is compared with."""
        before = self._before["loss"]
        return statistics.median(before) if before else step.loss or 0.0


def _blamed(rows: Sequence[SeenRow], limit: float) -> int:
    """How many of the rows, worst first, the step must be without to be under its limit; 0 for too many."""
    nll = sum(row.loss * row.tokens for row in rows if row.loss is not None)
    tokens = sum(row.tokens for row in rows)
    for count, row in enumerate(rows[: int(SUSPECTS * len(rows))], 1):
        nll, tokens = nll - (row.loss or 0.0) * row.tokens, tokens - row.tokens
        if nll <= limit * tokens:
            return count
    return 0
