"""From a rendered text and its spans to ids and labels, by one tokenization with offsets.

In: `chat.rendering.Rendered` and a fast tokenizer. Out: `Example`, one label a token, -100 where nothing is trained.
Nothing is added (no BOS, no EOS: the template wrote them), cut (`length` does that) or padded (`collate`).

    text    <|im_start|>user\\n 2+2?<|im_end|>\\n <|im_start|>assistant\\n 4     <|im_end|> \\n
    labels  -100 -100    -100 -100 -100      -100 -100        -100   -100 19    2          -100

A token is supervised if all its characters are in a span. What that leaves out is counted in the example:
- straddling: a token that begins in the prompt and ends in the answer. The model will never be asked for it: after the
  prompt alone the tokenizer has already cut there;
- stray ends: the span's last token, its end-of-turn, met before the end, because somebody wrote the marker's text into
  an answer. Trained, it would teach the model to stop in mid-answer.

Worst bug: a label on a token of the prompt, or none on the end-of-turn (tests/tokens/test_examples.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..chat.rendering import Rendered

IGNORED = -100  # the label that torch's cross entropy leaves out (its default ignore_index)
BATCH = 1000  # texts a tokenizer call: enough for its threads, little beside the examples in memory


@dataclass(slots=True)
class Example:
    """One sequence. `labels` are the ids where they are trained, else -100; labels[0] is -100: nothing predicts it.

    decoder_at: where an encoder-decoder's decoder begins (pairs.py); 0 in a causal model, which reads all of it.
    """

    input_ids: list[int]
    labels: list[int]
    source: str
    is_complete: bool = True
    straddling: int = 0
    stray_ends: int = 0
    decoder_at: int = 0

    @property
    def supervised(self) -> int:
        """How many tokens are trained."""
        return len(self.labels) - self.labels.count(IGNORED)


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over examples, for the table before training."""

    rows: int
    tokens: int
    supervised: int
    straddling: int
    stray_ends: int


def encode(rendered: Sequence[Rendered], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """Ids and labels of each text, in order."""
    if not tokenizer.is_fast:
        raise ModelError(
            f"The tokenizer ({type(tokenizer).__name__}) does not say which characters a token stands for.",
            expected="a fast tokenizer (tokenizer.json)",
            cure="Convert it: AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder).",
        )
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    examples: list[Example] = []
    for first in range(0, len(rendered), BATCH):
        part = rendered[first : first + BATCH]
        encoded = tokenizer(
            [one.text for one in part],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,  # what is too long is counted by `length`
        )
        for one, ids, offsets in zip(part, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            examples.append(_example(one, ids, offsets, tokenizer, special))
    return examples


def tally(examples: Iterable[Example]) -> Tally:
    """Sums over the examples."""
    rows = tokens = supervised = straddling = stray = 0
    for example in examples:
        rows += 1
        tokens += len(example.input_ids)
        supervised += example.supervised
        straddling += example.straddling
        stray += example.stray_ends
    return Tally(rows, tokens, supervised, straddling, stray)


def _example(
    rendered: Rendered,
    ids: list[int],
    offsets: list[tuple[int, int]],
    tokenizer: PreTrainedTokenizerBase,
    special: set[int],
) -> Example:
    example = Example(ids, [IGNORED] * len(ids), rendered.source)
    at = 0
    for span_start, span_end in rendered.spans:
        while at < len(ids) and (
            offsets[at][0] < span_start or _has_hidden_blank(at, ids, offsets, span_start, tokenizer)
        ):
            example.straddling += offsets[at][1] > span_start
            at += 1
        first = at
        while at < len(ids) and offsets[at][0] < span_end:
            # A special token may swallow the white space behind it (`rstrip`, Phi-3's <|end|>): it is still said.
            if offsets[at][1] <= span_end or ids[at] in special:
                example.labels[at] = ids[at]
            else:
                example.straddling += 1
            at += 1
        for earlier in range(first, at - 1):
            if ids[earlier] == ids[at - 1] and ids[earlier] in special:
                example.labels[earlier] = IGNORED
                example.stray_ends += 1
    if ids:
        example.labels[0] = IGNORED
    return example


def _has_hidden_blank(
    at: int, ids: list[int], offsets: list[tuple[int, int]], span_start: int, tokenizer: PreTrainedTokenizerBase
) -> bool:
    """Whether a token that claims to begin in the span holds a blank of the prompt.

    With `trim_offsets` (GPT-NeoX, Pythia) the token " four", spelt "Ġfour", claims only "four".
    """
    before = offsets[at - 1][1] if at else 0
    return before < span_start <= offsets[at][0] and tokenizer.convert_ids_to_tokens(ids[at]).startswith("Ġ")
