"""System messages out of a pool, as the row's own or for copies of it, and personas before them.

    pool "Be brief.", "Be kind."   mode only_if_missing   no system message   ->  one of the two
                                   mode replace           "You are a cook."   ->  "Be kind."
                                   mode prepend                               ->  "Be kind.\\n\\nYou are a cook."
    copies 2                       the row as it was, then two more of it, each with another message of the pool
    persona "You are a patient teacher."                  "Be kind."  ->  "You are a patient teacher.\\n\\nBe kind."

The answers are not touched; a message that they do not follow teaches to ignore it.
Worst bug: a variant that says the same as its row (tests/chat/augmentation/test_systems.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ..conversation import Conversation, Message
from .chance import Chance

Mode = Literal["only_if_missing", "replace", "prepend"]
MODES: tuple[Mode, ...] = ("only_if_missing", "replace", "prepend")


def put_system(conversation: Conversation, text: str, mode: Mode) -> Conversation:
    """The conversation with this system message."""
    before = system_of(conversation)
    if before is None:
        return replace(conversation, messages=(Message("system", text), *conversation.messages))
    if mode == "only_if_missing":
        return conversation
    if mode == "prepend":
        text = f"{text}\n\n{before.content}"
    return replace(conversation, messages=(replace(before, content=text), *conversation.messages[1:]))


def from_pool(conversation: Conversation, pool: Sequence[str], mode: Mode, chance: Chance) -> Conversation:
    """The conversation with one of the pool, of the row's own choice."""
    return put_system(conversation, chance.pick("system", pool), mode)


def variants(
    conversation: Conversation, pool: Sequence[str], mode: Mode, copies: int, chance: Chance
) -> list[Conversation]:
    """At most `copies` more of the row, each with another message; fewer where the pool makes no more that differ."""
    made: list[Conversation] = []
    for place in chance.order("system", len(pool)):
        one = put_system(conversation, pool[place], mode)
        if len(made) < copies and one != conversation and one not in made:
            made.append(one)
    return made


def put_persona(conversation: Conversation, pool: Sequence[str], chance: Chance) -> Conversation:
    """The conversation with a persona before its system message, or as its system message."""
    return put_system(conversation, chance.pick("persona", pool), "prepend")


def system_of(conversation: Conversation) -> Message | None:
    """The system message, None where there is none."""
    first = conversation.messages[0]
    return first if first.role == "system" else None
