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
_ANYTHING = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")  # any of the three, since most texts have none
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


def clean_text(text: str, changes: dict[str, None]) -> str:
    """The text without what no processed text holds; the repairs made are added to `changes`."""
    if _ANYTHING.search(text) is None:
        return text
    for name, pattern, replacement in _REPAIRS:
        text, count = pattern.subn(replacement, text)
        if count:
            changes[name] = None
    return text


def _clean_message(message: Message, changes: dict[str, None]) -> Message:
    content = clean_text(message.content, changes)
    if content is message.content and not message.extra:
        return message
    extra = tuple((key, _clean_value(value, changes)) for key, value in message.extra)
    return replace(message, content=content, extra=extra)


def _clean_value(value: Any, changes: dict[str, None]) -> Any:
    """The same inside the names, calls and arguments that a message carries."""
    if isinstance(value, str):
        return clean_text(value, changes)
    if isinstance(value, dict):
        return {clean_text(key, changes): _clean_value(item, changes) for key, item in value.items()}
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
    """RowError for the first message that cannot stand where it stands, or says nothing."""
    before = "start"
    for number, message in enumerate(messages, 1):
        if fault := _fault(message, before):
            reason, why = fault
            raise RowError(reason, f"{why}message {number} of {_roles(messages)}")
        before = message.role


def _fault(message: Message, before: str) -> tuple[str, str] | None:
    is_empty = not message.content.strip()
    match message.role:
        case "system" if before != "start":
            return OUT_OF_ORDER, "a system message in the middle: "
        case "user" if before == "user":  # `_joined` left it, because one of the two carries a name
            return OUT_OF_ORDER, "two users in a row, one with a name: "
        case "user" if is_empty:
            return EMPTY_PROMPT, ""
        case "tool" if before not in ("assistant", "tool"):
            return OUT_OF_ORDER, "a tool that nobody called: "
        case "assistant" if before in ("start", "system"):
            return OUT_OF_ORDER, "the assistant speaks first: "
        case "assistant" if before == "assistant":
            return OUT_OF_ORDER, "two answers in a row: "
        case "assistant" if is_empty and not any(key == "tool_calls" for key, _ in message.extra):
            return EMPTY_ANSWER, ""
    return None


def _roles(messages: Sequence[Message]) -> str:
    return ", ".join(message.role for message in messages[:8]) + (", ..." if len(messages) > 8 else "") or "none"
