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

import bisect
import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

    from ..chat.rendering import Rendered
    from .table import ExampleTable

IGNORED = -100  # the label that torch's cross entropy leaves out (its default ignore_index)
BATCH = 1000  # texts a tokenizer call: enough for its threads, and some 20 MB of encodings
AHEAD = 1  # batches that wait while one is cut: the two sides take turns at being slower


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


def encode(rendered: Iterable[Rendered], tokenizer: PreTrainedTokenizerBase) -> Iterator[Example]:
    """Ids and labels of each text, in order; while one batch is cut into tokens, the texts of the next are taken."""
    if not tokenizer.is_fast:
        raise ModelError(
            f"The tokenizer ({type(tokenizer).__name__}) does not say which characters a token stands for.",
            expected="a fast tokenizer (tokenizer.json)",
            cure="Convert it: AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder).",
        )
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    # What a call of transformers' tokenizer does, less the lists of Python objects that it makes of every offset.
    fast = tokenizer.backend_tokenizer
    fast.no_truncation()
    fast.no_padding()
    fast.encode_special_tokens = tokenizer.split_special_tokens
    rest = iter(rendered)
    with ThreadPoolExecutor(max_workers=1) as worker:  # tokenizers lets go of the interpreter while it works
        under_way: deque[tuple[list[Rendered], Future[list[Encoding]]]] = deque()
        while (part := list(itertools.islice(rest, BATCH))) or under_way:
            if part:
                texts = [one.text for one in part]
                under_way.append((part, worker.submit(fast.encode_batch, texts, add_special_tokens=False)))
            if len(under_way) > AHEAD or not part:
                done, encodings = under_way.popleft()
                for one, encoding in zip(done, encodings.result(), strict=True):
                    yield _example(one, encoding, fast, special)


def tally(examples: ExampleTable) -> Tally:
    """Sums over the examples."""
    columns = (examples.lengths, examples.supervised, examples.straddling, examples.stray_ends)
    return Tally(len(examples), *(int(column.sum()) for column in columns))


def _example(rendered: Rendered, encoding: Encoding, tokenizer: Tokenizer, special: Collection[int]) -> Example:
    ids = encoding.ids
    example = Example(ids, [IGNORED] * len(ids), rendered.source)
    starts, at = _Starts(encoding), 0
    for span_start, span_end in rendered.spans:
        earlier, at = at, bisect.bisect_left(starts, span_start, lo=at)
        for place in range(at - 1, earlier - 1, -1):
            if encoding.token_to_chars(place)[1] <= span_start:
                break
            example.straddling += 1
        while at < len(ids) and _has_hidden_blank(at, encoding, span_start, tokenizer):
            example.straddling += encoding.token_to_chars(at)[1] > span_start
            at += 1
        first, at = at, bisect.bisect_left(starts, span_end, lo=at)
        example.labels[first:at] = ids[first:at]
        for place in range(at - 1, first - 1, -1):
            if encoding.token_to_chars(place)[1] <= span_end:
                break
            # A special token may swallow the white space behind it (`rstrip`, Phi-3's <|end|>): it is still said.
            if ids[place] not in special:
                example.labels[place] = IGNORED
                example.straddling += 1
        if at > first and ids[at - 1] in special:
            for place in range(first, at - 1):
                if ids[place] == ids[at - 1]:
                    example.labels[place] = IGNORED
                    example.stray_ends += 1
    if ids:
        example.labels[0] = IGNORED
    return example


class _Starts(Sequence[int]):
    """Where each token begins in the text, one looked up at a time: they ascend, and few are asked for."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding

    def __len__(self) -> int:
        return len(self._encoding)

    def __getitem__(self, place: int) -> int:
        return self._encoding.token_to_chars(place)[0]


def _has_hidden_blank(at: int, encoding: Encoding, span_start: int, tokenizer: Tokenizer) -> bool:
    """Whether a token that claims to begin in the span holds a blank of the prompt.

    With `trim_offsets` (GPT-NeoX, Pythia) the token " four", spelt "Ġfour", claims only "four".
    """
    before = encoding.token_to_chars(at - 1)[1] if at else 0
    if not before < span_start <= encoding.token_to_chars(at)[0]:
        return False
    return tokenizer.id_to_token(encoding.ids[at]).startswith("Ġ")
