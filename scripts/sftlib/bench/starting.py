"""How long commands take until they are of use: `--help` of each script, `make check`, the second start of a training.

There is no peer: ratios would compare commands with each other. A check before the rounds runs everything once, so that
files and caches are warm.

Worst bug: a command that fails and counts as fast (tests/bench/test_starting.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .entrants import SCRIPTS, Entrant
from .work import CONFIG, Column, Work

RUNS = "outputs"  # in the work's folder, with the token cache
HELP_SECONDS = 0.5  # what a `--help` may take


@dataclass(frozen=True, slots=True)
class Command(Entrant):
    """A script of ours with its arguments."""

    arguments: Sequence[str] = ()
    is_ours: ClassVar[bool] = True

    def command(self, work: Work, folder: Path, *, check: bool) -> list[str]:
        """The script itself."""
        return [str(self.python), str(self.runner), *self.arguments]

    def report(self, work: Work, folder: Path, began: float) -> dict[str, Any]:
        """Nothing but that it ended well: what it took is seen from outside."""
        return {"versions": {}}


class FirstStep(Command):
    """scripts/train.py until its first step is done; the token cache is that of the runs before."""

    __slots__ = ()

    def command(self, work: Work, folder: Path, *, check: bool) -> list[str]:
        """A run of one step under a name of its own: check, round-1, round-2, ..."""
        command = Command.command(self, work, folder, check=check)
        return [*command, "--set", f"run_name={folder.parent.name}"]

    def report(self, work: Work, folder: Path, began: float) -> dict[str, Any]:
        """From the start of the process to the record of the step."""
        records = Path(work.folder) / RUNS / folder.parent.name / "metrics.jsonl"
        return {"versions": {}, "until_step": records.stat().st_mtime - began}


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting(Work):
    """The commands; `check` and `train` see a config of one step. model: the folder; rows: of the data."""

    model: str
    rows: int

    columns: ClassVar[tuple[Column, ...]] = (
        Column("whole command, s", "process_seconds", ".2f", with_spread=True),
        Column("until the first step, s", "until_step", ".2f"), Column("peak GiB", "peak_gib", ".2f"),
    )  # fmt: skip
    is_checked: ClassVar[bool] = True

    @property
    def said(self) -> str:
        """What is there."""
        return f"warm files; `check` and `train` with {Path(self.model).name} and {self.rows} rows, tokens cached"

    def entrants(self) -> Sequence[Entrant]:
        """Every script's help, then what loads a model."""
        config = ["--config", str(Path(self.folder) / CONFIG)]
        return [
            *(
                Command(f"help-{path.stem}", f"`{path.name} --help`", path, arguments=["--help"])
                for path in sorted(SCRIPTS.glob("*.py"))
            ),
            Command("check", "`make check`", SCRIPTS / "check.py", arguments=config),
            FirstStep("train", "`make train`, cached, to its first step", SCRIPTS / "train.py",
                      arguments=config),
        ]  # fmt: skip

    @property
    def remarks(self) -> list[str]:
        """What is promised."""
        return [f"Promised: `--help` within {HELP_SECONDS:g} s."]
