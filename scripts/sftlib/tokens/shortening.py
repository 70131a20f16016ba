"""Rows that are too long, made shorter in a way that only their template can: `split` and `truncate_turns`.

In: texts beside their columns, as `encoding` gives them. Out: columns in which every example fits, and in the remarks
what became of the others. Rows that fit go through as they are.

truncate_turns    system | 1 2 3 4 | too long  ->  system | 3 4      without the fewest of the oldest turns
split             system | 1 2 3 4 | too long  ->  system | 1 2      and      system | 3 4
                  packed from the end: the last chunk is what truncate_turns keeps, so what is learnt last has the most
                  before it. A turn too long by itself has its last answer cut (answer_parts.py).

Chunks of turns are rendered anew, since templates treat the first and the last turn in ways of their own. Every answer
that is learnt is in one chunk, after its question; what stands behind the last one that is learnt in a chunk is left
out, and so are chunks in which none is. Where prompts are learnt too, those of a later chunk are from the first letter
of its first message on, as its head was learnt before.

Worst bug: an answer learnt twice, or never (tests/tokens/test_shortening.py).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..chat import sandbox
from ..chat.conversation import Conversation
from ..chat.provenance import chunk_source
from ..chat.rendering import Rendered, render_conversation
from ..chat.templates import ChatTemplate
from ..chat.turns import count_turns, some_turns, up_to_last_trained
from .answer_parts import answer_parts
from .columns import Columns, rebatched
from .encoding import Cutter
from .examples import Example
from .length import LengthPolicy
from .remarks import Shortened


def shorten(
    parts: Iterable[tuple[Sequence[Rendered], Columns]], shortener: Shortener, longest: int
) -> Iterator[Columns]:
    """The rows that fit as they are, and in the place of each other one what the shortener makes of it."""
    return rebatched(_with_shorter(parts, shortener, longest))


class Shortener:
    """Makes rows shorter by one policy with one template, and keeps count."""

    def __init__(self, template: ChatTemplate, cutter: Cutter, limits: LengthPolicy, record: Shortened) -> None:
        self._template, self._cutter, self._limits, self._record = template, cutter, limits, record

    def examples(self, rendered: Rendered, whole: Example) -> list[Example]:
        """What a row that is too long becomes; nothing where it cannot be kept."""
        if not whole.supervised:
            found, kind = [], self._record.untaught
        elif self._limits.policy == "split":
            found, kind = self._chunks(rendered), self._record.split
        else:
            found, kind = self._without_oldest(rendered), self._record.turned
        (kind if found or kind is self._record.untaught else self._record.dropped).add(rendered.source)
        self._record.add(whole, found)
        return found

    def _without_oldest(self, rendered: Rendered) -> list[Example]:
        conversation = rendered.conversation
        turns = count_turns(conversation) if conversation else 1
        first = self._first_that_fits(conversation, turns) if conversation else turns
        if conversation is None or first == turns:
            return []
        self._record.turns_lost += first
        return [self._example(self._render(some_turns(conversation, first, turns), rendered, is_first=True))]

    def _chunks(self, rendered: Rendered) -> list[Example]:
        """The chunks of a row in order; none where a prompt leaves no room for its answer."""
        if rendered.conversation is None:
            return self._numbered(self._parts(rendered))
        chunks: list[Example] = []
        rest = up_to_last_trained(rendered.conversation)
        while rest is not None:
            turns = count_turns(rest)
            first = min(self._first_that_fits(rest, turns), turns - 1)
            part = self._render(some_turns(rest, first, turns), rendered, is_first=first == 0)
            whole = self._example(part)
            found = [whole] if len(whole.input_ids) <= self._limits.max_seq_len else self._parts(part)
            if not found:
                return []
            chunks = [*found, *chunks]
            rest = up_to_last_trained(some_turns(rest, 0, first))
        return self._numbered(chunks)

    def _first_that_fits(self, conversation: Conversation, turns: int) -> int:
        """The first turn from which on all of them fit; `turns` where the last alone does not."""

        def fits(first: int) -> bool:
            text = self._template.render(some_turns(conversation, first, turns).to_dicts(), row=conversation.source)
            return self._cutter.count(text) <= self._limits.max_seq_len

        return bisect.bisect_left(range(turns), True, key=fits)

    def _render(self, part: Conversation, rendered: Rendered, *, is_first: bool) -> Rendered:
        found = render_conversation(part, self._template, "flagged")  # its flags are what is learnt already
        if rendered.taught_from is None:
            return found
        return replace(found, taught_from=0 if is_first else self._beginning(part, found))

    def _beginning(self, part: Conversation, rendered: Rendered) -> int:
        """Where the first message behind the head begins in the text."""
        messages = part.to_dicts()
        first = next(place for place, message in enumerate(messages) if message["role"] != "system")
        mark = sandbox.unused_mark(rendered.text)
        messages[first] = {**messages[first], "content": mark}
        text = self._template.render(messages, row=part.source)
        place = text.find(mark)
        return place if place >= 0 and text[:place] == rendered.text[:place] else rendered.spans[0][0]

    def _parts(self, rendered: Rendered) -> list[Example]:
        return answer_parts(rendered, self._template, self._cutter, self._limits)

    def _example(self, rendered: Rendered) -> Example:
        return self._cutter.example(rendered, self._cutter.offsets(rendered.text))

    @staticmethod
    def _numbered(chunks: Sequence[Example]) -> list[Example]:
        for number, chunk in enumerate(chunks, 1):
            chunk.source = chunk_source(chunk.source, number)
        return list(chunks)


def _with_shorter(
    parts: Iterable[tuple[Sequence[Rendered], Columns]], shortener: Shortener, longest: int
) -> Iterator[Columns]:
    for rendered, columns in parts:
        too_long = np.flatnonzero(np.diff(columns.starts) > longest).tolist()
        if not too_long:
            yield columns
            continue
        at = 0
        for row in too_long:
            yield columns.rows(at, row)
            (whole,) = columns.rows(row, row + 1).examples()
            yield Columns.of(shortener.examples(rendered[row], whole))
            at = row + 1
        yield columns.rows(at, len(columns))
