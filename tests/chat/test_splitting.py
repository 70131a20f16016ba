"""Splitting: no question in two splits, exact shares, the same whatever the order, and little moves when rows come."""

from __future__ import annotations

import json
import random
import unicodedata

import pytest

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.dealing import split_counts
from sftlib.chat.questions import fold
from sftlib.chat.splitting import SplitTable

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def ask(question: str, answer: str = "a", system: str = "", before: tuple[str, ...] = ()) -> Conversation:
    messages = [Message("system", system)] if system else []
    for index, text in enumerate(before):
        messages.append(Message("assistant" if index % 2 else "user", text))
    return Conversation((*messages, Message("user", question), Message("assistant", answer)), f"f:{question}")


def split(conversations, seed: int = 42, shares=SHARES) -> dict[str, str]:
    """The stored line of each kept conversation -> its split."""
    with SplitTable(seed) as table:
        for conversation in conversations:
            table.add(conversation)
        table.assign(shares, [""])
        return {row.line: row.split for row in table.rows()}


def where(conversations, **options) -> list[str]:
    """The split of each conversation."""
    found = split(conversations, **options)
    return [found[json.dumps(c.to_row(), ensure_ascii=False) + "\n"] for c in conversations]


@pytest.mark.parametrize("rows", [1, 2, 5, 10, 240, 1319])
def test_shares_are_exact_at_any_size(rows):
    found = where([ask(f"question {i}") for i in range(rows)])
    assert {name: found.count(name) for name in SHARES} == split_counts(rows, SHARES)


def test_case_space_and_composition_make_no_difference():
    assert fold("  Straße\n\tCafé ") == fold("STRASSE cafe\u0301") == unicodedata.normalize("NFC", "strasse café")


@pytest.mark.parametrize("seed", range(5))
def test_the_same_question_never_crosses(seed):
    rows = [
        ask(text, answer, system)
        for i in range(60)
        for text, answer, system in (
            (f"What is {i}?", "a", ""),
            (f" what  IS {i}?\n", "b", ""),
            (f"What is {i}?", "a", "Be brief."),
        )
    ]
    found = where(rows, seed=seed)
    assert all(len(set(found[at : at + 3])) == 1 for at in range(0, len(rows), 3))
    assert {name: found.count(name) for name in SHARES} == {"train": 144, "val": 18, "test": 18}


def test_a_conversation_and_its_beginning_stay_together():
    rows = [
        row
        for i in range(100)
        for row in (
            ask(f"start {i}"),
            ask("go on", before=(f"Start {i}", "a")),
            ask("more", before=(f"start {i}", "b")),
        )
    ]
    found = where(rows)
    assert all(len(set(found[at : at + 3])) == 1 for at in range(0, len(rows), 3))


def test_a_common_opening_does_not_drag_everything_into_one_split():
    documents = [ask("Summarise this.", f"summary {i}", f"document {i}") for i in range(100)]
    chats = [ask(f"question {i}", before=("Hi", "Hello!")) for i in range(100)]
    twins = [ask("SUMMARISE this.", f"other summary {i}", f"Document {i}") for i in range(100)]
    found = where([*documents, *chats, *twins])
    assert {name: found.count(name) for name in SHARES} != {"train": 300, "val": 0, "test": 0}
    assert found[:100] == found[200:]  # the same document and task: the same question
    assert 200 < found.count("train") < 280


def test_the_order_of_the_rows_does_not_matter():
    rows = [ask(f"question {i}", f"a{j}") for i in range(150) for j in range(2)]
    before = split(rows)
    random.Random(1).shuffle(rows)
    assert split(rows) == before


def test_the_split_is_the_same_on_every_machine():
    expected = ["test", "train", "val", "train", "train", "train", "train", "train"]
    assert where([ask(f"q{i}") for i in range(8)]) == expected


def test_the_seed_makes_another_split():
    rows = [ask(f"question {i}") for i in range(200)]
    assert where(rows, seed=1) != where(rows, seed=2)


def test_a_new_row_moves_at_most_one_other_across_each_border():
    rows = [ask(f"question {i}") for i in range(301)]
    for size in range(280, 300):
        before, after = where(rows[:size]), where(rows[: size + 1])[:size]
        assert sum(a != b for a, b in zip(before, after, strict=True)) <= 2


def test_rows_equal_to_the_letter_are_kept_once():
    with SplitTable(42) as table:
        first = ask("q")
        assert table.add(first) is None
        assert table.add(ask("Q")) is None
        assert table.add(ask("q", system="s")) is None
        assert table.add(Conversation(first.messages, "g:9")) == "f:q"
        table.assign(SHARES, [""])
        assert len(list(table.rows())) == 3
