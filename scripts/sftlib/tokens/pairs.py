"""Examples for an encoder-decoder: what the encoder reads, then what the decoder reads, in one sequence.

In: rendered pairs and the id that the decoder begins with. Out: `Example`s whose `decoder_at` says where the decoder's
part begins, so that counting, caching, showing and ordering are those of any example; lengths and micro-batches look at
both parts. The prompt ends with its end-of-text, so that both parts are the same ids joined or apart.

    text     2+2?   </s>      4    </s>
    ids      5 6 7  1      0  8    1          0: the decoder's start, T5's padding
    labels   - - -  -      -  8    1          decoder_at 4

The decoder is given its part as it stands and learns at each place what follows: T5's own shift of the labels.

Worst bug: the encoder sees the answer (tests/tokens/test_encoded_pairs.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..chat.pairs import last_pair
from ..chat.rendering import Rendered
from .encoding import encode
from .examples import IGNORED, Example
from .length import LengthPolicy, LengthReport
from .table import ExampleTable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(slots=True)
class PairLengthReport(LengthReport):
    """The same for pairs: the limits' `max_seq_len` is of the encoder's part, `max_target_len` of the answer."""

    longest_input: int = 0
    longest_target: int = 0
    long_inputs: int = 0
    long_targets: int = 0

    @property
    def longest_shown(self) -> str:
        return f"{self.longest_input} + {self.longest_target}"

    @property
    def limit(self) -> str:
        return f"{self.limits.max_seq_len} tokens of input or {self.limits.max_target_len} of answer"

    def kinds(self) -> list[tuple[str, int, str]]:
        limits, is_dropped = self.limits, self.limits.policy == "drop"
        side = "dropped" if is_dropped else f"cut at the {limits.side}"
        end = "dropped" if is_dropped else "cut at the end"
        return [
            ("input", self.long_inputs,
             f"with an input longer than {limits.max_seq_len} tokens (model.max_seq_len), and {side}"),
            ("target", self.long_targets,
             f"with an answer longer than {limits.max_target_len} tokens (model.max_target_len), and {end}"),
            self.unsupervised(),
        ]  # fmt: skip


def encode_pairs(rendered: Iterable[Rendered], tokenizer: PreTrainedTokenizerBase, start_id: int) -> Iterator[Example]:
    """An example of each text's last answer, in order."""
    joined = (
        Rendered(pair.input + pair.target, ((len(pair.input), len(pair.input) + len(pair.target)),), pair.source)
        for pair in map(last_pair, rendered)
    )
    return (_with_start(example, start_id) for example in encode(joined, tokenizer))


def apply_pair_length_policy(examples: ExampleTable, limits: LengthPolicy) -> tuple[ExampleTable, PairLengthReport]:
    """The examples that are trained, in order, and what became of the others.

    `truncate` takes the side of the input that it is asked to, but its end-of-text, and of an answer the end.
    """
    max_seq_len, max_target_len = limits.max_seq_len, limits.max_target_len
    assert max_target_len is not None, "limits of a causal model"
    given = examples.decoder_at
    answers = examples.lengths - given - 1
    long_input, long_target = given > max_seq_len, answers > max_target_len
    too_long = long_input | long_target
    dropped = too_long & (limits.policy == "drop")
    unsupervised = ~dropped & (examples.supervised == 0)
    kept = ~dropped & ~unsupervised
    left = np.minimum(answers, max_target_len)
    lengths, supervised = np.minimum(given, max_seq_len) + 1 + left, examples.supervised_before(given + 1 + left)
    report = PairLengthReport(limits)
    report.add_sums(examples, kept, lengths, supervised)
    report.longest_input, report.longest_target = int(given.max(initial=0)), int(answers.max(initial=0))
    report.long_inputs = report.name_rows("input", long_input, examples)
    report.long_targets = report.name_rows("target", long_target, examples)
    report.rows_dropped = int(dropped.sum())
    report.rows_without_supervision = report.name_rows("unsupervised", unsupervised, examples)
    report.rows_cut = int((too_long & kept).sum())
    return examples.select(kept, lengths, supervised, partial(_cut, limits=limits)), report


def halves(example: Example) -> tuple[Example, Example]:
    """What the encoder reads and what the decoder reads."""
    at = example.decoder_at
    return (
        Example(example.input_ids[:at], example.labels[:at], example.source),
        Example(example.input_ids[at:], example.labels[at:], example.source),
    )


def _with_start(example: Example, start_id: int) -> Example:
    places = [place for place, label in enumerate(example.labels) if label != IGNORED]
    at = places[0] if places else len(example.input_ids)
    example.input_ids.insert(at, start_id)
    example.labels.insert(at, IGNORED)
    example.decoder_at = at
    return example


def _cut(example: Example, limits: LengthPolicy) -> Example:
    at, ids, labels, longest = example.decoder_at, example.input_ids, example.labels, limits.max_seq_len
    last = at + 1 + limits.max_target_len
    if at <= longest and len(ids) <= last:
        return example
    given = ids[:at]
    if at > longest:
        given = ids[at - longest : at] if limits.side == "start" else [*ids[: longest - 1], ids[at - 1]]
    return Example(
        given + ids[at:last], [IGNORED] * len(given) + labels[at:last], example.source, len(ids) <= last,
        example.straddling, example.stray_ends, len(given),
    )  # fmt: skip
