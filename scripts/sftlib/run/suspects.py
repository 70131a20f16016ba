"""Which rows of a run are to be looked at, and why, in words: those that spikes blame, and those that stand out by
their losses over the whole run.

    suspects(run)  ->  {"faq.jsonl:17": "loss 7.42 a token, usual are 1.21, in step 37 of the run first"}

Worst bug: a sound row that is called corrupt (tests/run/test_suspects.py).
"""

from __future__ import annotations

import math

from .folder import RunFolder
from .journal import entries
from .outliers import usual_and_limit
from .seen import RowOfRun, read_seen, rows_by_excess

# A row stands out whose excess is so many robust standard deviations above the middle one's, and a nat at the least: of
# 141 rows of gsm8k, as SmolLM2 sees them, the furthest is at 4.
SPREADS, LEAST = 8.0, 1.0


def rows_of_run(run: RunFolder) -> tuple[list[RowOfRun], float]:
    """Every row by its excess, and the excess above which a row stands out."""
    rows = rows_by_excess(read_seen(run))
    finite = [row.excess for row in rows if math.isfinite(row.excess)]
    usual, limit = usual_and_limit(finite, SPREADS) if finite else (0.0, 0.0)
    return rows, max(limit, usual + LEAST)


def suspects(run: RunFolder) -> dict[str, str]:
    """Sources of rows, each with the reason."""
    reasons: dict[str, str] = {}
    for spike in entries(run.spikes):
        for row in spike["rows"]:
            if row["blamed"]:
                why = _words(row["loss"], spike["above"]["loss"]["usual"])
                reasons.setdefault(row["source"], f"{why} in step {spike['step']} of the run {run.name}")
    rows, limit = rows_of_run(run)
    for one in rows:
        if one.excess > limit:
            why = f"{_words(one.loss, one.usual)} seen {times(one.times)} in the run {run.name}"
            reasons.setdefault(one.source, why)
    return reasons


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count} times"


def _words(loss: float, usual: float) -> str:
    return f"loss {loss:.3g} a token, usual are {usual:.3g},"
