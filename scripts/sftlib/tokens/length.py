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

    @property
    def longest_shown(self) -> int | str:
        """The longest row, as the table has it."""
        return self.longest

    @property
    def limit(self) -> str:
        """What a row may have, in words."""
        return f"{self.max_seq_len} tokens"

    def kinds(self) -> list[tuple[str, int, str]]:
        """For each kind of row that is not trained whole: its name, how many, and what became of them."""
        return [
            ("dropped", self.rows_dropped, f"longer than {self.max_seq_len} tokens (model.max_seq_len) and dropped"),
            ("cut", self.rows_cut, f"longer than {self.max_seq_len} tokens (model.max_seq_len) and cut at the end"),
            self.unsupervised(),
        ]

    def unsupervised(self) -> tuple[str, int, str]:
        """The kind that every model has."""
        return "unsupervised", self.rows_without_supervision, "without a token to train, and dropped"

    def losses(self) -> list[str]:
        """A sentence for each kind of row that is not trained whole, with the first of them named."""
        said = []
        for kind, count, what in self.kinds():
            if count:
                named = self.sources[kind]
                more = ", ..." if count > len(named) else "."
                rows = f"{count} of {self.rows} rows {'is' if count == 1 else 'are'}"
                said.append(f"{rows} {what}: {', '.join(named)}{more}")
        return said

    def name(self, kind: str, source: str) -> None:
        """Keep the source of a row, if it is one of the first of its kind."""
        named = self.sources.setdefault(kind, [])
        if len(named) < NAMED:
            named.append(source)


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
