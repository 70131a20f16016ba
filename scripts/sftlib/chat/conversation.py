"""What a training example says: messages in a conversation, and their two stored forms.

    Conversation((Message("user", "2+2?"), Message("assistant", "4")), source="raw.jsonl:17")
    stored: {"system": "", "user": "2+2?", "assistant": "4", "source": "raw.jsonl:17"}     one turn
            {"messages": [{"role": ..., "content": ...}, ...], "source": "raw.jsonl:17"}    more
            {"messages": [..., {"role": "assistant", "content": "5", "train": false}]}      an answer not to be learnt
A row of a data set that has a name carries it as well: "dataset": "faq".

Worst bug: a conversation that does not come back the same from its stored form (tests/chat/test_conversation.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `extra` keeps what templates know besides (name, tool_calls, tool_call_id), as plain JSON values.

    is_trained: False of an answer that the row says is not to be learnt (data.loss_on: flagged). No template sees it.
    """

    role: Role
    content: str
    extra: tuple[tuple[str, Any], ...] = ()
    is_trained: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The message as templates see it."""
        return {"role": self.role, "content": self.content, **dict(self.extra)}

    def to_stored(self) -> dict[str, Any]:
        """The message as it stands in a file."""
        return self.to_dict() if self.is_trained else {**self.to_dict(), "train": False}

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> Message:
        """The message of a file. KeyError or TypeError when it is none."""
        role, content, is_trained = stored["role"], stored["content"], stored.get("train", True)
        if not isinstance(is_trained, bool):
            raise TypeError(f"`train` of a message is {is_trained!r}, neither true nor false")
        extra = tuple((key, value) for key, value in stored.items() if key not in ("role", "content", "train"))
        return cls(role, content, extra, is_trained)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, the raw row they came from (`raw.jsonl:17`), and its data set, "" where it has no name."""

    messages: tuple[Message, ...]
    source: str
    dataset: str = ""

    def to_dicts(self) -> list[dict[str, Any]]:
        """The messages as templates see them."""
        return [message.to_dict() for message in self.messages]

    @property
    def is_single_turn(self) -> bool:
        """Whether it is [system] user assistant, all plain."""
        roles = [message.role for message in self.messages]
        is_plain = not any(message.extra or not message.is_trained for message in self.messages)
        return is_plain and roles in (["user", "assistant"], ["system", "user", "assistant"])

    def to_row(self) -> dict[str, Any]:
        """The stored form."""
        origin = {"source": self.source, **({"dataset": self.dataset} if self.dataset else {})}
        if self.is_single_turn:
            system = self.messages[0].content if len(self.messages) == 3 else ""
            user, assistant = (m.content for m in self.messages[-2:])
            if system or len(self.messages) == 2:
                return {"system": system, "user": user, "assistant": assistant, **origin}
        return {"messages": [message.to_stored() for message in self.messages], **origin}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Conversation:
        """The conversation of a stored row. KeyError, TypeError or ValueError when it is none."""
        if "messages" in row:
            messages = tuple(map(Message.from_stored, row["messages"]))
        else:
            system = (Message("system", row["system"]),) if row.get("system") else ()
            messages = (*system, Message("user", row["user"]), Message("assistant", row["assistant"]))
        for message in messages:
            if message.role not in ROLES:
                raise ValueError(f"the role {message.role!r} is none of {', '.join(ROLES)}")
            if not isinstance(message.content, str):
                raise TypeError(f"the {message.role} message is {type(message.content).__name__}, not text")
        return cls(messages, row["source"], named_set(row))


def named_set(row: dict[str, Any]) -> str:
    """The data set that a stored row names, "" where it names none. TypeError when that is no text."""
    name = row.get("dataset", "")
    if not isinstance(name, str):
        raise TypeError(f"its `dataset` is {name!r}, no text")
    return name
