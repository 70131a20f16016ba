"""Answers said anew, in another style: what is asked of a model elsewhere, and which of its answers are taken.

    requests_of(conversation, style)                       ->  one Request for every plain answer
    rewritten(conversation, requests, replies)             ->  the row with the new answers, or why not: "cut off", ...

A request does not say where it is sent, so that its key is the same for every address that serves the model. A row is
taken with all its answers or stays as it was: half of it in another style would teach both.
Worst bug: an answer that was cut off taken for a whole one (tests/chat/augmentation/test_rewriting.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...files import sha256_text
from ..cleaning import clean_text
from ..conversation import Conversation
from .tags import found_in

CUT_OFF, EMPTY, UNCHANGED, TAGGED, WITHHELD = (
    "cut off",
    "empty",
    "unchanged",
    "holds a chat tag",
    "withheld by a filter",
)
_FRAME = (
    "{instruction}\n\nYou are given a question and its answer. Write the answer anew in this way, in the language it "
    "has, with every fact and number kept. Reply with the new answer alone."
)


@dataclass(frozen=True)
class Style:
    """How answers are to be said, and by whom."""

    model: str
    instruction: str
    temperature: float
    max_tokens: int | None = None


@dataclass(frozen=True)
class Reply:
    """What came back: the text, and why it ended (`stop`, `length`, ...; "" where the server does not say)."""

    text: str
    finish: str


Request = Mapping[str, Any]  # the body of a chat completion


def requests_of(conversation: Conversation, style: Style) -> list[Request]:
    """A request for each answer that is plain text, in order."""
    requests: list[Request] = []
    question = ""
    for message in conversation.messages:
        if message.role == "user":
            question = message.content
        elif message.role == "assistant" and not message.extra:
            given = f"Question:\n{question}\n\nAnswer:\n{message.content}"
            system = _FRAME.format(instruction=style.instruction)
            request = {
                "model": style.model,
                "messages": [{"role": "system", "content": system}, {"role": "user", "content": given}],
                "temperature": style.temperature,
            }
            requests.append(request | ({"max_tokens": style.max_tokens} if style.max_tokens else {}))
    return requests


def key_of(request: Request) -> str:
    """What tells a request from every other: all that it says."""
    return sha256_text(json.dumps(request, sort_keys=True))


def rewritten(conversation: Conversation, replies: Sequence[Reply]) -> tuple[Conversation, str | None]:
    """The conversation with these answers in place of its plain ones; or as it was, and why."""
    messages, rest = list(conversation.messages), iter(replies)
    for place, message in enumerate(messages):
        if message.role == "assistant" and not message.extra:
            reply = next(rest)
            text = clean_text(reply.text, {}).strip()
            if fault := _fault(message.content, text, reply.finish):
                return conversation, fault
            messages[place] = replace(message, content=text)
    return replace(conversation, messages=tuple(messages)), None


def _fault(before: str, text: str, finish: str) -> str | None:
    if finish == "length":
        return CUT_OFF
    if finish == "content_filter":
        return WITHHELD
    if not text:
        return EMPTY
    if found_in(text):
        return TAGGED
    return UNCHANGED if text == before.strip() else None
