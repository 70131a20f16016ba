"""Conversations in short."""

from __future__ import annotations

from sftlib.chat.conversation import Conversation, Message


def talk(*said: str, system: str | None = None, source: str = "a.jsonl:1") -> Conversation:
    """User and assistant in turn."""
    head = () if system is None else (Message("system", system),)
    body = (Message(("user", "assistant")[place % 2], text) for place, text in enumerate(said))
    return Conversation((*head, *body), source)


def texts(conversation: Conversation) -> list[str]:
    """What is said, in order."""
    return [message.content for message in conversation.messages]
