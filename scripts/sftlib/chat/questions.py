"""What a conversation asks, and what it says: the texts by which rows are compared.

Two rows ask the same when their first user messages are equal after folding case and white space (and composing
Unicode, NFC); the system message does not count. A first message that more than 1 % of the rows share (at least 10,
"Hi", "Summarise this.") says nothing; there the whole prompt decides: system and all turns before the last answer.

    fold("  What IS\n2+2? ")              ->  "what is 2+2?"
    asked(conversation.messages)          ->  its opening and its whole prompt, folded
    spoken(conversation.messages)         ->  all but the system message, for near_duplicates.py

Worst bug: one question taken for two (tests/chat/test_splitting.py).
"""

from __future__ import annotations

import json
import unicodedata

from .conversation import Message

COMMON_SHARE, COMMON_ROWS = 0.01, 10  # a first message shared by more rows than both says nothing about the question


def fold(text: str) -> str:
    """A text without what does not make a difference to a reader: case, white space, ways to compose a letter."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def asked(messages: tuple[Message, ...]) -> tuple[str, str]:
    """What a conversation asks, folded: its opening (the first user message), and its whole prompt."""
    first = next((m for m in messages if m.role == "user"), messages[0])
    return fold(first.content), json.dumps([[m.role, fold(m.content)] for m in _prompt(messages)])


def common_above(rows: int) -> float:
    """An opening that more than so many of all rows share says nothing about what is asked."""
    return max(COMMON_ROWS, COMMON_SHARE * rows)


def spoken(messages: tuple[Message, ...]) -> str:
    """All that is said, but by the system message, which many rows share."""
    said = (message for message in messages if message.role != "system")
    return "\n".join(part for m in said for part in (m.content, json.dumps(m.extra) if m.extra else "") if part)


def _prompt(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Everything before the last answer."""
    last = max((index for index, message in enumerate(messages) if message.role == "assistant"), default=len(messages))
    return messages[:last]
