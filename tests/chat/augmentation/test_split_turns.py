"""Long answers in several turns: every character kept, every part complete, the parts even."""

from __future__ import annotations

import pytest
from chat.augmentation.rows import talk, texts
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import contents

from sftlib.chat.augmentation.chance import Chance
from sftlib.chat.augmentation.turns import FOLLOW_UPS, characters, split_answer, split_turns, words
from sftlib.chat.conversation import Conversation, Message

CODE = "Write this:\n\n```python\nx = 1\n\ny = 2\n```\n\nThen run it."


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("One two three.", 3, ["One two three."]),
        ("One two. Three four. Five six.", 4, ["One two. Three four. ", "Five six."]),
        ("A b.\n\nC d.\n\nE f.\n\nG h.", 6, ["A b.\n\nC d.\n\n", "E f.\n\nG h."]),  # even, not 6 words and 2
        ("One sentence of six words only. Two.", 3, ["One sentence of six words only. ", "Two."]),
        ("It needs these: one. Two two. Three.", 3, ["It needs these: one. ", "Two two. Three."]),
        (CODE, 3, ["Write this:\n\n```python\nx = 1\n\ny = 2\n```\n\n", "Then run it."]),
        ("You need:\n\n- a b c\n- d e f\n\nThat is all.", 4, ["You need:\n\n- a b c\n- d e f\n\n", "That is all."]),
        ("## How?\n\nLike this here. And so.", 3, ["## How?\n\nLike this here. ", "And so."]),
        (
            "One two. Three four.\nFive six. Seven eight.\nNine ten.",
            5,
            ["One two. Three four.\n", "Five six. Seven eight.\n", "Nine ten."],
        ),  # lines that fit stay whole
        ("```\nnever closed\n\nso be it", 2, ["```\nnever closed\n\nso be it"]),
        ("no end of a sentence anywhere in here", 3, ["no end of a sentence anywhere in here"]),
    ],
)
def test_parts_by_hand(text, limit, parts):
    assert split_answer(text, limit, words) == parts


def test_characters_for_languages_without_blanks():
    assert split_answer("今日は晴れです。明日は雨です。", 10, characters) == ["今日は晴れです。", "明日は雨です。"]
    assert len(split_answer("今日は晴れです。明日は雨です。", 1, words)) == 1


def test_a_conversation_goes_on_in_turns():
    row = talk("All?", "One two. Three four. ", "Ok?", "Yes.")
    split = split_turns(row, 2, words, ["Go on."], Chance(1, "x"))
    assert texts(split) == ["All?", "One two.", "Go on.", "Three four. ", "Ok?", "Yes."]
    assert [message.role for message in split.messages] == ["user", "assistant"] * 3
    assert split.source == row.source
    assert split_turns(row, 9, words, ["Go on."], Chance(1, "x")) == row


def test_calls_of_tools_stay_as_they_are():
    call = Message("assistant", "One two. Three four.", (("tool_calls", [{"id": "1"}]),))
    row = Conversation((Message("user", "?"), call), "a:1")
    assert split_turns(row, 2, words, ["Go on."], Chance(1, "x")) == row


def test_all_follow_ups_are_said():
    text = "One two. " * 40
    said = texts(split_turns(talk("?", text), 2, words, FOLLOW_UPS, Chance(1, "x")))
    assert set(said[2::2]) == set(FOLLOW_UPS)


ANSWERS = st.lists(
    st.one_of(
        contents(markers=False), st.sampled_from(["One two three. ", "Wait:\n\n", "- a\n- b\n\n", "```\n", "1. "])
    )
).map("".join)


@settings(max_examples=150, deadline=None)
@given(ANSWERS, st.integers(1, 12), st.sampled_from([words, characters]))
def test_nothing_is_lost(text, limit, size):
    parts = split_answer(text, limit, size)
    assert "".join(parts) == text
    assert all(part.strip() for part in parts) or len(parts) == 1
    assert len(parts) == 1 or size(text) > limit
    split = split_turns(talk("?", text), limit, size, ["Go on."], Chance(1, "x"))
    answers = [message.content for message in split.messages if message.role == "assistant"]
    assert "".join("".join(answers).split()) == "".join(text.split())
    assert len(answers) == len(parts)
    assert [m.content for m in split.messages if m.role == "user"] == ["?"] + ["Go on."] * (len(parts) - 1)
    if answers != [text]:
        assert not any(answer.rstrip().endswith((":", ",", ";", "(")) for answer in answers[:-1])
