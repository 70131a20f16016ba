"""What happens to examples longer than model.max_seq_len: chosen once, here, before anything is trained, and counted.

- `drop`: the example is left out.
- `end`: its end is cut off and `is_complete` turns false. Its labels simply end: no end-of-turn is taught at the cut.
  An example whose supervised tokens were all behind the cut is left out.
Either way an example that has no supervised token to begin with is left out: it would only cost time.

    apply_length_policy(ExampleTable.of([Example of 3 tokens, Example of 9]), max_seq_len=4, policy="drop")
    ->  ExampleTable of the first, LengthReport(rows=2, rows_dropped=1, tokens_lost=9, ...)

Worst bug: an answer that ends where it was cut (tests/tokens/test_length.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from .examples import Example
from .table import ExampleTable

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

    def add_sums(self, examples: ExampleTable, kept: np.ndarray, lengths: np.ndarray, supervised: np.ndarray) -> None:
        """Count rows and tokens; lengths and supervised: of all rows, as the policy leaves them."""
        self.rows = len(examples)
        self.tokens, self.supervised_tokens = int(examples.lengths.sum()), int(examples.supervised.sum())
        self.longest = int(examples.lengths.max(initial=0))
        self.tokens_lost = self.tokens - int(lengths[kept].sum())
        self.supervised_tokens_lost = self.supervised_tokens - int(supervised[kept].sum())

    def name_rows(self, kind: str, rows: np.ndarray, examples: ExampleTable) -> int:
        """Keep the sources of the first rows of a kind; return how many there are."""
        places = np.flatnonzero(rows)
        if len(places):
            self.sources[kind] = [examples.source(int(place)) for place in places[:NAMED]]
        return len(places)


def apply_length_policy(
    examples: ExampleTable, max_seq_len: int, policy: Literal["drop", "end"]
) -> tuple[ExampleTable, LengthReport]:
    """The examples that are trained, in order, and what became of the others. None is changed in place."""
    too_long = examples.lengths > max_seq_len
    lengths = np.minimum(examples.lengths, max_seq_len)
    supervised = examples.supervised_before(lengths)
    dropped = too_long & (policy == "drop")
    unsupervised = ~dropped & (supervised == 0)
    kept = ~dropped & ~unsupervised
    report = LengthReport(max_seq_len, policy)
    report.add_sums(examples, kept, lengths, supervised)
    report.rows_dropped = report.name_rows("dropped", dropped, examples)
    report.rows_without_supervision = report.name_rows("unsupervised", unsupervised, examples)
    report.rows_cut = report.name_rows("cut", too_long & kept, examples)
    return examples.select(kept, lengths, supervised, partial(_cut, max_seq_len=max_seq_len)), report


def _cut(example: Example, max_seq_len: int) -> Example:
    if len(example.input_ids) <= max_seq_len:
        return example
    return Example(
        example.input_ids[:max_seq_len], example.labels[:max_seq_len], example.source, False, example.straddling,
        example.stray_ends,
    )  # fmt: skip
