"""What happens to examples longer than model.max_seq_len: chosen once, here, before anything is trained, and counted.

- `drop`: the example is left out.
- `truncate`: its end is cut off and `is_complete` turns false. Its labels simply end: no end-of-turn is taught at the
  cut. With the side `start` its last tokens stay, behind the BOS where it begins with one; its end is taught.
  An example whose supervised tokens were all cut off is left out.
- `truncate_turns`, `split`: what can be kept is rendered anew on the way to the table (shortening.py), and is only
  counted here.
Always an example that has no supervised token to begin with is left out: it would only cost time.

    apply_length_policy(ExampleTable.of([Example of 3 tokens, Example of 9]), LengthPolicy(max_seq_len=4))
    ->  ExampleTable of the first, LengthReport(rows=2, rows_dropped=1, tokens_lost=9, ...)

Worst bug: an answer that ends where it was cut (tests/tokens/test_length.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from .examples import IGNORED, Example
from .remarks import NAMED, Found
from .table import ExampleTable

Policy = Literal["drop", "truncate", "split", "truncate_turns"]
LEAST_ROOM = 16  # tokens of an answer: a short sentence
LEAST_SHARE = 8  # of an example: beside a longer prompt each part of an answer would pay for seven times itself


@dataclass(frozen=True, slots=True)
class LengthPolicy:
    """How long an example may be, and what happens to longer ones.

    side: what `truncate` takes. max_target_len: of an encoder-decoder's answer, where max_seq_len is of its input; None
    of a causal model. bos_id: kept at the start where `truncate` takes that.
    """

    max_seq_len: int
    policy: Policy = "drop"
    side: Literal["end", "start"] = "end"
    max_target_len: int | None = None
    bos_id: int | None = None

    @property
    def needs_template(self) -> bool:
        """Whether it acts on the way to the table, so that the table depends on it."""
        return self.policy in ("split", "truncate_turns")

    @property
    def least_room(self) -> int:
        """Tokens that a prompt must leave for a part of its answer."""
        return max(LEAST_ROOM, self.max_seq_len // LEAST_SHARE)


@dataclass(slots=True)
class LengthReport:
    """Rows and tokens before the policy and what it took, with the sources of the first rows of each kind.

    examples: what the rows became; more than are kept where rows are split. repeated: tokens of prompts and context
    that stand in several of these.
    """

    limits: LengthPolicy
    rows: int = 0
    examples: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    longest: int = 0
    rows_dropped: int = 0  # too long
    rows_cut: int = 0
    rows_split: int = 0
    rows_turned: int = 0
    rows_without_supervision: int = 0
    chunks: int = 0
    turns_lost: int = 0
    repeated: int = 0
    tokens_lost: int = 0
    supervised_tokens_lost: int = 0
    sources: dict[str, list[str]] = field(default_factory=dict)

    @property
    def rows_kept(self) -> int:
        """How many rows are trained, whole or in part."""
        return self.rows - self.rows_dropped - self.rows_without_supervision

    @property
    def longest_shown(self) -> int | str:
        """The longest row, as the table has it."""
        return self.longest

    @property
    def limit(self) -> str:
        """What a row may have, in words."""
        return f"{self.limits.max_seq_len} tokens"

    def kinds(self) -> list[tuple[str, int, str]]:
        """For each kind of row that is not trained whole: its name, how many, and what became of them."""
        most = f"{self.limits.max_seq_len} tokens (model.max_seq_len)"
        dropped = {
            "split": f"dropped, as the prompt leaves less than {self.limits.least_room} of {most} for the answer",
            "truncate_turns": f"dropped, as the last turn alone is longer than {most}",
        }
        became = f"{self.chunks} example{'s' if self.chunks != 1 else ''}"
        turns = f"{self.turns_lost} oldest turns" if self.turns_lost != 1 else "its oldest turn"
        return [
            ("dropped", self.rows_dropped, dropped.get(self.limits.policy, f"longer than {most} and dropped")),
            ("cut", self.rows_cut, f"longer than {most} and cut at the {self.limits.side}"),
            ("split", self.rows_split, f"longer than {most} and split into {became} ({self.repeated} tokens of prompts "
             "and context are repeated)"),
            ("turned", self.rows_turned, f"longer than {most} and trained without {turns}, the system message kept"),
            self.unsupervised(),
        ]  # fmt: skip

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
        self.rows, self.examples = len(examples), int(kept.sum())
        self.tokens, self.supervised_tokens = int(examples.lengths.sum()), int(examples.supervised.sum())
        self.longest = int(examples.lengths.max(initial=0))
        self.tokens_lost = self.tokens - int(lengths[kept].sum())
        self.supervised_tokens_lost = self.supervised_tokens - int(supervised[kept].sum())

    def add_shortened(self, examples: ExampleTable) -> None:
        """Count what became of the rows that were too long on the way to the table."""
        found = examples.remarks.shortened
        made = sum(found.made.values())
        self.rows += sum(found.whole.values()) - made
        self.tokens += sum(length * rows for length, rows in found.whole.items())
        self.tokens -= sum(length * rows for length, rows in found.made.items())
        self.supervised_tokens += found.supervised - found.supervised_made
        self.longest = max(self.longest, *found.whole, 0)
        self.tokens_lost += found.tokens_lost
        self.supervised_tokens_lost += found.supervised_lost
        self.repeated, self.turns_lost = found.repeated, found.turns_lost
        self.chunks = made if found.split.count else 0
        self.rows_dropped += self._name("dropped", found.dropped)
        self.rows_split = self._name("split", found.split)
        self.rows_turned = self._name("turned", found.turned)
        self.rows_without_supervision += self._name("unsupervised", found.untaught)

    def name_rows(self, kind: str, rows: np.ndarray, examples: ExampleTable) -> int:
        """Keep the sources of the first rows of a kind; return how many there are."""
        places = np.flatnonzero(rows)
        if len(places):
            self.sources[kind] = [examples.source(int(place)) for place in places[:NAMED]]
        return len(places)

    def _name(self, kind: str, found: Found) -> int:
        if found.count:
            self.sources[kind] = [*self.sources.get(kind, []), *found.first][:NAMED]
        return found.count


def apply_length_policy(examples: ExampleTable, limits: LengthPolicy) -> tuple[ExampleTable, LengthReport]:
    """The examples that are trained, in order, and what became of the others. None is changed in place."""
    longest = limits.max_seq_len
    too_long = examples.lengths > longest
    lengths = np.minimum(examples.lengths, longest)
    if limits.side == "start":  # of what is kept, the first is not trained: it is the BOS, or nothing predicts it
        first = np.where(too_long, examples.lengths - longest + 1, 0)
        supervised = examples.supervised - examples.supervised_before(first)
    else:
        supervised = examples.supervised_before(lengths)
    dropped = too_long & (limits.policy != "truncate")
    unsupervised = ~dropped & (supervised == 0)
    kept = ~dropped & ~unsupervised
    report = LengthReport(limits)
    report.add_sums(examples, kept, lengths, supervised)
    report.rows_dropped = report.name_rows("dropped", dropped, examples)
    report.rows_without_supervision = report.name_rows("unsupervised", unsupervised, examples)
    report.rows_cut = report.name_rows("cut", too_long & kept, examples)
    if limits.needs_template:
        report.add_shortened(examples)
    return examples.select(kept, lengths, supervised, partial(_cut, limits=limits)), report


def whole_lengths(examples: ExampleTable) -> list[int]:
    """How many tokens each row had before any policy, those that were shortened on the way too; in any order.

    Of an encoder-decoder its input, which model.max_seq_len is of.
    """
    lengths = np.where(examples.decoder_at, examples.decoder_at, examples.lengths).tolist()
    found = examples.remarks.shortened
    if not found.whole:
        return lengths
    return sorted((Counter(lengths) - Counter(found.made) + Counter(found.whole)).elements())


def _cut(example: Example, limits: LengthPolicy) -> Example:
    ids, labels, longest = example.input_ids, example.labels, limits.max_seq_len
    if len(ids) <= longest:
        return example
    if limits.side == "end":
        return Example(ids[:longest], labels[:longest], example.source, False, example.straddling, example.stray_ends)
    first = ids[0] if ids[0] == limits.bos_id else ids[-longest]
    kept = len(ids) - longest + 1
    return Example(
        [first, *ids[kept:]], [IGNORED, *labels[kept:]], example.source, example.is_complete, example.straddling,
        example.stray_ends,
    )  # fmt: skip
