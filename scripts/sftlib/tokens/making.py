"""All the steps from stored rows to columns of examples, in order: what the token cache calls to make a table.

    rows --watch--> one answer each (encoder-decoder) --render--> texts --tokens--> columns --shorten--> columns

    maker = Maker(template, tokenizer, LengthPolicy(1024, "split"), loss_on="last")
    cached_examples(folder, CacheKey(..., maker.identity), lambda remarks: maker.columns(rows, remarks, "train"))

`drop` and `truncate` act behind the table (`within_lengths`), so that another length needs no new one; `split` and
`truncate_turns` need the template and act here.

Worst bug: a table that depends on something its key does not name (tests/tokens/test_making.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..chat.pairs import one_answer_each
from ..chat.rendering import render_rows
from ..chat.stored import Row
from ..chat.templates import ChatTemplate
from ..chat.trained import LossOn
from .columns import Columns, in_columns
from .encoding import Cutter, encode_beside, encode_columns
from .length import LengthPolicy, LengthReport, apply_length_policy
from .pairs import apply_pair_length_policy, encode_pairs
from .remarks import Remarks
from .shortening import Shortener, shorten
from .table import ExampleTable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Maker:
    """How rows become examples. decoder_start: of an encoder-decoder; None of a causal model."""

    template: ChatTemplate
    tokenizer: PreTrainedTokenizerBase
    limits: LengthPolicy
    loss_on: LossOn = "assistant"
    max_rejected: float = 0.0
    decoder_start: int | None = None

    @property
    def identity(self) -> str:
        """What the table depends on besides rows, template and tokenizer."""
        limits = asdict(self.limits) if self.limits.needs_template else None
        return json.dumps([self.loss_on, self.max_rejected, self.decoder_start, limits])

    def columns(self, rows: Iterable[Row], remarks: Remarks, name: str) -> Iterator[Columns]:
        """The examples of these rows, and what is to be said of them. name: of the rows, for the display."""
        rows = remarks.watch_rows(rows, self.template.markers, self.loss_on)
        if self.decoder_start is not None:
            return self._pairs(rows, remarks, name)
        rendered = render_rows(remarks.watch_asked(rows), self.template, self.max_rejected, name, self.loss_on)
        rendered = remarks.watch_encoded(rendered)
        if not self.limits.needs_template:
            return encode_columns(rendered, self.tokenizer)
        cutter = Cutter.of(self.tokenizer)
        shortener = Shortener(self.template, cutter, self.limits, remarks.shortened)
        return shorten(encode_beside(rendered, cutter), shortener, self.limits.max_seq_len)

    def _pairs(self, rows: Iterable[Row], remarks: Remarks, name: str) -> Iterator[Columns]:
        answers = one_answer_each(remarks.watch_learnt(rows, self.loss_on), self.loss_on)
        answers = remarks.watch_asked(remarks.watch_answers(answers, self.tokenizer))
        rendered = remarks.watch_encoded(render_rows(answers, self.template, self.max_rejected, name))
        examples = encode_pairs(rendered, self.tokenizer, self.decoder_start)
        return in_columns(remarks.watch_examples(examples, self.tokenizer.unk_token_id))


def within_lengths(examples: ExampleTable, limits: LengthPolicy) -> tuple[ExampleTable, LengthReport]:
    """The examples of a table that are trained, and what became of the others, also of those shortened before it."""
    apply = apply_length_policy if limits.max_target_len is None else apply_pair_length_policy
    return apply(examples, limits)
