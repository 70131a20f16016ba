"""Turns by hand, and no answer without its question."""

from __future__ import annotations

from hypothesis import given, settings
from strategies import conversations

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.turns import count_turns, some_turns, up_to_last_trained

S, U1, A1, U2 = Message("system", "s"), Message("user", "u"), Message("assistant", "a"), Message("user", "v")
CALL, TOOL, A2 = Message("assistant", "", (("tool_calls", [1]),)), Message("tool", "3"), Message("assistant", "b")
TALK = Conversation((S, U1, A1, U2, CALL, TOOL, A2), "a:1")


def test_a_tools_turn_stays_whole() -> None:
    assert count_turns(TALK) == 2
    assert some_turns(TALK, 0, 1) == Conversation((S, U1, A1), "a:1")
    assert some_turns(TALK, 1, 2) == Conversation((S, U2, CALL, TOOL, A2), "a:1")
    assert some_turns(TALK, 0, 2) == TALK
    assert some_turns(TALK, 0, 0).messages == (S,)


def test_what_stands_before_the_first_user_belongs_to_the_first_turn() -> None:
    hello = Conversation((A1, U1, A1, U2, A2), "a:1")
    assert count_turns(hello) == 2
    assert some_turns(hello, 0, 1).messages == (A1, U1, A1)
    assert count_turns(Conversation((S,), "a:1")) == 1


def test_up_to_the_last_answer_that_is_learnt() -> None:
    flagged = Message("assistant", "no", is_trained=False)
    assert up_to_last_trained(TALK) == TALK
    assert up_to_last_trained(Conversation((U1, A1, U2, flagged), "a:1")).messages == (U1, A1)
    assert up_to_last_trained(Conversation((U1, flagged), "a:1")) is None
    assert up_to_last_trained(Conversation((A1, U1), "a:1")) is None  # it answers nothing


@settings(max_examples=50)
@given(conversation=conversations())
def test_turns_are_the_conversation(conversation: Conversation) -> None:
    turns = [some_turns(conversation, at, at + 1).messages for at in range(count_turns(conversation))]
    head = tuple(message for message in conversation.messages if message.role == "system")
    assert all([one.role for one in turn] == [*["system"] * len(head), "user", "assistant"] for turn in turns)
    assert (*head, *(one for turn in turns for one in turn[len(head) :])) == conversation.messages
