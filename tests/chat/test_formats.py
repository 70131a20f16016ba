"""Formats: every published shape says the conversation it means; numbers keep their digits; other shapes get advice."""

from __future__ import annotations

import datetime
import json

import pytest

from sftlib.chat.conversation import Message
from sftlib.chat.formats import BROKEN_MESSAGE, UNKNOWN_ROLE, UNKNOWN_SHAPE, detect, to_conversation
from sftlib.chat.rows import NOT_TEXT, Number, RowError, parse_json, plain, to_text


def said(row, columns=None) -> tuple[str, list[tuple[str, str]]]:
    """The format's name, and (role, content) of the messages."""
    format = detect(row, columns)
    return format.name, [(m.role, m.content) for m in to_conversation(row, format, "f:1").messages]


def turn(user: str, assistant: str, system: str | None = None) -> list[tuple[str, str]]:
    return ([("system", system)] if system else []) + [("user", user), ("assistant", assistant)]


@pytest.mark.parametrize(
    ("row", "name", "messages"),
    [
        ({"system": "s", "user": "u", "assistant": "a"}, "system/user/assistant", turn("u", "a", "s")),
        ({"system": None, "user": "u", "assistant": "a"}, "system/user/assistant", turn("u", "a")),
        ({"question": "q", "answer": "a", "id": 7}, "question/answer", turn("q", "a")),
        ({"Question": "q", " ANSWER ": "a"}, "question/answer", turn("q", "a")),
        ({"q": "q", "a": "a"}, "question/answer", turn("q", "a")),
        ({"query": "q", "response": "a"}, "question/answer", turn("q", "a")),
        ({"prompt": "q", "response": "a"}, "question/answer", turn("q", "a")),
        ({"input": "q", "output": "a"}, "question/answer", turn("q", "a")),
        ({"problem": "q", "solution": "a"}, "question/answer", turn("q", "a")),
        ({"query": "q", "answer": "a"}, "question/answer", turn("q", "a")),
        ({"question": "q", "context": "c", "answer": "a"}, "question/answer", turn("q\n\nc", "a")),
        ({"system_prompt": "s", "question": "q", "response": "a"}, "question/answer", turn("q", "a", "s")),
        ({"instruction": "i", "input": "x", "output": "o"}, "alpaca", turn("i\n\nx", "o")),
        ({"instruction": "i", "input": "", "output": "o"}, "alpaca", turn("i", "o")),
        ({"instruction": "", "input": "x", "output": "o"}, "alpaca", turn("x", "o")),
        ({"instruction": "i", "output": "o", "text": "whole"}, "alpaca", turn("i", "o")),
        ({"instruction": "i", "input": "x", "output": "o", "system": "s"}, "alpaca", turn("i\n\nx", "o", "s")),
        (
            {"instruction": "i", "output": "o", "history": [["q1", "a1"], ["q2", "a2"]]},
            "alpaca",
            turn("q1", "a1") + turn("q2", "a2") + turn("i", "o"),
        ),
        ({"instruction": "i", "context": "c", "response": "r", "category": "k"}, "dolly", turn("i\n\nc", "r")),
        ({"instruction": "i", "context": " ", "response": "r"}, "dolly", turn("i", "r")),
        ({"prompt": "p", "completion": "c"}, "prompt/completion", turn("p", "c")),
        (
            {
                "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
                "completion": [{"role": "assistant", "content": "a"}],
            },
            "prompt/completion",
            turn("u", "a", "s"),
        ),
        (
            {"messages": [{"role": "developer", "content": "s"}, {"role": "user", "content": "u"}], "prompt": "u"},
            "messages",
            [("system", "s"), ("user", "u")],
        ),
        (
            {"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}], "system": "s"},
            "sharegpt",
            turn("u", "a", "s"),
        ),
        (
            {"conversations": '[{"from": "human", "value": "u"}, {"from": "gpt", "value": "1.10"}]'},
            "sharegpt",
            turn("u", "1.10"),
        ),
        ({"question": None, "answer": None, "prompt": "p", "completion": "c"}, "prompt/completion", turn("p", "c")),
        ({"instruction": None, "output": None, "q": "q", "a": "a"}, "question/answer", turn("q", "a")),
        ({"question": "q", "answer": None}, "question/answer", turn("q", "")),
    ],
)
def test_published_shapes(row, name, messages):
    assert said(row) == (name, messages)


def test_the_reason_names_the_fields():
    assert (
        detect({"Instruction": "i", "input": "x", "output": "o"}).reason == "has 'Instruction' and 'input' and 'output'"
    )
    assert (
        "'conversations' lists messages with from"
        in detect({"conversations": [{"from": "human", "value": "x"}]}).reason
    )


def test_tools_keep_their_names_calls_and_ids():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2.50}'}}
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "2.5?"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "3.50", "tool_call_id": "c1"},
            {"role": "function", "name": "add", "content": Number("3.50")},
            {"role": "assistant", "content": "3.5", "weight": Number("0"), "tool_calls": None},
        ]
    }
    format = detect(row)
    called = {**call, "function": {"name": "add", "arguments": {"a": 1, "b": 2.5}}}
    assert to_conversation(row, format, "f:1").messages == (
        Message("user", "1+2.5?"),
        Message("assistant", "", (("tool_calls", [called]),)),
        Message("tool", "3.50", (("tool_call_id", "c1"),)),
        Message("tool", "3.50", (("name", "add"),)),
        Message("assistant", "3.5", is_trained=False),
    )
    assert format.left_out(row) == []


