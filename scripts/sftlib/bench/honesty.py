"""Whether a comparison is one: what must be equal between us and a peer, and what must be no worse with us.

    faults_of_check(work, {"rows": 8, "supervised": 700, "loss": 2.7119})       -> []   before anything is timed
    faults_of_run(work, {"rows": 96, "supervised": 9000, ...})                  -> []
    faults_of_outcome(work, ours, theirs)                                       -> []   adapters judged by the same code

What is found is said in words and voids the ratio; no figure is repaired.

Worst bug: a check that cannot fail (tests/bench/test_honesty.py sees each fail).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .work import Work

FIRST_LOSS = 1e-3  # nats a token: in float32 the same tokens differ by 1e-5, one token more or less by 1e-2
FINAL_LOSS = 0.01  # nats a token: what the order of rows and another draw of the adapter move it by


@dataclass(frozen=True, slots=True)
class Outcome:
    """A saved adapter: its weights, and the loss with it on the unseen rows."""

    trainable: int
    unseen_loss: float


def faults_of_check(work: Work, report: Mapping[str, Any]) -> list[str]:
    """The first batch as a peer sees it, before training, against ours."""
    found = _unequal("rows of the first batch", report.get("rows"), min(work.batch, work.rows))
    found += _unequal("supervised tokens of the first batch", report.get("supervised"), work.first_supervised)
    loss = report.get("loss", float("nan"))
    if not abs(loss - work.first_loss) <= FIRST_LOSS:
        found.append(f"its loss of the first batch is {loss:.4f}, ours {work.first_loss:.4f}")
    return found


def faults_of_run(work: Work, report: Mapping[str, Any]) -> list[str]:
    """What was trained on."""
    found = _unequal("rows", report.get("rows"), work.rows)
    return found + _unequal("supervised tokens an epoch", report.get("supervised"), work.supervised)


def faults_of_outcome(work: Work, ours: Outcome, theirs: Outcome) -> list[str]:
    """What came out: a peer's adapter against ours, and both against the base."""
    found = _unequal("weights of the adapter", theirs.trainable, work.trainable)
    if not theirs.unseen_loss < work.unseen_loss:
        found.append(f"it learned nothing: {theirs.unseen_loss:.4f} on unseen rows, {work.unseen_loss:.4f} before")
    if not ours.unseen_loss <= theirs.unseen_loss + FINAL_LOSS:
        found.append(f"ours is worse on unseen rows: {ours.unseen_loss:.4f}, its {theirs.unseen_loss:.4f}")
    return found


def _unequal(what: str, found: Any, expected: int) -> list[str]:
    return [] if found == expected else [f"{what}: {found}, {expected} expected"]
