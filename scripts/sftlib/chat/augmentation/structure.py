"""Markdown put into answers by rule: enumerations in prose become lists, and the question their heading.

    Step 1: Mix. Step 2: Bake.          ->  - Step 1: Mix.     (any word that is counted from 1 on)
                                            - Step 2: Bake.
    It takes 1) flour 2) eggs.          ->  It takes / 1) flour / 2) eggs.
    First, mix. Then bake. Enjoy.       ->  - First, mix. / - Then bake. / Enjoy.
    You need: a plan; a permit; time.   ->  You need: / - a plan; / - a permit; / - time.

Only Markdown and white space are put in: `plain` takes it out again and gives the words back, which is checked for each
answer. Answers that hold Markdown already are left as they are, and so are those with nothing to list.
Worst bug: a word changed (tests/chat/augmentation/test_structure.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ..conversation import Conversation
from ..sentences import sentences

HEADING_CHARS = 80  # a question longer than this is no heading
LEAST_ITEMS = 3  # of lists without a counting word; two clauses joined by a semicolon are a sentence
_MARKDOWN = re.compile(r"^[ \t]*(?:#{1,6}\s|[-*+•]\s|\||>|```|~~~|1[.)]\s[^\n]*\n\s*2[.)]\s)", re.M)
_COUNTED = re.compile(r"(?:(?<=\n)|(?<=[.!?:;] )|(?<=\A))([^\W\d_]{2,15}) (\d{1,2})(?=[:.]\s)")
_NUMBER = re.compile(r"(?:(?<=\A)|(?<=\s))(\d{1,2})[.)] (?=[^\W\d])")
_ORDINALS = (  # what opens an enumeration, and what goes on with it
    ("first", "firstly", "second", "secondly", "third", "thirdly", "next", "then", "finally", "lastly"),
    ("erstens", "zweitens", "drittens", "viertens", "schließlich"),
    ("premièrement", "deuxièmement", "troisièmement", "ensuite", "enfin"),
    ("primero", "segundo", "tercero", "después", "luego", "finalmente", "por último"),
    ("först", "för det första", "för det andra", "för det tredje", "sedan", "därefter", "slutligen"),
)
_OPENERS = frozenset(("first", "firstly", "erstens", "premièrement", "primero", "först", "för det första"))
_BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"), ("“", "”"), ("«", "»"))


def add_structure(conversation: Conversation) -> Conversation:
    """The conversation with Markdown in its answers; itself where there is nothing to structure."""
    messages, question = list(conversation.messages), ""
    for place, message in enumerate(messages):
        if message.role == "user":
            question = message.content
        elif message.role == "assistant" and not message.extra:
            messages[place] = replace(message, content=structured(message.content, question))
    return replace(conversation, messages=tuple(messages))


def structured(answer: str, question: str = "") -> str:
    """The answer with a list, and with the question as its heading where that is one short line; or as it was."""
    if _MARKDOWN.search(answer):
        return answer
    for rule in (_by_counting, _by_numbers, _by_ordinals, _by_semicolons):
        if (listed := rule(answer)) is not None:
            title = question.strip()
            has_title = title and "\n" not in title and len(title) <= HEADING_CHARS and not title.startswith("#")
            result = f"## {title}\n\n{listed}" if has_title else listed
            return result if plain(result).split() == answer.split() else answer
    return answer


def plain(text: str) -> str:
    """The text without the heading at its top and without bullets: what `structured` was given, but for white space."""
    text = re.sub(r"\A## [^\n]*\n\n", "", text)
    return re.sub(r"^- ", "", text, flags=re.M)


def _by_counting(text: str) -> str | None:
    """Step 1: ... Step 2: ..."""
    found = list(_COUNTED.finditer(text))
    run = [one for one in found if one.group(1) == found[0].group(1)]
    if len(run) < 2 or [int(one.group(2)) for one in run] != list(range(1, len(run) + 1)):
        return None
    return _listed(text, [one.start() for one in run], _end_of_line(text, run[-1].end()), "- ")


def _by_numbers(text: str) -> str | None:
    """1) ... 2) ... within a line."""
    run = list(_NUMBER.finditer(text))
    if len(run) < LEAST_ITEMS or [int(one.group(1)) for one in run] != list(range(1, len(run) + 1)):
        return None
    last = run[-1].start()  # behind the last item's sentence the text goes on
    end = last + len(sentences(text[last : _end_of_line(text, last)])[0])
    return _listed(text, [one.start() for one in run], end, "")


def _by_ordinals(text: str) -> str | None:
    """First, ... Then ... Finally, ..."""
    pieces = sentences(text)
    begins = [sum(map(len, pieces[:place])) for place in range(len(pieces))]
    for words in _ORDINALS:
        run = [place for place, piece in enumerate(pieces) if _opens_with(piece, words)]
        while run and not _opens_with(pieces[run[0]], [word for word in words if word in _OPENERS]):
            run.pop(0)
        if len(run) >= 2:
            end = begins[run[-1]] + len(pieces[run[-1]])
            return _listed(text, [begins[place] for place in run], end, "- ")
    return None


def _by_semicolons(text: str) -> str | None:
    """...: one; two; three. Or a sentence that is nothing but clauses."""
    start = 0
    for sentence in sentences(text):
        clauses = re.split(r"(?<=;)\s+", sentence.strip())
        if len(clauses) >= LEAST_ITEMS and all(map(_is_balanced, clauses)):
            lead = re.match(r"[^:;]*:\s+(?=\S)", clauses[0])
            end = start + len(sentence)
            at = start + (len(sentence) - len(sentence.lstrip()))
            places = [at + (lead.end() if lead else 0)]
            for clause in clauses[:-1]:
                at = text.index(clause, at) + len(clause)
                places.append(at + len(text[at:end]) - len(text[at:end].lstrip()))
            return _listed(text, places, end, "- ")
        start += len(sentence)
    return None


def _listed(text: str, begins: Sequence[int], end: int, bullet: str) -> str | None:
    """The text with the items that begin there as a list, what stands before and behind as paragraphs."""
    borders = [*begins, end]
    items = [text[borders[place] : borders[place + 1]].strip() for place in range(len(begins))]
    if not all(re.search(r"\w", item) for item in items) or any("\n\n" in item for item in items):
        return None
    lines = "\n".join(bullet + item.replace("\n", "\n  ") for item in items)
    return "\n\n".join(part for part in (text[: borders[0]].strip(), lines, text[end:].strip()) if part)


def _opens_with(sentence: str, words: Sequence[str]) -> bool:
    said = sentence.lstrip().casefold()
    return any(re.match(rf"{re.escape(word)}\b", said) for word in words)


def _is_balanced(clause: str) -> bool:
    return all(clause.count(opening) == clause.count(closing) for opening, closing in _BRACKETS)


def _end_of_line(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end
