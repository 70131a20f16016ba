"""The comparison of answering: the same prompts, greedily, by everyone; in float32 the answers are the same.

    work.faults_of_check({"answers": "answers.json", ...})   -> []   every answer in float32 is ours, letter by letter
    work.outcomes(reports)   -> {"one-by-one": {"identical": 0.98}, ...}   as many in the precision that is timed

In 16 bits the sums are rounded differently by the shape of a batch, and greedy decoding turns a near-tie into another
text (measure/generate.py): what differs there is counted and is no fault. A runner's clock begins when its model is
loaded.

Worst bug: a peer that answers other prompts, or stops elsewhere (tests/bench/test_generation.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..files import read_json
from .entrants import OURS, PEERS, Entrant, ourselves
from .work import MEMORY, SECONDS, WHOLE, Column, Work, unequal

PROMPTS, EXPECTED = "prompts.json", "expected.json"  # rendered texts; our answers to the first of them, in float32
ENTRANTS = (
    ourselves("SFT-Play, `make eval`'s answers"),
    Entrant("one-by-one", "transformers `generate`, one by one", PEERS / "with_generate.py"),
    Entrant("batched", "transformers `generate`, padded on the left", PEERS / "with_generate.py",
            options={"is_batched": True}),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation(Work):
    """What is asked.

    Args:
        model: the folder. dtype: that is timed, such as bfloat16; a check is in float32.
        prompts, checked: how many, and how many of them a check answers.
        max_new_tokens, batch: the longest answer, and answers at once. stop_ids: what ends one.
    """

    model: str
    dtype: str
    prompts: int
    checked: int
    max_new_tokens: int
    batch: int
    stop_ids: Sequence[int]

    columns: ClassVar[tuple[Column, ...]] = (
        Column("answering, s", SECONDS, is_compared=True, with_spread=True),
        Column("tokens/s", "tokens_per_second"), WHOLE, MEMORY,
        Column("identical in fp32", "identical_fp32", ".0%"), Column("identical as timed", "identical", ".0%"),
    )  # fmt: skip
    is_checked: ClassVar[bool] = True

    @property
    def said(self) -> str:
        """Prompts and model."""
        return (
            f"{self.prompts} prompts, up to {self.max_new_tokens} tokens each, greedy, batch {self.batch}; "
            f"{Path(self.model).name}, {self.dtype}; {self.checked} prompts checked in float32"
        )

    def entrants(self) -> Sequence[Entrant]:
        """We and transformers."""
        return ENTRANTS

    def own_check(self) -> dict[str, Any] | None:
        """The answers that others are checked against are ours."""
        return {"identical_fp32": 1.0}

    def job(self, folder: Path, *, check: bool, options: Mapping[str, Any]) -> dict[str, Any]:
        """What a runner is told."""
        return Work.job(self, folder, check=check, options=options) | {
            "model": self.model, "prompts": str(Path(self.folder) / PROMPTS),
            "most": self.checked if check else self.prompts, "dtype": "float32" if check else self.dtype,
            "max_new_tokens": self.max_new_tokens, "batch": self.batch, "stop_ids": list(self.stop_ids),
            "answers": str(folder / "answers.json"),
        }  # fmt: skip

    def found_in_check(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """The share of answers that are ours."""
        if "answers" not in report:
            return {}
        return {"identical_fp32": _identical(read_json(report["answers"]), read_json(Path(self.folder) / EXPECTED))}

    def faults_of_check(self, report: Mapping[str, Any]) -> list[str]:
        """In float32 nothing may differ."""
        found = read_json(report["answers"])
        faults = unequal("answers", len(found), self.checked)
        share = _identical(found, read_json(Path(self.folder) / EXPECTED))
        return faults or ([] if share == 1.0 else [f"of its answers in float32 {share:.0%} are ours"])

    def further(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Speed."""
        return {"tokens_per_second": report["tokens"] / report[SECONDS]}

    def faults_of_run(self, report: Mapping[str, Any]) -> list[str]:
        """Every prompt has an answer."""
        return unequal("answers", len(read_json(report["answers"])), self.prompts)

    def outcomes(self, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """How many answers of the timed runs are those of ours."""
        if OURS not in reports:
            return {}
        ours = read_json(reports[OURS]["answers"])
        return {name: {"identical": _identical(read_json(one["answers"]), ours)} for name, one in reports.items()}


def _identical(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """The share of equal answers, each its text and how many tokens it has."""
    return sum(one == other for one, other in zip(found, expected, strict=False)) / len(expected)
