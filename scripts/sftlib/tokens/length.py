"""What happens to examples longer than model.max_seq_len: chosen once, here, before anything is trained, and counted.

- `drop`: the example is left out.
- `end`: its end is cut off and `is_complete` turns false. Its labels simply end: no end-of-turn is taught at the cut.
  An example whose supervised tokens were all behind the cut is left out.
Either way an example that has no supervised token to begin with is left out: it would only cost time.

    apply_length_policy([Example of 3 tokens, Example of 9], max_seq_len=4, policy="drop")
    ->  [Example of 3 tokens], LengthReport(rows=2, rows_dropped=1, tokens_lost=9, ...)

Worst bug: an answer that ends where it was cut (tests/tokens/test_length.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ..units import percent
from .examples import Example

NAMED = 5  # sources named a reason: enough to look them up, few enough for one screen


@dataclass(slots=True)
class LengthReport:
    """Rows and tokens before the policy and what it took, with the sources of the first rows of each kind."""

    max_seq_len: int
    policy: Literal["drop", "end"]
    rows: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    longest: int = 0
    rows_dropped: int = 0  # too long
    rows_cut: int = 0
    rows_without_supervision: int = 0
    tokens_lost: int = 0
    supervised_tokens_lost: int = 0
    sources: dict[str, list[str]] = field(default_factory=dict)

    @property
    def rows_kept(self) -> int:
        """How many rows are trained."""
        return self.rows - self.rows_dropped - self.rows_without_supervision

    def table(self) -> list[tuple[str, int, str, str]]:
        """Rows for `console.table`: what, how many, share, where."""
        return [
            ("rows", self.rows, "", f"longest: {self.longest} tokens"),
            self._line(f"too long for {self.max_seq_len}, dropped", self.rows_dropped, self.rows, "dropped"),
            self._line(f"cut at {self.max_seq_len}", self.rows_cut, self.rows, "cut"),
            self._line("nothing to train, dropped", self.rows_without_supervision, self.rows, "unsupervised"),
            self._line("rows kept", self.rows_kept, self.rows),
            ("tokens", self.tokens, "", ""),
            self._line("tokens lost", self.tokens_lost, self.tokens),
            self._line("supervised tokens", self.supervised_tokens, self.tokens),
            self._line("supervised tokens lost", self.supervised_tokens_lost, self.supervised_tokens),
        ]

    def name(self, kind: str, source: str) -> None:
        """Keep the source of a row for the table, if it is one of the first of its kind."""
        named = self.sources.setdefault(kind, [])
        if len(named) < NAMED:
            named.append(source)

    def _line(self, what: str, count: int, whole: int, kind: str = "") -> tuple[str, int, str, str]:
        named = self.sources.get(kind, [])
        more = ", ..." if count > len(named) > 0 else ""
        return what, count, percent(count, whole), ", ".join(named) + more


def apply_length_policy(
    examples: Iterable[Example], max_seq_len: int, policy: Literal["drop", "end"]
) -> tuple[list[Example], LengthReport]:
    """The examples that are trained, in order, and what became of the others. None is changed in place."""
    report = LengthReport(max_seq_len, policy)
    kept: list[Example] = []
    for example in examples:
        length, supervised = len(example.input_ids), example.supervised
        report.rows += 1
        report.tokens += length
        report.supervised_tokens += supervised
        report.longest = max(report.longest, length)
        result = _apply(example, max_seq_len, policy, report)
        if result is not None:
            kept.append(result)
        report.tokens_lost += length - (len(result.input_ids) if result else 0)
        report.supervised_tokens_lost += supervised - (result.supervised if result else 0)
    return kept, report


def _apply(example: Example, max_seq_len: int, policy: Literal["drop", "end"], report: LengthReport) -> Example | None:
    too_long = len(example.input_ids) > max_seq_len
    if too_long and policy == "drop":
        report.rows_dropped += 1
        report.name("dropped", example.source)
        return None
    if too_long:
        example = Example(
            example.input_ids[:max_seq_len], example.labels[:max_seq_len], example.source, False,
            example.straddling, example.stray_ends,
        )  # fmt: skip
    if not example.supervised:
        report.rows_without_supervision += 1
        report.name("unsupervised", example.source)
        return None
    if too_long:
        report.rows_cut += 1
        report.name("cut", example.source)
    return example