@pytest.mark.parametrize(
    ("flags", "is_trained"),
    [
        ({}, True), ({"train": True}, True), ({"train": False}, False), ({"training": False}, False),
        ({"weight": 1}, True), ({"weight": Number("0")}, False), ({"weight": Number("1.0")}, True),
        ({"train": None, "weight": 0}, False), ({"train": False, "weight": 0}, False),
    ],
)  # fmt: skip
def test_an_answer_says_whether_it_is_learnt(flags, is_trained):
    row = {"messages": [{"role": "user", "content": "q"} | flags, {"role": "assistant", "content": "a"} | flags]}
    format = detect(row)
    conversation = to_conversation(row, format, "f:1")
    assert conversation.messages == (Message("user", "q"), Message("assistant", "a", (), is_trained))
    assert format.left_out(row) == []
    assert ("messages" in conversation.to_row()) == (not is_trained)


@pytest.mark.parametrize(
    "flags", [{"weight": Number("0.5")}, {"weight": 2}, {"train": "no"}, {"train": []}, {"train": True, "weight": 0}]
)
def test_a_flag_without_a_meaning_is_a_reason(flags):
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"} | flags]}
    with pytest.raises(RowError, match="answer") as caught:
        to_conversation(row, detect(row), "f:1")
    assert caught.value.reason == "broken message"


def test_older_ways_to_call_a_function():
    openai = {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}]}
    sharegpt = {"conversations": [{"from": "function_call", "value": '{"name": "f", "arguments": {}}'}]}
    expected = Message(
        "assistant", "", (("tool_calls", [{"type": "function", "function": {"name": "f", "arguments": {}}}]),)
    )
    for row in (openai, sharegpt):
        assert to_conversation(row, detect(row), "").messages == (expected,)
    observed = {"conversations": [{"from": "observation", "value": "7"}]}
    assert said(observed) == ("sharegpt", [("tool", "7")])


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("1.10", "1.10"), ("1e5", "1e5"), ("-0", "-0"), ("12345678901234567890123", "12345678901234567890123"),
        ("9" * 5000, "9" * 5000), ("true", "true"), ("null", None), ("NaN", None),
        ('" 1 "', " 1 "), ('"ü\\u2028"', "ü\u2028"),
        ('[1.10, "ä", null, {"b" : false}]', '[1.10,"ä",null,{"b":false}]'),
    ],
)  # fmt: skip
def test_fields_become_text(written, text):
    assert to_text(parse_json(written)) == text


def test_values_of_parquet_and_the_hub_become_text():
    assert to_text(1.5) == "1.5"
    assert to_text(True) == "true"
    assert to_text(float("nan")) is None
    assert to_text(datetime.date(2024, 2, 29)) == "2024-02-29"
    assert to_text(float("-inf")) == "-Infinity"
    assert to_text({"when": datetime.date(2024, 2, 29), "x": [float("nan"), 2]}) == '{"when":"2024-02-29","x":[null,2]}'
    assert to_text("é".encode()) == "é"
    with pytest.raises(RowError) as caught:
        to_text(b"\xff\xd8")
    assert caught.value.reason == NOT_TEXT


