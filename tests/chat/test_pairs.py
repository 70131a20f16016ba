"""What an encoder reads and what a decoder answers: one answer a text, one end-of-text on either side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.pairs import last_pair, one_answer_each, up_to_each_answer
from sftlib.chat.rendered_files import render_splits
from sftlib.chat.rendering import render_conversation, render_pair, render_prompt
from sftlib.chat.stored import RenderedPair, read_split, split_rows
from sftlib.chat.templates import ChatTemplate, choose_template
from sftlib.errors import DataError, ModelError

SPECIAL = {"eos_token": "</s>", "pad_token": "<pad>"}


def text_form() -> ChatTemplate:
    return choose_template("auto", None, SPECIAL, kind="seq2seq")


def talk(*turns: tuple[str, str]) -> Conversation:
    return Conversation(tuple(Message(role, text) for role, text in turns), "raw.jsonl:1")


ONE = talk(("user", "translate: Good night."), ("assistant", "Gute Nacht."))
RULE = talk(("system", "Be brief."), ("user", "2+2?"), ("assistant", "4"))
TWO = talk(
    ("system", "Be brief."), ("user", "2+2?"), ("assistant", "4"), ("user", "And 3+3?"), ("assistant", "6")
)  # fmt: skip


@pytest.mark.parametrize(
    ("conversation", "given", "answer"),
    [
        (ONE, "translate: Good night.</s>", "Gute Nacht.</s>"),
        (RULE, "Be brief.\n2+2?</s>", "4</s>"),
        (TWO, "System: Be brief.\nUser: 2+2?\nAssistant: 4\nUser: And 3+3?</s>", "6</s>"),
    ],
)
def test_the_text_form(conversation: Conversation, given: str, answer: str) -> None:
    template = text_form()
    pair = last_pair(render_conversation(conversation, template))
    assert (pair.input, pair.target, pair.source) == (given, answer, "raw.jsonl:1")
    # What is trained is what is prompted with.
    assert render_prompt(conversation.to_dicts()[:-1], template) == given


def test_every_answer_is_a_row_with_what_came_before_it(tmp_path: Path) -> None:
    assert [len(part.messages) for part in up_to_each_answer(TWO)] == [3, 5]
    assert up_to_each_answer(ONE) == [ONE]
    nobody = talk(("assistant", "Hello!"), ("user", "?"))
    assert up_to_each_answer(nobody) == [nobody]  # refused, and counted, when it is rendered
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(one.to_row()) + "\n" for one in (ONE, TWO)), encoding="utf-8")
    assert [row.messages[-1].content for row in one_answer_each(split_rows(file))] == ["Gute Nacht.", "4", "6"]


def test_rendered_files_hold_the_same_pairs(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(TWO.to_row()) + "\n", encoding="utf-8")
    template = text_form()
    counts = render_splits(tmp_path, tmp_path / "out", template)["train"]
    assert (counts.rows, counts.pairs, counts.turns_left_out) == (1, 2, 0)
    split = read_split(tmp_path / "out" / "train.jsonl")
    expected = [last_pair(render_conversation(part, template)) for part in up_to_each_answer(TWO)]
    assert split.rows == expected
    assert [last_pair(render_pair(pair, template)) for pair in one_answer_each(split.rows)] == expected


def test_a_prompt_that_does_not_end_or_ends_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="plain"):
        choose_template("plain", None, SPECIAL, kind="seq2seq")
    mine = tmp_path / "mine.jinja"
    for source in ("Q: {{ user }} A: {{ assistant }}", "{{ user }}</s></s>{{ assistant }}"):
        mine.write_text(source, encoding="utf-8")
        with pytest.raises(ModelError, match="one end-of-text"):
            choose_template(str(mine), None, SPECIAL, kind="seq2seq")
    mine.write_text("Q: {{ user }}{{ eos_token }}{{ assistant }}", encoding="utf-8")
    template = choose_template(str(mine), None, SPECIAL, kind="seq2seq")
    pair = last_pair(render_conversation(ONE, template))
    assert (pair.input, pair.target) == ("Q: translate: Good night.</s>", "Gute Nacht.</s>")


def test_a_pair_written_by_hand_ends_on_both_sides() -> None:
    template = text_form()
    assert render_pair(RenderedPair("2+2?</s>", "4</s>", "x:1"), template).spans == ((8, 13),)
    with pytest.raises(DataError, match="The input does not end"):
        render_pair(RenderedPair("2+2?", "4</s>", "x:1"), template)
    with pytest.raises(DataError, match="The target does not end"):
        render_pair(RenderedPair("2+2?</s>", "4", "x:1"), template)


def test_a_cache_of_the_other_kind_is_another_one() -> None:
    source = "{{ user }}{{ eos_token }}{{ assistant }}"
    causal, pairs = (ChatTemplate(source, "x", SPECIAL, is_for_pairs=is_for_pairs) for is_for_pairs in (False, True))
    assert causal.identity != pairs.identity


def test_no_tools() -> None:
    with pytest.raises(DataError, match="no tools"):
        text_form().render([{"role": "tool", "content": "4"}], add_generation_prompt=True)
