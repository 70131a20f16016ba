"""A long answer in several turns: cut where a paragraph or a sentence ends, with a user in between who asks for more.

    user: Tell me all.  assistant: One. Two. | Three. Four.
    ->  user: Tell me all.  assistant: One. Two.  user: Go on.  assistant: Three. Four.

Every part is complete: code between fences, tables and lists stay together, and no part ends with a heading, a colon
or a bare number. A line stays whole where it fits. Parts are about equally long, as few as the limit allows; what
cannot be cut and is longer than the limit stays whole. The pieces joined are the answer to the letter; what a message
loses is the white space at a cut.
Worst bug: a word that is lost or said twice (tests/chat/augmentation/test_split_turns.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..conversation import Conversation, Message
from ..sentences import sentences
from .chance import Chance

Size = Callable[[str], int]
FOLLOW_UPS = ("…", "...")  # ask for more in any language

_FENCE = re.compile(r"^\s*(```|~~~)")
_TABLE_OR_LIST = re.compile(r"^\s*(\||[-*+•]\s|\d{1,3}[.)]\s)", re.M)
_UNFINISHED = re.compile(  # a lead-in, a bare number or bullet, a heading
    r"(?:[:,;(]|(?:^|\s)\(?\d{1,3}[.)]|(?:^|\s)[-*+•]|(?:^|\n)#{1,6} [^\n]*)\s*\Z"
)


def words(text: str) -> int:
    """The size of a text in words, for languages that put blanks between them."""
    return len(text.split())


def characters(text: str) -> int:
    """The size of a text in characters, white space at the ends left out."""
    return len(text.strip())


def split_turns(
    conversation: Conversation, limit: int, size: Size, follow_ups: Sequence[str], chance: Chance
) -> Conversation:
    """The conversation with every answer longer than `limit` in several turns; itself where none is, or none can be."""
    messages: list[Message] = []
    for message in conversation.messages:
        is_plain = message.role == "assistant" and not message.extra
        parts = split_answer(message.content, limit, size) if is_plain else [message.content]
        for number in range(len(parts)):
            if number:
                messages.append(Message("user", chance.pick("split", follow_ups, len(messages))))
            messages.append(message if len(parts) == 1 else replace(message, content=_part(parts, number)))
    return replace(conversation, messages=tuple(messages))


def split_answer(text: str, limit: int, size: Size) -> list[str]:
    """The text in parts of at most `limit` where it can be cut so; joined they are the text."""
    if size(text) <= limit:
        return [text]
    pieces = _pieces(text, limit, size)
    sizes = [size(piece) for piece in pieces]
    fewest = len(_packed(sizes, limit))
    low, high = 1, limit
    while low < high:  # the smallest limit that makes no more parts makes the most even ones
        middle = (low + high) // 2
        if len(_packed(sizes, middle)) == fewest:
            high = middle
        else:
            low = middle + 1
    return ["".join(pieces[start:end]) for start, end in _packed(sizes, low)]


def _part(parts: Sequence[str], number: int) -> str:
    """A part without the white space at its cuts; that at the ends of the answer is the answer's own."""
    part = parts[number] if number == 0 else parts[number].lstrip()
    return part if number == len(parts) - 1 else part.rstrip()


def _packed(sizes: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """Neighbours put together as long as they fit; one that does not fit stands alone."""
    groups: list[tuple[int, int]] = []
    start = total = 0
    for place, size in enumerate(sizes):
        if place > start and total + size > limit:
            groups.append((start, place))
            start, total = place, 0
        total += size
    return [*groups, (start, len(sizes))]


def _pieces(text: str, limit: int, size: Size) -> list[str]:
    """Paragraphs, and the sentences of those that are too long; each can be the end of a part."""
    pieces: list[str] = []
    for block in _blocks(text):
        is_whole = size(block) <= limit or _FENCE.match(block) or _TABLE_OR_LIST.search(block)
        for piece in [block] if is_whole else _lines(block, limit, size):
            if pieces and (_UNFINISHED.search(pieces[-1]) or not pieces[-1].strip() or not piece.strip()):
                pieces[-1] += piece
            else:
                pieces.append(piece)
    return pieces


def _lines(block: str, limit: int, size: Size) -> list[str]:
    """Lines that end with a sentence, and the sentences of those that are too long."""
    pieces: list[str] = []
    line: list[str] = []
    for sentence in [*sentences(block), ""]:
        if not sentence or (line and "\n" in line[-1]):
            whole = "".join(line)
            pieces += [whole] if size(whole) <= limit else line
            line = []
        line.append(sentence)
    return pieces


def _blocks(text: str) -> list[str]:
    """Paragraphs with the blank lines behind them; a fenced block is one, blank lines and all."""
    blocks, fence, ended = [""], "", False
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        is_opening = mark is not None and not fence
        if (ended and line.strip()) or is_opening:
            blocks.append("")
        blocks[-1] += line
        ended = not fence and not line.strip()
        if is_opening:
            fence = mark.group(1)
        elif mark is not None and mark.group(1) == fence and line.strip() == fence:
            fence, ended = "", True
    return [block for block in blocks if block]
