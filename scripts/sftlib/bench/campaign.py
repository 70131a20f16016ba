"""The runs of a comparison in their order: a check of each peer, then rounds in which everyone runs once.

    campaign(work, entrants, rounds=3, folder)  ->  {"sft-play": Standing(...), "trl": Standing(...)}

A B C A B C, not A A B B C C: what slows the machine for a while slows everyone. Who fails a check or a run takes no
further part, and its standing says why.

Worst bug: a peer that is left out without a word (tests/bench/test_campaign.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import console
from ..files import write_json
from ..units import human_duration
from .entrants import OURS, Entrant
from .running import Ran
from .work import SECONDS, Work


@dataclass(slots=True)
class Standing:
    """An entrant: its runs, why it could not run, what makes its figures no comparison, what else was found of it."""

    entrant: Entrant
    runs: list[Ran] = field(default_factory=list)
    error: str = ""
    faults: list[str] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def is_in(self) -> bool:
        """Whether it goes on taking part."""
        return not self.error and not self.faults

    def take(self, error: str, faults: Sequence[str]) -> None:
        """Note an error or what was wrong, and say it."""
        self.error = self.error or error
        self.faults += [fault for fault in faults if fault not in self.faults]
        if error:
            console.warn(f"{self.entrant.name} cannot run here: {error}")
        for fault in faults:
            console.warn(f"{self.entrant.name} is no comparison: {fault}")


def campaign(work: Work, entrants: Sequence[Entrant], rounds: int, folder: Path) -> dict[str, Standing]:
    """Check everyone, then run all in turn; a standing for each, in order."""
    standings = {entrant.name: Standing(entrant) for entrant in entrants}
    for name, standing in standings.items() if work.is_checked else ():
        own = work.own_check() if name == OURS else None
        if own is not None:
            standing.found |= own
            continue
        ran = work.measure(standing.entrant, folder / "check" / name, check=True)
        standing.found |= work.found_in_check(ran.report)
        standing.take(ran.error, [] if ran.error else work.faults_of_check(ran.report))
        if standing.is_in:
            console.note(f"{name}: checked in {human_duration(ran.process_seconds)}")
    for number in range(1, rounds + 1):
        for name, standing in standings.items():
            if not standing.is_in:
                continue
            ran = work.measure(standing.entrant, folder / f"round-{number}" / name, check=False)
            standing.take(ran.error, [] if ran.error else work.faults_of_run(ran.report))
            if standing.is_in:
                ran.report.update(work.further(ran.report))
                standing.runs.append(ran)
                timed = f"{human_duration(ran.report[SECONDS])}, " if SECONDS in ran.report else ""
                console.note(
                    f"round {number}, {name}: {timed}{human_duration(ran.process_seconds)} in all, "
                    f"{ran.peak_gib:.2f} GiB"
                )
    return standings


def write_adapters(standings: Mapping[str, Standing], folder: Path) -> None:
    """What is judged: the adapter of everyone's last run. Those of a peer's other rounds differ by rounding alone."""
    adapters = {name: one.runs[-1].report["adapter"] for name, one in standings.items() if one.runs}
    write_json(folder / "adapters.json", adapters)


def take_outcomes(standings: Mapping[str, Standing], work: Work) -> None:
    """See what came out of the last runs, and compare everyone with us."""
    outcomes = work.outcomes({name: one.runs[-1].report for name, one in standings.items() if one.runs})
    for name, outcome in outcomes.items():
        standings[name].found |= outcome
        standings[name].take("", work.faults_of_outcome(outcomes.get(OURS, outcome), outcome))
