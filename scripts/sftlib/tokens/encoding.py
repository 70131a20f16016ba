"""From a rendered text and its spans to ids and labels, by one tokenization of the whole text.

In: `chat.rendering.Rendered` and a fast tokenizer. Out: `Columns` of examples, one label a token, -100 where nothing is
trained. Where a token lies in the text is told by what it spells (spelling.py), else by the tokenizer's offsets.
Nothing is added (no BOS, no EOS: the template wrote them), cut (`length` does that) or padded (`collate`).

    text    <|im_start|>user\\n 2+2?<|im_end|>\\n <|im_start|>assistant\\n 4     <|im_end|> \\n
    labels  -100 -100    -100 -100 -100      -100 -100        -100   -100 19    2          -100

A token is supervised if all its characters are in a span. What that leaves out is counted in the example:
- straddling: a token that begins in the prompt and ends in the answer. The model will never be asked for it: after the
  prompt alone the tokenizer has already cut there;
- stray ends: the span's last token, its end-of-turn, met before the end, because somebody wrote the marker's text into
  an answer. Trained, it would teach the model to stop in mid-answer.
Where prompts are trained too (`Rendered.taught_from`), so is every token from there through the last end-of-turn, but
stray ends.

Worst bug: a label on a token of the prompt, or none on the end-of-turn (tests/tokens/test_encoding.py).
"""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from ..errors import ModelError
from .columns import ROWS, Columns
from .examples import IGNORED, Example
from .spelling import Spelling

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

    from ..chat.rendering import Rendered

    _Cut = tuple[list[Encoding], bool]

AHEAD = 1  # batches that wait while one is cut: the two sides take turns at being slower


def encode(rendered: Iterable[Rendered], tokenizer: PreTrainedTokenizerBase) -> Iterator[Example]:
    """Ids and labels of each text, in order."""
    for columns in encode_columns(rendered, tokenizer):
        yield from columns.examples()


def encode_columns(rendered: Iterable[Rendered], tokenizer: PreTrainedTokenizerBase) -> Iterator[Columns]:
    """The same, ROWS texts at a time."""
    return (columns for _, columns in encode_beside(rendered, Cutter.of(tokenizer)))


def encode_beside(rendered: Iterable[Rendered], cutter: Cutter) -> Iterator[tuple[list[Rendered], Columns]]:
    """ROWS texts at a time beside their columns; while these are cut into tokens, the next are taken."""
    rest = iter(rendered)
    with ThreadPoolExecutor(max_workers=1) as worker:  # tokenizers lets go of the interpreter while it works
        under_way: deque[tuple[list[Rendered], Future[_Cut]]] = deque()
        while (part := list(itertools.islice(rest, ROWS))) or under_way:
            if part:
                under_way.append((part, worker.submit(cutter.cut, part)))
            if len(under_way) > AHEAD or not part:
                done, cut = under_way.popleft()
                yield done, cutter.columns(done, *cut.result())


class Cutter:
    """Cuts texts into tokens: without offsets, as long as the tokens of most rows spell their texts."""

    def __init__(self, tokenizer: Tokenizer, special: Collection[int]) -> None:
        self._tokenizer, self._special = tokenizer, special
        self._spelling, self._pays = Spelling(tokenizer, special), True

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Cutter:
        """With a model's tokenizer. ModelError when it is none that can tell where its tokens lie."""
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
        return cls(fast, special)

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])

    def offsets(self, text: str) -> Encoding:
        """The tokens of a text, which know where they lie."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def example(self, rendered: Rendered, encoding: Encoding) -> Example:
        """The example of a text that has been cut with offsets."""
        return _example(rendered, encoding, self._tokenizer, self._special)

    def cut(self, rendered: Sequence[Rendered]) -> _Cut:
        """The tokens, and whether they come with offsets."""
        has_offsets = not self._pays
        cut = self._tokenizer.encode_batch if has_offsets else self._tokenizer.encode_batch_fast
        return cut([one.text for one in rendered], add_special_tokens=False), has_offsets

    def columns(self, rendered: Sequence[Rendered], encodings: Sequence[Encoding], has_offsets: bool) -> Columns:
        """The examples of these texts."""
        if has_offsets:
            return Columns.of(list(map(self.example, rendered, encodings)))
        columns, unspelt = self._spelling.columns(rendered, [encoding.ids for encoding in encodings])
        self._pays &= len(unspelt) <= len(rendered) // 2
        again = [rendered[row] for row in unspelt]
        encodings = self._tokenizer.encode_batch([one.text for one in again], add_special_tokens=False)
        for row, one, encoding in zip(unspelt, again, encodings, strict=True):
            columns.replace(row, self.example(one, encoding))
        return columns


def _example(rendered: Rendered, encoding: Encoding, tokenizer: Tokenizer, special: Collection[int]) -> Example:
    ids = encoding.ids
    example = Example(ids, [IGNORED] * len(ids), rendered.source)
    starts, at, over, strays = _Starts(encoding), 0, 0, []
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
        over = 0
        for place in range(at - 1, first - 1, -1):
            if encoding.token_to_chars(place)[1] <= span_end:
                break
            # A special token may swallow the white space behind it (`rstrip`, Phi-3's <|end|>): it is still said.
            if ids[place] not in special:
                example.labels[place] = IGNORED
                over += 1
        example.straddling += over
        if at > first and ids[at - 1] in special:
            for place in range(first, at - 1):
                if ids[place] == ids[at - 1]:
                    strays.append(place)
    if rendered.taught_from is not None and rendered.spans:
        first = bisect.bisect_left(starts, rendered.taught_from)
        example.labels[first : at - over] = ids[first : at - over]
        example.straddling = over
    for place in strays:
        example.labels[place] = IGNORED
    example.stray_ends = len(strays)
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
