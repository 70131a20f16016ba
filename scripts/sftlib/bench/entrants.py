"""Who takes part in a bench: an entrant is a command, what it is told, and where its report is.

    find_entrants(TRAINING, ["trl", "trl-fast"], {"trl": Path("/tmp/peers/trl")})   -> [sft-play, trl, trl-fast]

A peer is a runner (scripts/peers/), the environment that it runs in and options of its own. What is ours runs as a user
runs it, where there is a command for it (`make train`), else through scripts/bench.py (`Ourselves`).

Worst bug: a peer that runs in our environment, with our versions (tests/bench/test_entrants.py).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import UsageError
from ..files import ROOT, read_json, write_json

if TYPE_CHECKING:
    from .work import Work

OURS = "sft-play"
OWN = ""  # the environment of a peer that needs no other packages than ours
NONE = "none"  # the name of no peer: we alone
SCRIPTS = ROOT / "scripts"
PEERS = SCRIPTS / "peers"


@dataclass(frozen=True, slots=True)
class Entrant:
    """One that takes part. `environment`: the name of a requirements-bench-<name>.txt, or OWN; `python`: of it."""

    name: str
    title: str
    runner: Path
    environment: str = OWN
    options: Mapping[str, Any] = field(default_factory=dict)
    python: Path = Path(sys.executable)
    is_ours: ClassVar[bool] = False

    def command(self, work: Work, folder: Path, *, check: bool) -> list[str]:
        """The command of one run in `folder`, whose job is written there."""
        write_json(folder / "job.json", work.job(folder, check=check, options=self.options))
        return [str(self.python), str(self.runner), str(folder / "job.json")]

    def report(self, work: Work, folder: Path, began: float) -> dict[str, Any]:
        """What a run in `folder`, begun at this time.time(), reports. OSError or ValueError when it left no report."""
        return read_json(folder / "report.json")


class Ourselves(Entrant):
    """A job of ours that no command of a user's does alone."""

    __slots__ = ()
    is_ours = True

    def command(self, work: Work, folder: Path, *, check: bool) -> list[str]:
        """scripts/bench.py with the job."""
        python, runner, job = Entrant.command(self, work, folder, check=check)
        return [python, runner, "--job", job]


def ourselves(title: str, name: str = OURS, **options: Any) -> Ourselves:
    """We, in a comparison."""
    return Ourselves(name, title, SCRIPTS / "bench.py", options=options)


def find_entrants(everyone: Sequence[Entrant], names: Sequence[str], environments: Mapping[str, Path]) -> list[Entrant]:
    """We, and the peers of these names (all without any). environments: folders of those that are elsewhere."""
    chosen = [one for one in everyone if one.is_ours or not names or one.name in names]
    return [_in_its_environment(entrant, environments) for entrant in chosen]


def check_names(names: Sequence[str], everyone: Sequence[Entrant]) -> None:
    """UsageError for a name that none of all who may take part in a workload has."""
    known = list(dict.fromkeys(entrant.name for entrant in everyone if not entrant.is_ours))
    if odd := [name for name in names if name not in (*known, NONE)]:
        raise UsageError(f"There is no peer {odd[0]!r}.", where="--peers", expected=", ".join([*known, NONE]))


def check_environments(environments: Mapping[str, Path]) -> None:
    """UsageError for one that no peer runs in."""
    given = sorted(path.stem.removeprefix("requirements-bench-") for path in ROOT.glob("requirements-bench-*.txt"))
    if strange := sorted(set(environments) - set(given)):
        raise UsageError(
            f"No peer runs in an environment {strange[0]!r}.", where="--environment",
            expected=f"NAME=FOLDER, with a name of {', '.join(given)}",
        )  # fmt: skip


def _in_its_environment(entrant: Entrant, environments: Mapping[str, Path]) -> Entrant:
    if entrant.environment == OWN:
        return entrant
    folder = environments.get(entrant.environment, ROOT / f".venv-bench-{entrant.environment}")
    python = folder / "bin" / "python"  # not resolved: the link says which environment it is
    return dataclasses.replace(entrant, python=python)


def spelled(options: Mapping[str, Any]) -> str:
    """Options for a table."""
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in options.items())
