"""Literal chat tags: every mark of the shipped templates is known, and none is left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from chat.augmentation.rows import talk, texts
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import contents

from sftlib.chat.augmentation.tags import found_in, tags_of, without_tags

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = sorted((ROOT / "chat_templates").glob("*.jinja"))
WRITTEN_BY_MODELS = ("think", "tool_call", "tool_response", "tools")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_mark_of_a_shipped_template_is_known(path):
    source = re.sub(r"\{#.*?#\}", "", path.read_text(encoding="utf-8"), flags=re.S)
    marks = set(re.findall(r"<[^<>\s]+>|\[/?[A-Z_]+\]", source))
    marks = {mark for mark in marks if mark.strip("</>") not in WRITTEN_BY_MODELS}
    assert marks
    assert [mark for mark in marks if found_in(f"Sure{mark}, yes") != [mark]] == []


@pytest.mark.parametrize(
    "tag",
    [
        "<|im_start|>", "<|eot_id|>", "<|begin_of_text|>", "<|endoftext|>", "<|fim_middle|>", "<|reserved_7|>",
        "<｜User｜>", "<｜end▁of▁sentence｜>", "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<start_of_turn>", "[INST]",
        "[/INST]", "<<SYS>>", "<</SYS>>", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "<|user|>",
    ],
)  # fmt: skip
def test_known_tags(tag):
    assert found_in(f"a{tag}b") == [tag]


@pytest.mark.parametrize("line", ["### Response:", "### Instruction:", "## Input:", "<human>:", "<bot>:"])
def test_tags_that_are_lines(line):
    assert found_in(f"a\n{line} b") == [line]
    assert found_in(f"see {line}") == []


@pytest.mark.parametrize(
    "text",
    [
        "a < b | c > d", "x <| y", "[1]", "[INSTALL]", "<b>bold</b>", "<strong>", "<think>so</think>", "<tool_call>",
        "### Responses", "The response: yes", "< | im_start | >", "<||>", "|x|", "a<|>b", "",
    ],
)  # fmt: skip
def test_what_is_none(text):
    assert found_in(text) == []


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("Sure.<|im_end|>", "Sure."),
        ("<|im_start|>assistant\nSure.<|im_end|>\n", "Sure."),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nSure.<|eot_id|><|end_of_text|>", "Sure."),
        ("### Response:\nSure.</s>", "Sure."),
        (" [/INST] Sure. </s>", "Sure."),
        ("assistant is a word", "assistant is a word"),
        (" as it was \n", " as it was \n"),
        ("Sure.<|im_end|>\n<|im_start|>user\nAnd now?", None),
        ("Sure.<|im_end|><|im_start|>user\nThanks<|im_end|>", None),
        ("<|im_end|>", None),
        ("<|im_<|im_end|>end|>x<|im_end|>", None),
    ],
)
def test_ends_are_cut_and_middles_refused(answer, left):
    row = without_tags(talk("Can you?", answer, system="[INST] stays"))
    assert (row and texts(row)) == (left and ["[INST] stays", "Can you?", left])


def test_only_the_answers_count():
    row = talk("What is <|im_end|>?", "A mark.")
    assert without_tags(row) is row
    assert tags_of(row) == []
    assert tags_of(row, "user") == ["<|im_end|>"]


@settings(max_examples=200, deadline=None)
@given(st.lists(contents(), min_size=1, max_size=3))
def test_no_tag_is_left(answers):
    row = without_tags(talk(*(text for answer in answers for text in ("?", answer))))
    if row is not None:
        assert tags_of(row) == []
        assert all(left in answer for left, answer in zip(texts(row)[1::2], answers, strict=True))
