"""From a conversation as its row has it to one that can be trained on, or the reason why it cannot.

    clean(conversation)  ->  (conversation, ("cut after the last answer",))       or RowError("empty answer", ...)

What is repaired, and counted under these words:
    line ends made \\n               CRLF and lone CR, vertical tabs and form feeds become line feeds
    control characters removed      U+0000..U+001F but tab and line feed, and U+007F: no tokenizer was trained on them
    half surrogate pairs replaced   by U+FFFD; such a text cannot be written as UTF-8
    neighbouring user turns joined  with a blank line: people send one thought in two messages
    neighbouring system messages joined
    cut after the last answer       user and tool turns that nobody answers teach nothing
What is refused: an empty prompt or answer, no answer at all, an assistant that speaks first, two answers in a row
(which one is meant?), a system message in the middle, a tool that nobody called. Everything else stays as it is:
white space at the ends, markup, any script.

Worst bug: a text changed without being counted (tests/chat/test_cleaning.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .conversation import Conversation, Message
from .rows import SURROGATES, RowError

EMPTY_PROMPT = "empty prompt"
EMPTY_ANSWER = "empty answer"
NO_ANSWER = "no assistant turn"
OUT_OF_ORDER = "roles out of order"

LINE_ENDS = "line ends made \\n"
CONTROLS = "control characters removed"
HALF_PAIRS = "half surrogate pairs replaced"
USERS_JOINED = "neighbouring user turns joined"
SYSTEMS_JOINED = "neighbouring system messages joined"
CUT = "cut after the last answer"

_LINE_ENDS = re.compile(r"\r\n|[\r\x0b\x0c]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_REPAIRS = ((LINE_ENDS, _LINE_ENDS, "\n"), (CONTROLS, _CONTROLS, ""), (HALF_PAIRS, SURROGATES, "\ufffd"))


def clean(conversation: Conversation) -> tuple[Conversation, tuple[str, ...]]:
    """The repaired conversation, and what was repaired. RowError when it cannot be used."""
    changes: dict[str, None] = {}
    messages = [_clean_message(message, changes) for message in conversation.messages]
    messages = [message for message in messages if message.role != "system" or message.content.strip()]
    messages = _joined(messages, changes)
    last = max((index for index, message in enumerate(messages) if message.role == "assistant"), default=None)
    if last is None:
        raise RowError(NO_ANSWER, f"its roles are {_roles(messages)}")
    if last + 1 < len(messages):
        del messages[last + 1 :]
        changes[CUT] = None
    _check(messages)
    return replace(conversation, messages=tuple(messages)), tuple(changes)


def _clean_message(message: Message, changes: dict[str, None]) -> Message:
    content = _clean_text(message.content, changes)
    extra = tuple((key, _clean_value(value, changes)) for key, value in message.extra)
    return replace(message, content=content, extra=extra)


def _clean_text(text: str, changes: dict[str, None]) -> str:
    for name, pattern, replacement in _REPAIRS:
        text, count = pattern.subn(replacement, text)
        if count:
            changes[name] = None
    return text


def _clean_value(value: Any, changes: dict[str, None]) -> Any:
    """The same inside the names, calls and arguments that a message carries."""
    if isinstance(value, str):
        return _clean_text(value, changes)
    if isinstance(value, dict):
        return {_clean_text(key, changes): _clean_value(item, changes) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean_value(item, changes) for item in value]
    return value


def _joined(messages: Sequence[Message], changes: dict[str, None]) -> list[Message]:
    joined: list[Message] = []
    for message in messages:
        before = joined[-1] if joined else None
        name = {"user": USERS_JOINED, "system": SYSTEMS_JOINED}.get(message.role)
        if before is not None and before.role == message.role and name and not message.extra and not before.extra:
            joined[-1] = replace(before, content="\n\n".join(filter(str.strip, (before.content, message.content))))
            changes[name] = None
        else:
            joined.append(message)
    return joined


def _check(messages: Sequence[Message]) -> None:
    before = "start"
    for index, message in enumerate(messages):
        role = message.role
        place = f"message {index + 1} of {_roles(messages)}"
        calls_tools = any(key == "tool_calls" for key, _ in message.extra)
        if role == "system" and before != "start":
            raise RowError(OUT_OF_ORDER, f"a system message in the middle: {place}")
        if role == "assistant" and before in ("start", "system"):
            raise RowError(OUT_OF_ORDER, f"the assistant speaks first: {place}")
        if role == "assistant" and before == "assistant":
            raise RowError(OUT_OF_ORDER, f"two answers in a row: {place}")
        if role == "user" and before == "user":
            raise RowError(OUT_OF_ORDER, f"two users in a row, one with a name: {place}")
        if role == "tool" and before not in ("assistant", "tool"):
            raise RowError(OUT_OF_ORDER, f"a tool that nobody called: {place}")
        if role == "user" and not message.content.strip():
            raise RowError(EMPTY_PROMPT, place)
        if role == "assistant" and not message.content.strip() and not calls_tools:
            raise RowError(EMPTY_ANSWER, place)
        before = role


def _roles(messages: Sequence[Message]) -> str:
    return ", ".join(message.role for message in messages[:8]) + (", ..." if len(messages) > 8 else "") or "none"
