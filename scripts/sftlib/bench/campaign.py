"""The runs of a bench in their order: a check of each peer, then rounds in which everyone trains once.

    campaign(work, entrants, rounds=3, folder)  ->  {"sft-play": Standing(...), "trl": Standing(...)}

A B C A B C, not A A B B C C: what slows the machine for a while slows everyone. Who fails a check or a run takes no
further part, and its standing says why.

Worst bug: a peer that is left out without a word (tests/bench/test_campaign.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import console
from ..files import read_json, write_json
from ..units import human_duration
from .entrants import OURS, Entrant
from .honesty import Outcome, faults_of_check, faults_of_outcome, faults_of_run
from .running import Ran, run
from .work import Work


@dataclass(slots=True)
class Standing:
    """What an entrant did: its runs, why it could not run, what makes its figures no comparison, what came of it."""

    entrant: Entrant
    runs: list[Ran] = field(default_factory=list)
    error: str = ""
    faults: list[str] = field(default_factory=list)
    first_loss: float | None = None
    outcome: Outcome | None = None

    @property
    def is_in(self) -> bool:
        """Whether it goes on taking part."""
        return not self.error and not self.faults

    def take(self, ran: Ran, faults: Sequence[str]) -> None:
        """Note an error or what was wrong, and say it."""
        self.error = self.error or ran.error
        self.faults += [fault for fault in faults if fault not in self.faults]
        if ran.error:
            console.warn(f"{self.entrant.name} cannot run here: {ran.error}")
        for fault in faults:
            console.warn(f"{self.entrant.name} is no comparison: {fault}")


def campaign(work: Work, entrants: Sequence[Entrant], rounds: int, folder: Path) -> dict[str, Standing]:
    """Check every peer, then run all in turn; a standing for each, in order."""
    standings = {entrant.name: Standing(entrant) for entrant in entrants}
    for name, standing in standings.items():
        if name == OURS:  # it gave the values that peers are checked against
            standing.first_loss = work.first_loss
            continue
        ran = run(standing.entrant, work, folder / "check" / name, check=True)
        standing.first_loss = ran.report.get("loss")
        standing.take(ran, [] if ran.error else faults_of_check(work, ran.report))
        if standing.is_in:
            console.note(f"{name}: loss of the first batch {standing.first_loss:.4f}, ours {work.first_loss:.4f}")
    for number in range(1, rounds + 1):
        for name, standing in standings.items():
            if not standing.is_in:
                continue
            ran = run(standing.entrant, work, folder / f"round-{number}" / name, check=False)
            standing.take(ran, [] if ran.error else faults_of_run(work, ran.report))
            if standing.is_in:
                standing.runs.append(ran)
                console.note(
                    f"round {number}, {name}: {human_duration(ran.report['seconds'])} of training, "
                    f"{human_duration(ran.process_seconds)} in all, {ran.peak_gib:.2f} GiB"
                )
    return standings


def write_adapters(standings: Mapping[str, Standing], folder: Path) -> None:
    """What is judged: the adapter of everyone's last run. Those of a peer's other rounds differ by rounding alone."""
    adapters = {name: one.runs[-1].report["adapter"] for name, one in standings.items() if one.runs}
    write_json(folder / "adapters.json", adapters)


def take_outcomes(standings: Mapping[str, Standing], work: Work, folder: Path) -> None:
    """Read what the judge found, and compare everyone with us."""
    outcomes = {name: Outcome(**found) for name, found in read_json(folder / "outcomes.json").items()}
    for name, outcome in outcomes.items():
        standings[name].outcome = outcome
        standings[name].take(Ran(), faults_of_outcome(work, outcomes.get(OURS, outcome), outcome))