def test_extras_are_plain_json():
    value = plain(parse_json('{"a": [1, 2.50, 1e999, true, null, "x"], "b": ' + "9" * 5000 + "}"))
    assert value["a"] == [1, 2.5, "1e999", True, None, "x"]
    json.dumps(value, allow_nan=False)


@pytest.mark.parametrize(
    ("row", "columns", "messages"),
    [
        ({"p": "q", "r": "a"}, {"user": "p", "assistant": "r"}, turn("q", "a")),
        ({"p": "q", "r": "a", "s": "sys"}, {"user": "p", "assistant": "r", "system": "s"}, turn("q", "a", "sys")),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, {"assistant": "chosen"}, turn("q", "a")),
        ({"question": "long", "short": "q", "answer": "a"}, {"user": "short"}, turn("q", "a")),
        ({"chat": [], "log": [{"role": "user", "content": "x"}]}, {"messages": "log"}, [("user", "x")]),
        ({"question": "q", "answer": "a", "persona": "s"}, {"system": "persona"}, turn("q", "a", "s")),
    ],
)  # fmt: skip
def test_columns_map_anything_else(row, columns, messages):
    assert said(row, columns)[1] == messages


@pytest.mark.parametrize(
    ("row", "columns", "advice"),
    [
        (
            {"id": "x-1", "pregunta": "¿Qué es?", "respuesta": "Es una cosa muy larga.", "n": 3},
            None,
            "add data.columns: {user: pregunta, assistant: respuesta}",
        ),
        (
            {"question": "q", "réponse complète": "a"},
            None,
            'add data.columns: {user: question, assistant: "réponse complète"}',
        ),
        (
            {"instructions": "i", "output": "o"},
            None,
            "nearest is alpaca ('instruction', 'output'); add data.columns: {user: instructions, assistant: output}",
        ),
        ({"text": "all in one"}, None, "two texts are needed"),
        (
            {"prompt": "p", "chosen": "c", "rejected": "r"},
            None,
            "preference pair; to train on the chosen answers add data.columns: {user: prompt, assistant: chosen}",
        ),
        ({"role": "user", "content": "x"}, None, "a single message"),
        ({"q": "x", "a": "y"}, {"user": "frage"}, "there is no 'frage', as data.columns says; it has 'q', 'a'"),
        ({}, None, "it has no fields"),
    ],
)  # fmt: skip
def test_other_shapes_get_the_mapping_to_add(row, columns, advice):
    with pytest.raises(RowError) as caught:
        detect(row, columns)
    assert caught.value.reason == UNKNOWN_SHAPE
    assert advice in caught.value.detail


def test_the_advice_works_when_it_is_followed():
    row = {"frage": "Was ist das?", "antwort": "Ein langer Satz, der antwortet.", "id": "a"}
    with pytest.raises(RowError, match=r"\{user: frage, assistant: antwort\}"):
        detect(row)
    assert said(row, {"user": "frage", "assistant": "antwort"})[1] == turn(row["frage"], row["antwort"])


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({"messages": [{"role": "narrator", "content": "x"}]}, UNKNOWN_ROLE, "'narrator'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            NOT_TEXT,
            "'image_url'",
        ),
        ({"messages": [{"role": "user", "content": "x"}, "stray"]}, BROKEN_MESSAGE, "a message is a text"),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}]},
            BROKEN_MESSAGE,
            "'function'",
        ),
        ({"instruction": "i", "output": "o", "history": ["x"]}, BROKEN_MESSAGE, "'history'"),
    ],
)
def test_broken_messages_say_what_is_wrong(row, reason, detail):
    with pytest.raises(RowError) as caught:
        to_conversation(row, detect(row), "f:1")
    assert (caught.value.reason, detail in caught.value.detail) == (reason, True)


def test_unused_fields_are_named_and_empty_ones_are_not():
    row = {"q": "x", "a": "y", "id": 1, "note": None, "tag": "", "category": "c"}
    assert detect(row).left_out(row) == ["id", "category"]
