"""Conversations written out as the model's text: `make render`, for reading, and for training as it stands.

In: the splits of a folder (processed or styled) and a template. Out: train.jsonl, val.jsonl and test.jsonl of pairs,
one for each answer that is trained, in order; a conversation of three turns becomes three pairs with the same source.

    {"input": "<s>[INST] 2+2?[/INST]", "target": " 4</s>", "source": "raw.jsonl:17"}

Which answers these are says data.loss_on; `all` is no business of a pair, whose input is never learnt.
The input is the text up to the answer and the target is the answer through its end-of-turn: input + target is how the
text of `rendering` begins, so that a run on these files trains the same tokens. For an encoder-decoder each pair is
rendered by itself (pairs.py).

Worst bug: an answer that is in no pair, or in two (tests/chat/test_rendered_files.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError, DataError
from ..files import json_line, whole_file
from .conversation import Conversation
from .pairs import last_pair, up_to_each_answer
from .rendering import render_conversation, special_text_in
from .splitting import SPLITS
from .stored import RenderedPair, iterate_split
from .templates import ChatTemplate
from .trained import LossOn


@dataclass(slots=True)
class RenderedCounts:
    """What became of one split. `special_rows` are the sources of rows that hold a special token's text."""

    rows: int = 0
    pairs: int = 0
    turns_left_out: int = 0
    special_rows: list[str] = field(default_factory=list)


def require_splits(folder: str | Path) -> None:
    """DataError when a split is missing: looked at before a model is fetched."""
    for name in SPLITS:
        next(iterate_split(Path(folder) / f"{name}.jsonl"), None)


def render_splits(
    in_dir: str | Path, out_dir: str | Path, template: ChatTemplate, loss_on: LossOn = "assistant"
) -> dict[str, RenderedCounts]:
    """Write the three splits as pairs, together or not at all."""
    if loss_on == "all":
        raise ConfigError(
            "data.loss_on is all, and a rendered pair teaches its target alone.", where="data.loss_on",
            expected="assistant, last or flagged",
            cure="Train on the conversations themselves with data.loss_on: all, without `make render`.",
        )  # fmt: skip
    counts = {name: RenderedCounts() for name in SPLITS}
    with contextlib.ExitStack() as stack:
        for name, count in counts.items():
            stream = stack.enter_context(whole_file(Path(out_dir) / f"{name}.jsonl"))
            for row in iterate_split(Path(in_dir) / f"{name}.jsonl"):
                if isinstance(row, RenderedPair):
                    raise DataError(
                        "The row is a rendered pair already.",
                        where=row.source,
                        expected="conversations, as `make process` and `make style` write them",
                        cure="Set data.processed_dir or data.style_dir to their folder.",
                    )
                for pair in _pairs(row, template, count, loss_on):
                    stream.write(json_line(pair))
    return counts


def _pairs(
    conversation: Conversation, template: ChatTemplate, count: RenderedCounts, loss_on: LossOn
) -> Iterator[dict[str, str]]:
    count.rows += 1
    origin = {"source": conversation.source, **({"dataset": conversation.dataset} if conversation.dataset else {})}
    if special_text_in(conversation, template.markers):
        count.special_rows.append(conversation.source)
    if template.is_for_pairs:
        for part in up_to_each_answer(conversation, loss_on):
            pair = last_pair(render_conversation(part, template))
            count.pairs += 1
            yield {"input": pair.input, "target": pair.target, **origin}
        return
    rendered = render_conversation(conversation, template, loss_on)
    count.pairs += len(rendered.spans)
    count.turns_left_out += rendered.turns_left_out
    for start, end in rendered.spans:
        yield {"input": rendered.text[:start], "target": rendered.text[start:end], **origin}
