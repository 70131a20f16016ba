"""What one comparison of a bench is about: written down once by who prepares it, and checked against by who runs it.

In comes what build_bench*.py settled; out goes work.json, and of it the job that a runner reads: nothing but JSON, as
another environment reads it. Each kind of comparison is a class of its own (training.py, generation.py, ...)
with its columns, its checks, and who takes part in it.

    work.job(folder, check=False, options={"packing": True})["options"]  ->  {"packing": True}

Worst bug: a peer that is told of other work than we (tests/bench/test_training.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..files import write_json
from .running import SECONDS, Ran, run

if TYPE_CHECKING:
    from .entrants import Entrant

__all__ = ["CONFIG", "FILE", "MEMORY", "SECONDS", "WHOLE", "Column", "Work", "unequal"]

FILE = "work.json"
CONFIG = "config.yaml"  # of ours, beside work.json


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: the median over the runs of `value`, a number that a run reports or that was found later.

    is_compared: its ratio to the first line follows, above 1 where the first line is less. with_spread: and its spread.
    """

    header: str
    value: str
    form: str = ".1f"
    is_compared: bool = False
    with_spread: bool = False


WHOLE = Column("whole command, s", "process_seconds", is_compared=True)
MEMORY = Column("peak GiB", "peak_gib", ".2f", is_compared=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One comparison.

    Args:
        folder: its own, absolute.
        label: tells it from others of the same bench; empty when there is none.
        device: that it ran on, in words.
    """

    folder: str
    label: str = ""
    device: str

    columns: ClassVar[tuple[Column, ...]]
    is_checked: ClassVar[bool] = False  # whether a check of everyone comes before the rounds
    is_judged: ClassVar[bool] = False  # whether what comes out is judged by a process of ours
    starts: ClassVar[int] = 1  # in the same folder: what a second start takes is `again`

    def write(self) -> None:
        """Write it down in its folder."""
        write_json(Path(self.folder) / FILE, {"kind": type(self).__name__, **asdict(self)})

    @property
    def said(self) -> str:
        """The work in words."""
        raise NotImplementedError

    def entrants(self) -> Sequence[Entrant]:
        """All who take part, in the order of the table; all but the first may be left out."""
        raise NotImplementedError

    def own_check(self) -> dict[str, Any] | None:
        """What a check would find of us, where our own figures are what the others are checked against."""
        return None

    def job(self, folder: Path, *, check: bool, options: Mapping[str, Any]) -> dict[str, Any]:
        """What a runner is told; `options` are its entrant's own."""
        return {
            "kind": type(self).__name__, "check": check, "folder": str(folder), "report": str(folder / "report.json"),
            "config": str(Path(self.folder) / CONFIG), "options": dict(options),
        }  # fmt: skip

    def measure(self, entrant: Entrant, folder: Path, *, check: bool) -> Ran:
        """What an entrant does, measured: one run of it."""
        return run(entrant, self, folder, check=check)

    def found_in_check(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """What of a check's report is for the table."""
        return {}

    def faults_of_check(self, report: Mapping[str, Any]) -> list[str]:
        """What is wrong before anything is timed."""
        return []

    def further(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """What follows from a run's report."""
        return {}

    def faults_of_run(self, report: Mapping[str, Any]) -> list[str]:
        """What makes a run no comparison."""
        return []

    def outcomes(self, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """What came out of everyone's last run, by name; seen when all have run."""
        return {}

    def faults_of_outcome(self, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
        """What came out against what came out of ours."""
        return []

    @property
    def remarks(self) -> list[str]:
        """What stands below the table."""
        return []


def unequal(what: str, found: Any, expected: Any) -> list[str]:
    """A fault in words, unless both are equal."""
    return [] if found == expected else [f"{what}: {found}, {expected} expected"]
