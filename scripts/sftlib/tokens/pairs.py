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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .. import console
from ..chat.pairs import last_pair
from ..chat.rendering import Rendered
from .examples import IGNORED, Example, encode
from .length import NAMED, LengthReport

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(slots=True)
class PairLengthReport(LengthReport):
    """The same for pairs: `max_seq_len` is of the encoder's part, `max_target_len` of the answer."""

    max_target_len: int = 0
    longest_input: int = 0
    longest_target: int = 0
    long_inputs: int = 0
    long_targets: int = 0

    @property
    def longest_shown(self) -> str:
        return f"{self.longest_input} + {self.longest_target}"

    @property
    def limit(self) -> str:
        return f"{self.max_seq_len} tokens of input or {self.max_target_len} of answer"

    def kinds(self) -> list[tuple[str, int, str]]:
        what = "dropped" if self.policy == "drop" else "cut at the end"
        limits = (
            ("input", self.long_inputs, f"with an input longer than {self.max_seq_len} tokens (model.max_seq_len)"),
            ("target", self.long_targets,
             f"with an answer longer than {self.max_target_len} tokens (model.max_target_len)"),
        )  # fmt: skip
        return [*((kind, count, f"{words}, and {what}") for kind, count, words in limits), self.unsupervised()]


def encode_pairs(rendered: Sequence[Rendered], tokenizer: PreTrainedTokenizerBase, start_id: int) -> list[Example]:
    """An example of each text's last answer, in order."""
    pairs = [last_pair(one) for one in rendered]
    joined = [
        Rendered(pair.input + pair.target, ((len(pair.input), len(pair.input) + len(pair.target)),), pair.source)
        for pair in pairs
    ]
    return [_with_start(example, start_id) for example in encode(joined, tokenizer)]


def apply_pair_length_policy(
    examples: Iterable[Example], max_seq_len: int, max_target_len: int, policy: Literal["drop", "end"]
) -> tuple[list[Example], PairLengthReport]:
    """The examples that are trained, in order, and what became of the others; `end` keeps an input's end-of-text."""
    report = PairLengthReport(max_seq_len, policy, max_target_len=max_target_len)
    kept: list[Example] = []
    for example in examples:
        given, answer = example.decoder_at, len(example.input_ids) - example.decoder_at - 1
        report.rows += 1
        report.tokens += len(example.input_ids)
        report.supervised_tokens += example.supervised
        report.longest = max(report.longest, len(example.input_ids))
        report.longest_input = max(report.longest_input, given)
        report.longest_target = max(report.longest_target, answer)
        result = _apply(example, given > max_seq_len, answer > max_target_len, report)
        if result is not None:
            kept.append(result)
        report.tokens_lost += len(example.input_ids) - (len(result.input_ids) if result else 0)
        report.supervised_tokens_lost += example.supervised - (result.supervised if result else 0)
    return kept, report


def warn_of_unspelt(
    examples: Iterable[Example], answers: Iterable[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, split: str
) -> None:
    """Say how many answers the model cannot give as they stand: T5's vocabulary lacks characters and line breaks."""
    unknown = [example.source for example in examples if tokenizer.unk_token_id in example.labels]
    ids = tokenizer("a\nb", add_special_tokens=False)["input_ids"]
    has_breaks = "\n" in tokenizer.decode(ids)
    broken = [] if has_breaks else [source for source, answer in answers if "\n" in answer.strip()]
    for sources, what in ((unknown, "characters that this tokenizer does not know"), (broken, "line breaks")):
        if sources:
            lost = "learnt as <unk>" if sources is unknown else "which this tokenizer turns into blanks"
            named = ", ".join(sources[:NAMED])
            console.warn(f"{len(sources)} answers of the {split} split hold {what}, {lost}, such as {named}.")


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


def _apply(example: Example, long_input: bool, long_target: bool, report: PairLengthReport) -> Example | None:
    for is_long, kind in ((long_input, "input"), (long_target, "target")):
        if is_long:
            report.name(kind, example.source)
    report.long_inputs += long_input
    report.long_targets += long_target
    if report.policy == "drop" and (long_input or long_target):
        report.rows_dropped += 1
        return None
    if not example.supervised:
        report.rows_without_supervision += 1
        report.name("unsupervised", example.source)
        return None
    if not (long_input or long_target):
        return example
    report.rows_cut += 1
    at, ids, labels = example.decoder_at, example.input_ids, example.labels
    given = [*ids[: report.max_seq_len - 1], ids[at - 1]] if long_input else ids[:at]
    last = at + 1 + report.max_target_len
    return Example(
        given + ids[at:last], [IGNORED] * len(given) + labels[at:last], example.source, not long_target,
        example.straddling, example.stray_ends, len(given),
    )  # fmt: skip
