"""Conversation: what is stored comes back the same, in the form DESIGN section 5 fixes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftlib.chat.conversation import ROLES, Conversation, Message

USER, ANSWER = Message("user", "2+2?"), Message("assistant", "4")


def test_the_data_set_is_stored_where_it_has_a_name():
    messages = (Message("user", "2+2?"), Message("assistant", "4"))
    for talk in (messages, (*messages, *messages)):
        row = Conversation(talk, "raw.jsonl:17", "sums").to_row()
        assert row["dataset"] == "sums"
        assert Conversation.from_row(row) == Conversation(talk, "raw.jsonl:17", "sums")
        assert "dataset" not in Conversation(talk, "raw.jsonl:17").to_row()
    with pytest.raises(TypeError, match="dataset"):
        Conversation.from_row({"user": "a", "assistant": "b", "source": "x:1", "dataset": 3})


def test_one_turn_is_stored_flat():
    row = Conversation((USER, ANSWER), "raw.jsonl:17").to_row()
    assert row == {"system": "", "user": "2+2?", "assistant": "4", "source": "raw.jsonl:17"}
    with_system = Conversation((Message("system", "Be brief."), USER, ANSWER), "raw.jsonl:17").to_row()
    assert with_system == {**row, "system": "Be brief."}


@pytest.mark.parametrize(
    "messages",
    [
        (USER, ANSWER, USER, ANSWER),
        (Message("system", ""), USER, ANSWER),
        (USER, Message("assistant", "4", (("reasoning_content", "two and two"),))),
        (USER,),
    ],
)
def test_anything_else_is_stored_as_messages_and_comes_back(messages):
    conversation = Conversation(messages, "raw.jsonl:17")
    assert "messages" in conversation.to_row()
    assert Conversation.from_row(json.loads(json.dumps(conversation.to_row()))) == conversation


messages = st.builds(
    Message,
    st.sampled_from(ROLES),
    st.text(),
    st.sampled_from(
        [(), (("name", "add"),), (("tool_calls", [{"function": {"name": "f", "arguments": {"x": 1.5}}}]),)]
    ),
)


@given(st.lists(messages, max_size=5), st.text())
def test_the_stored_form_comes_back_the_same(messages, source):
    conversation = Conversation(tuple(messages), source)
    assert Conversation.from_row(json.loads(json.dumps(conversation.to_row()))) == conversation


@pytest.mark.parametrize(
    "row",
    [
        {"user": "x", "source": "s"},
        {"user": "x", "assistant": 4, "source": "s"},
        {"user": "x", "assistant": "y"},
        {"messages": [{"role": "narrator", "content": "x"}], "source": "s"},
        {"messages": "x", "source": "s"},
    ],
)
def test_what_is_no_conversation_is_refused(row):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Conversation.from_row(row)
