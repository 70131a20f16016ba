"""An answer too long for one example, in parts: each behind the prompt, each learnt once, and only the last one's end.

In: a text that ends with that answer. Out: examples, made of the tokens of the whole text, so that every token that was
to be learnt is learnt in exactly one of them.

    prompt [...................................]<end>      too long
    prompt [............]                                  1: not complete, no end is taught
    prompt         ~~~~~[............]                     2: ~ is context, a tail of what came before; not complete
    prompt                     ~~~~~~[.........]<end>      3: complete

A part ends behind a sentence or a line (chat/sentences.py), as late as there is room; behind a line of code, between
words or anywhere only where there is no better place. What the template has the model say before an answer, such as an
empty thinking block, stands before each part.

Worst bug: a part that teaches to stop in mid-answer (tests/tokens/test_answer_parts.py).
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..chat.rendering import Rendered, answer_lead
from ..chat.sentences import cut_places
from ..chat.templates import ChatTemplate
from ..errors import ModelError
from .examples import IGNORED, Example

if TYPE_CHECKING:
    from .encoding import Cutter
    from .length import LengthPolicy

CONTEXT = 64  # tokens, some three sentences: enough to go on from, and not learnt
CONTEXT_SHARE = 4  # of the room, so that most of it is for what is learnt


def answer_parts(rendered: Rendered, template: ChatTemplate, cutter: Cutter, limits: LengthPolicy) -> list[Example]:
    """Examples for the last answer of a text, all of the same source; none where the prompt leaves no room."""
    encoding = cutter.offsets(rendered.text)
    whole = cutter.example(rendered, encoding)
    answer = cutter.example(replace(rendered, spans=rendered.spans[-1:], taught_from=None), encoding)
    learnt = [place for place, label in enumerate(answer.labels) if label != IGNORED]
    if not learnt:
        return []
    prompt, past = learnt[0], learnt[-1] + 1
    offsets, start = encoding.offsets, rendered.spans[-1][0]
    lead_ends = start + len(_lead(rendered, template))
    content = next(place for place in range(prompt, past) if offsets[place][1] > lead_ends)
    tail = len(whole.input_ids) - past
    room = limits.max_seq_len - content - tail
    if room < limits.least_room:
        return []
    places = _TokenPlaces.of(rendered.text, start, offsets)
    context = min(CONTEXT, room // CONTEXT_SHARE)
    parts: list[Example] = []
    at = seen = content
    while past - at > room - (at - seen):
        cut = places.last(at, min(seen + room, past - 2))  # the end-of-turn does not stand alone
        parts.append(_part(whole, content, seen, at, cut))
        at, seen = cut, places.first(max(content, cut - context), cut - 1)
    return [*parts, replace(_part(whole, content, seen, at, len(whole.input_ids)), is_complete=True)]


def _part(whole: Example, content: int, seen: int, at: int, cut: int) -> Example:
    """The prompt, context from `seen` on, and what is learnt from `at` to before `cut`."""
    if at == content:  # the first: what is learnt before the answer is learnt here
        labels = whole.labels[:cut]
        return Example(whole.input_ids[:cut], labels, whole.source, False, whole.straddling, whole.stray_ends)
    given = [*whole.input_ids[:content], *whole.input_ids[seen:at]]
    labels = [IGNORED] * len(given) + whole.labels[at:cut]
    return Example([*given, *whole.input_ids[at:cut]], labels, whole.source, False)


def _lead(rendered: Rendered, template: ChatTemplate) -> str:
    """What the template has the model say before this answer."""
    if rendered.conversation is None:
        return ""
    try:
        lead = answer_lead(rendered.conversation.to_dicts()[:-1], template)
    except ModelError:  # a template that its tags alone can mask
        return ""
    start, end = rendered.spans[-1]
    return lead if rendered.text[start:end].startswith(lead) else ""


@dataclass(frozen=True, slots=True)
class _TokenPlaces:
    """Tokens that a part may begin with, the best kind first; the last kind is every token that begins a character."""

    kinds: tuple[Sequence[int], ...]

    @classmethod
    def of(cls, text: str, start: int, offsets: Sequence[tuple[int, int]]) -> _TokenPlaces:
        """Of the part of a text from `start` on."""
        found = cut_places(text[start:])
        ends = [end for _, end in offsets]

        def tokens(places: Sequence[int]) -> list[int]:
            kept = []
            for place in (start + place for place in places):
                token = bisect.bisect_right(ends, place)  # those before it end here or earlier
                if token == len(ends) or text[offsets[token][0] : place].strip():
                    continue  # no token begins here
                while token and set(text[slice(*offsets[token - 1])]) == {" "}:
                    token -= 1  # a blank is said with the word behind it
                kept.append(token)
            return kept

        whole = [token for token in range(1, len(ends)) if offsets[token][0] >= ends[token - 1]]
        return cls((tokens(found.sentences), tokens(found.lines), tokens(found.words), whole))

    def last(self, least: int, most: int) -> int:
        """The latest place after `least`, up to `most`."""
        for kind in self.kinds:
            place = bisect.bisect_right(kind, most) - 1
            if place >= 0 and kind[place] > least:
                return kind[place]
        return most

    def first(self, least: int, most: int) -> int:
        """The earliest place from `least` to `most`."""
        for kind in self.kinds:
            place = bisect.bisect_left(kind, least)
            if place < len(kind) and kind[place] <= most:
                return kind[place]
        return most
