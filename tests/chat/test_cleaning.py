"""Cleaning: repairs are counted under their name, faults refused under theirs, the rest stays to the letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftlib.chat import cleaning
from sftlib.chat.cleaning import clean
from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.rows import RowError

LETTERS = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


def talk(roles: str, **contents: str) -> Conversation:
    """A conversation of these roles: talk("sua") is system, user, assistant. `u1="x"` is what message 1 says."""
    messages = [Message(LETTERS[r], contents.get(f"{r}{i}", f"{r}{i}")) for i, r in enumerate(roles)]  # type: ignore[arg-type]
    return Conversation(tuple(messages), "f:1")


def roles(conversation: Conversation) -> str:
    return "".join(message.role[0] for message in conversation.messages)


@pytest.mark.parametrize("shape", ["ua", "sua", "uaua", "uata", "uattaua", "suaua"])
def test_a_good_conversation_stays_as_it_is(shape):
    assert clean(talk(shape)) == (talk(shape), ())


@pytest.mark.parametrize(
    ("shape", "becomes", "change"),
    [
        ("uau", "ua", cleaning.CUT),
        ("uaut", "ua", cleaning.CUT),
        ("uat", "ua", cleaning.CUT),
        ("uua", "ua", cleaning.USERS_JOINED),
        ("uauuua", "uaua", cleaning.USERS_JOINED),
        ("ssua", "sua", cleaning.SYSTEMS_JOINED),
    ],
)
def test_repairs(shape, becomes, change):
    cleaned, changes = clean(talk(shape))
    assert (roles(cleaned), changes) == (becomes, (change,))


def test_neighbours_are_joined_by_a_blank_line():
    assert clean(talk("uua"))[0].messages[0].content == "u0\n\nu1"
    assert clean(talk("uua", u0=" "))[0].messages[0].content == "u1"


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        (talk(""), cleaning.NO_ANSWER),
        (talk("su"), cleaning.NO_ANSWER),
        (talk("a"), cleaning.OUT_OF_ORDER),
        (talk("sa"), cleaning.OUT_OF_ORDER),
        (talk("uaa"), cleaning.OUT_OF_ORDER),
        (talk("usa"), cleaning.OUT_OF_ORDER),
        (talk("uta"), cleaning.OUT_OF_ORDER),
        (talk("ua", u0=" \n\u2003"), cleaning.EMPTY_PROMPT),
        (talk("ua", u0="\0\x1b"), cleaning.EMPTY_PROMPT),
        (talk("ua", a1="\t"), cleaning.EMPTY_ANSWER),
        (talk("uaua", a1=""), cleaning.EMPTY_ANSWER),
    ],
)
def test_faults(conversation, reason):
    with pytest.raises(RowError) as caught:
        clean(conversation)
    assert caught.value.reason == reason


def test_an_empty_system_message_is_none_at_all():
    assert clean(talk("sua", s0=" ")) == (Conversation(talk("sua").messages[1:], "f:1"), ())


def test_an_answer_that_only_calls_a_tool_is_an_answer():
    call = Message("assistant", "", (("tool_calls", [{"type": "function", "function": {"name": "f\0"}}]),))
    cleaned, changes = clean(Conversation((Message("user", "x"), call), ""))
    assert cleaned.messages[1].extra == (("tool_calls", [{"type": "function", "function": {"name": "f"}}]),)
    assert changes == (cleaning.CONTROLS,)


@pytest.mark.parametrize(
    ("text", "becomes", "changes"),
    [
        ("a\r\nb\rc\x0bd\x0ce", "a\nb\nc\nd\ne", (cleaning.LINE_ENDS,)),
        ("a\0b\x1b[1mc\x7f", "ab[1mc", (cleaning.CONTROLS,)),
        ("half \ud83d", "half \ufffd", (cleaning.HALF_PAIRS,)),
        ("  a\t\n\u2028\u0085\ufeff👍  ", "  a\t\n\u2028\u0085\ufeff👍  ", ()),
    ],
)
def test_characters(text, becomes, changes):
    cleaned, found = clean(talk("ua", a1=text))
    assert (cleaned.messages[1].content, found) == (becomes, changes)


@given(st.text("suat", max_size=8), st.lists(st.text(max_size=4), min_size=8, max_size=8))
def test_cleaning_again_changes_nothing_and_the_result_can_be_stored(shape, texts):
    messages = tuple(Message(LETTERS[r], text) for r, text in zip(shape, texts, strict=False))  # type: ignore[arg-type]
    try:
        cleaned, _ = clean(Conversation(messages, "f:1"))
    except RowError:
        return
    assert clean(cleaned) == (cleaned, ())
    assert cleaned.messages[-1].role == "assistant"
    assert Conversation.from_row(cleaned.to_row()) == cleaned
    "".join(message.content for message in cleaned.messages).encode("utf-8")
