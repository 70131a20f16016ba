"""Files of questions and answers: order, rows kept, lines that stay lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftlib.errors import DataError
from sftlib.measure.batch_files import _one_line, answer_questions, read_questions, write_answers
from sftlib.measure.generate import Answer


def shout(conversations, names) -> list[Answer]:
    """Answers that show what was asked."""
    assert len(conversations) == len(names)
    return [Answer(messages[-1]["content"].upper(), 1, True) for messages in conversations]


def run(source: Path, goal: Path, system: str | None = None) -> str:
    questions = read_questions(source, system)
    write_answers(goal, questions, answer_questions(questions, shout))
    return goal.read_text(encoding="utf-8")


def asked(tmp_path: Path, row: dict, system: str | None = None) -> list[tuple[str, str]]:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    [question] = read_questions(path, system)
    return [(message["role"], message["content"]) for message in question.messages]


def test_text_to_text_keeps_line_by_line(tmp_path: Path):
    source = tmp_path / "in.txt"
    source.write_bytes("\ufeffone\r\n\r\ntwo\u2028still two\nthree".encode())
    assert run(source, tmp_path / "out.txt") == "ONE\n\nTWO\u2028STILL TWO\nTHREE\n"


def test_text_to_json_lines(tmp_path: Path):
    source = tmp_path / "in.txt"
    source.write_text("one\n\ntwo\n", encoding="utf-8")
    rows = [json.loads(line) for line in run(source, tmp_path / "out.jsonl").splitlines()]
    assert rows == [
        {"prompt": "one", "generated": "ONE", "generated_tokens": 1, "stopped": True},
        {"prompt": "two", "generated": "TWO", "generated_tokens": 1, "stopped": True},
    ]


def test_json_lines_keep_their_rows_and_their_order(tmp_path: Path):
    source = tmp_path / "in.jsonl"
    rows = [{"id": 7, "user": "one", "answer": "gold"}, {"prompt": "two", "tags": ["x"]}, {"id": 9, "user": "three"}]
    source.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    written = [json.loads(line) for line in run(source, tmp_path / "out.jsonl").splitlines()]
    assert [row["generated"] for row in written] == ["ONE", "TWO", "THREE"]
    assert [{key: row[key] for key in before} for row, before in zip(written, rows, strict=True)] == rows


ASK, OWN, GOLD = ({"role": role, "content": role[0]} for role in ("user", "system", "assistant"))


@pytest.mark.parametrize(
    ("row", "system", "messages"),
    [
        ({"user": "u"}, None, [("user", "u")]),
        ({"prompt": "u"}, "S", [("system", "S"), ("user", "u")]),
        ({"user": "u", "system": "s"}, "S", [("system", "s"), ("user", "u")]),
        ({"user": "u", "system": ""}, None, [("user", "u")]),
        ({"system": "s", "user": "u", "assistant": "a", "source": "x:1"}, None, [("system", "s"), ("user", "u")]),
        ({"messages": [OWN, ASK]}, "S", [("system", "s"), ("user", "u")]),
        ({"messages": [ASK, GOLD]}, None, [("user", "u")]),
        ({"messages": [ASK, GOLD, ASK]}, "S", [("system", "S"), ("user", "u"), ("assistant", "a"), ("user", "u")]),
    ],
)
def test_what_a_row_asks(tmp_path: Path, row: dict, system: str | None, messages: list):
    assert asked(tmp_path, row, system) == messages


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "list"),
        ('{"question": "q"}', "'question'"),
        ('{"user": "a", "prompt": "b"}', "both"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "nobody asks"),
        ('{"messages": "q"}', "not a list"),
        ("", "no question"),
    ],
)
def test_what_is_no_question_is_named_with_its_line(tmp_path: Path, text: str, says: str):
    path = tmp_path / "in.jsonl"
    path.write_text('{"user": "fine"}\n' * bool(text) + text, encoding="utf-8")
    with pytest.raises(DataError, match=says) as caught:
        read_questions(path, None)
    assert caught.value.where == (f"{path}:2" if text else str(path))


def test_a_file_in_another_encoding_is_named(tmp_path: Path):
    path = tmp_path / "in.txt"
    path.write_bytes("größer".encode("latin-1"))
    with pytest.raises(DataError, match="0xf6"):
        read_questions(path, None)


@given(st.text())
def test_an_answer_is_one_line_and_comes_back(text: str):
    line = _one_line(text)
    assert "\n" not in line
    assert "\r" not in line
    back = iter(line)
    read = "".join({"n": "\n", "r": "\r", "\\": "\\"}[next(back)] if letter == "\\" else letter for letter in back)
    assert read == text
