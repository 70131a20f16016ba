"""A conversation in turns: what the user says and all that answers it, tools included.

    system | user assistant | user assistant tool assistant      one head, two turns
    some_turns(conversation, 1, 2)  ->  system | user assistant tool assistant

Every part begins with what a turn begins with, so that no answer stands without its question; the head is in each.

Worst bug: an answer whose question is in another part (tests/chat/test_turns.py).
"""

from __future__ import annotations

from dataclasses import replace

from .conversation import Conversation


def count_turns(conversation: Conversation) -> int:
    """How many turns there are; what stands before the first user, but the head, belongs to the first turn."""
    return len(_starts(conversation))


def some_turns(conversation: Conversation, first: int, past: int) -> Conversation:
    """The head and the turns from `first` to before `past`."""
    messages = conversation.messages
    starts = [*_starts(conversation), len(messages)]
    return replace(conversation, messages=(*messages[: starts[0]], *messages[starts[first] : starts[past]]))


def up_to_last_trained(conversation: Conversation) -> Conversation | None:
    """The conversation without what follows its last trained answer; None where none is trained."""
    messages = conversation.messages
    ends = [k for k, message in enumerate(messages) if message.role == "assistant" and message.is_trained and k > 0]
    return replace(conversation, messages=messages[: ends[-1] + 1]) if ends else None


def _starts(conversation: Conversation) -> list[int]:
    """Where each turn begins."""
    roles = [message.role for message in conversation.messages]
    head = next((place for place, role in enumerate(roles) if role != "system"), len(roles))
    later = [place for place in range(head + 1, len(roles)) if roles[place] == "user"]
    if roles[head : head + 1] == ["user"] or not later:
        return [head, *later]
    return [head, *later[1:]]
