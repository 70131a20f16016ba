"""Stored splits: what process, style and render wrote comes back whole; anything else is an error with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from chat.conftest import run_process

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.stored import RenderedPair, read_split
from sftlib.errors import DataError

ROW = '{"system": "", "user": "2+2?", "assistant": "4", "source": "raw.jsonl:17"}\n'


def test_what_process_writes_is_read_back(raw):
    run_process(raw("faq.jsonl", [{"q": f"What is {i}?\u2028", "a": f"It\n is {i}."} for i in range(10)]))
    split = read_split("out/train.jsonl")
    assert (split.path, split.kind, len(split)) == (Path("out/train.jsonl"), "conversations", 8)
    first = split.rows[0]
    number = int(first.source.removeprefix("faq.jsonl:")) - 1
    assert first.messages == (Message("user", f"What is {number}?\u2028"), Message("assistant", f"It\n is {number}."))


def test_rendered_pairs_are_told_apart(raw):
    raw(
        "r/train.jsonl",
        '{"input": "<u>2+2?", "target": "4<e>", "source": "raw.jsonl:17"}\n\n{"input": "", "target": "x"}\n',
    )
    split = read_split("r/train.jsonl")
    assert split.kind == "rendered"
    assert split.rows == [RenderedPair("<u>2+2?", "4<e>", "raw.jsonl:17"), RenderedPair("", "x", "r/train.jsonl:3")]


def test_rows_written_by_hand_need_no_source_and_no_system(raw):
    raw("t.jsonl", '\ufeff{"user": "2+2?", "assistant": "4"}\r\n')
    assert read_split("t.jsonl").rows == [
        Conversation((Message("user", "2+2?"), Message("assistant", "4")), "t.jsonl:1")
    ]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("data/processed/train.jsonl", "make process"),
        ("data/processed_with_style/val.jsonl", 'make style STYLE="..."'),
        ("data/rendered/test.jsonl", "make render"),
        ("elsewhere.jsonl", "make process"),
    ],
)
def test_a_missing_split_names_the_target_that_makes_it(raw, path, target):
    with pytest.raises(DataError, match="missing") as caught:
        read_split(path)
    assert caught.value.where == path
    assert caught.value.cure == f"Make it with: {target}"


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_split_is_an_error(raw, content):
    with pytest.raises(DataError, match="holds no rows"):
        read_split(raw("test.jsonl", content))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"user": "x"', "not valid JSON"),
        ("[1]", "it is no object"),
        ('{"instruction": "i", "output": "o"}', "it has 'instruction', 'output', 'source' but not 'user'"),
        ('{"user": "x", "assistant": 4}', "assistant message is int"),
        ('{"user": "x", "assistant": " "}', "empty answer"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "no assistant turn"),
        ('{"messages": [["user", "x"]]}', "not a processed row"),
        ('{"messages": 7}', "not a processed row"),
        ('{"user": "a\\u0000", "assistant": "y"}', "control characters removed"),
        ('{"user": "a", "assistant": "y\\ud800"}', "half surrogate pairs"),
        ('{"input": "x", "target": 3}', "must be texts"),
        ('{"input": "x", "target": ""}', "target is empty"),
    ],
)
def test_a_broken_row_is_named_by_its_line(raw, line, said):
    with pytest.raises(DataError, match=said) as caught:
        read_split(raw("train.jsonl", ROW + "\n" + line + "\n"))
    assert caught.value.where == "train.jsonl:3"


def test_a_file_that_mixes_both_kinds_is_refused(raw):
    with pytest.raises(DataError, match=r"mixes .* came from train.jsonl:2"):
        read_split(raw("train.jsonl", ROW + '{"input": "x", "target": "y"}\n'))


def test_a_byte_that_is_not_utf8_is_named(raw):
    with pytest.raises(DataError, match="0xff"):
        read_split(raw("train.jsonl", ROW.encode() + b"\xff\n"))


def test_a_row_that_is_nested_too_deeply_is_an_error_with_its_line(raw):
    deep = '{"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a", "x": %s}]}'
    with pytest.raises(DataError, match=r"t\.jsonl:2: .*nested too deeply"):
        read_split(raw("t.jsonl", ROW + deep % ("[" * 500 + "]" * 500) + "\n"))
