"""Answers said anew: what is asked, and which replies are taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chat.augmentation.rows import talk, texts

from sftlib.chat.augmentation.rewriting import Reply, Style, key_of, requests_of, rewritten
from sftlib.chat.conversation import Conversation, Message

STYLE = Style("m", "Shout.", 0.0)
ROW = talk("2+2?", "four", "3+3?", "six", system="Be kind.")


def test_each_answer_is_asked_for_with_its_question():
    first, second = requests_of(ROW, STYLE)
    assert first["model"] == "m"
    assert first["temperature"] == 0
    assert set(first) == {"model", "messages", "temperature"}
    system, user = first["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert system["content"].startswith("Shout.\n\n")
    assert user["content"] == "Question:\n2+2?\n\nAnswer:\nfour"
    assert second["messages"][1]["content"] == "Question:\n3+3?\n\nAnswer:\nsix"
    assert requests_of(ROW, replace(STYLE, max_tokens=9))[0]["max_tokens"] == 9


def test_the_key_of_a_request_is_all_that_it_says():
    keys = {
        key_of(requests_of(row, style)[0])
        for row in (ROW, talk("2+2?", "five"), talk("2+3?", "four"))
        for style in (
            STYLE, replace(STYLE, model="n"), replace(STYLE, instruction="Whisper."), replace(STYLE, temperature=0.5),
            replace(STYLE, max_tokens=9),
        )
    }  # fmt: skip
    assert len(keys) == 15
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert len(key_of({})) == 64


def test_all_answers_are_replaced_and_nothing_else():
    made, why = rewritten(ROW, [Reply(" FOUR!\r\n", "stop"), Reply("SIX!", "")])
    assert why is None
    assert texts(made) == ["Be kind.", "2+2?", "FOUR!", "3+3?", "SIX!"]
    assert made.source == ROW.source


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply("SI", "length"), "cut off"),
        (Reply("", "content_filter"), "withheld by a filter"),
        (Reply(" \n", "stop"), "empty"),
        (Reply(" six\n", "stop"), "unchanged"),
        (Reply("SIX!<|im_end|>", "stop"), "holds a chat tag"),
    ],
)
def test_one_bad_reply_leaves_the_row_as_it_was(reply, why):
    assert rewritten(ROW, [Reply("FOUR!", "stop"), reply]) == (ROW, why)


def test_white_space_is_style_too():
    assert rewritten(talk("a", "One. Two."), [Reply("One.\nTwo.", "stop")])[1] is None


def test_calls_of_tools_are_not_asked_for():
    call = Message("assistant", "", (("tool_calls", [{"id": "1"}]),))
    row = Conversation((Message("user", "?"), call, Message("tool", "4"), Message("assistant", "four")), "a:1")
    assert len(requests_of(row, STYLE)) == 1
    assert texts(rewritten(row, [Reply("FOUR!", "stop")])[0]) == ["?", "", "4", "FOUR!"]
