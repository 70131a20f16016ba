"""The comparison on a GPU: QLoRA of given shapes on rows of given lengths, and the longest row that 8 GiB can train.

The weights are random, so there is no loss to compare; rows and supervised tokens are. Peak memory is that of PyTorch's
allocator on the card, as each side's own process reports it.

    work.measure(entrant, folder, check=False).report["longest"]  ->  16384     of a `Longest`, by bisection

Worst bug: a length that is said to fit because nothing was trained (tests/bench/test_card.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .. import console
from ..files import write_json
from .entrants import OURS, PEERS, SCRIPTS, Entrant
from .running import Ran, run
from .training import MakeTrain, Trained, make_train
from .work import SECONDS, WHOLE, Column, Work, unequal

ON_CARD = Column("peak GiB on the card", "gpu_gib", ".2f", is_compared=True)
PEERS_ON_A_CARD = (
    Entrant("trl", "TRL SFTTrainer, its defaults", PEERS / "with_trl.py", "trl"),
    Entrant("trl-fast", "TRL, no checkpointing, grouped by length", PEERS / "with_trl.py", "trl",
            {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"}),
    Entrant("unsloth", "Unsloth", PEERS / "with_unsloth.py", "unsloth"),
)  # fmt: skip


def rows_of(length: int) -> str:
    """The rows of a length as peers read them; ours are `train-` and their config `config-` of the same length."""
    return f"rows-{length}.jsonl"


class CappedTrain(MakeTrain):
    """`make train` in a process that may hold so much of the card."""

    __slots__ = ()

    def command(self, work: Work, folder: Path, *, check: bool) -> list[str]:
        """The same arguments, through scripts/bench.py."""
        python, runner, *arguments = MakeTrain.command(self, work, folder, check=check)
        told = work.job(folder, check=check, options=self.options) | {"script": runner, "arguments": arguments}
        write_json(folder / "job.json", told)
        return [python, str(SCRIPTS / "bench.py"), "--job", str(folder / "job.json")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card(Trained):
    """A training at a length."""

    columns: ClassVar[tuple[Column, ...]] = (
        Column("training, s", SECONDS, is_compared=True, with_spread=True),
        Column("tokens/s", "tokens_per_second", ".0f"), ON_CARD, WHOLE,
    )  # fmt: skip

    def entrants(self) -> Sequence[Entrant]:
        """We and those that train on a GPU."""
        return [make_train("SFT-Play, `make train`"), *PEERS_ON_A_CARD]


@dataclass(frozen=True, slots=True, kw_only=True)
class Longest(Trained):
    """One row a step, as long as it may be. lengths: those tried, ascending. limit_gib: of the card."""

    lengths: Sequence[int]
    limit_gib: float

    columns: ClassVar[tuple[Column, ...]] = (
        Column("longest row that trains, tokens", "longest", ".0f"), ON_CARD, Column("step, s", "step_seconds", ".2f"),
    )  # fmt: skip

    @property
    def said(self) -> str:
        """Limit and lengths."""
        tried = ", ".join(map(str, self.lengths))
        return f"{self.limit_gib:g} GiB of the card, {self.rows} steps of one row; tried: {tried}"

    def entrants(self) -> Sequence[Entrant]:
        """We and those that train on a GPU."""
        ours = CappedTrain(OURS, "SFT-Play, `make train`", SCRIPTS / "train.py")
        return [ours, *(one for one in PEERS_ON_A_CARD if one.name != "trl-fast")]

    def job(self, folder: Path, *, check: bool, options: Mapping[str, Any]) -> dict[str, Any]:
        """What a runner is told: of the rows those of its length, and how much of the card it may hold."""
        told = {name: value for name, value in options.items() if name != "length"}
        length = options["length"]
        return Trained.job(self, folder, check=check, options=told) | {
            "rows": str(Path(self.folder) / rows_of(length)), "max_length": length, "limit_gib": self.limit_gib,
        }  # fmt: skip

    def measure(self, entrant: Entrant, folder: Path, *, check: bool) -> Ran:
        """The longest of the lengths at which it trains, found by bisection."""
        low, high, found = 0, len(self.lengths), Ran(error="no length was tried")
        failed = ""
        while low < high:
            middle = (low + high) // 2
            length = self.lengths[middle]
            files = {"config": f"config-{length}.yaml", "rows": f"train-{length}.jsonl"}
            trial = dataclasses.replace(
                entrant, options={**entrant.options, "length": length},
                **(files if isinstance(entrant, MakeTrain) else {}),
            )  # fmt: skip
            ran = run(trial, self, folder / str(length), check=check)
            if not ran.error and self.faults_of_run(ran.report):
                return ran  # it did something else, which the campaign names
            console.note(f"{entrant.name}, {length} tokens: {ran.error or 'trains'}")
            if ran.error:
                high, failed = middle, ran.error
            else:
                ran.report["longest"] = length
                low, found = middle + 1, ran
        if found.error:
            return Ran(error=failed)
        found.report["stopped_by"] = failed
        return found

    def further(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Seconds of a step."""
        return {"step_seconds": report[SECONDS] / report["steps"]}

    def faults_of_run(self, report: Mapping[str, Any]) -> list[str]:
        """How many rows were trained on; how many tokens count is another number at each length."""
        return unequal("rows", report.get("rows"), self.rows)
