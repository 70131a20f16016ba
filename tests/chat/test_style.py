"""Style: the rule is in every row that it is meant for, once, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from chat.conftest import jsonl, run_process
from hypothesis import given
from hypothesis import strategies as st

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.stored import read_split
from sftlib.chat.style import apply_style, style_splits
from sftlib.config.schema import StyleSection
from sftlib.errors import ConfigError, DataError

RULE = "Be brief."
TURN = (Message("user", "2+2?"), Message("assistant", "4"))


def styled(system: str | None, **options: str) -> list[tuple[str, str]]:
    messages = ((Message("system", system),) if system is not None else ()) + TURN
    result = apply_style(Conversation(messages, "f:1"), StyleSection(rule=RULE, **options))
    assert result.source == "f:1"
    return [(m.role, m.content) for m in result.messages]


@pytest.mark.parametrize(
    ("mode", "system", "becomes"),
    [
        ("prepend", "You cook.", "Be brief.\n\nYou cook."),
        ("prepend", None, "Be brief."),
        ("prepend", "Be brief.", "Be brief."),
        ("prepend", "Be brief.\n\nYou cook.", "Be brief.\n\nYou cook."),
        ("prepend", "Be brief. You cook.", "Be brief.\n\nBe brief. You cook."),
        ("replace", "You cook.", "Be brief."),
        ("replace", None, "Be brief."),
        ("only_if_missing", "You cook.", "You cook."),
        ("only_if_missing", None, "Be brief."),
    ],
)
def test_modes(mode, system, becomes):
    assert styled(system, mode=mode) == [("system", becomes), ("user", "2+2?"), ("assistant", "4")]


def test_a_rule_for_the_user_goes_before_the_first_question():
    conversation = Conversation(TURN + TURN, "f:1")
    result = apply_style(conversation, StyleSection(rule=RULE, role="user"))
    assert [m.content for m in result.messages] == ["Be brief.\n\n2+2?", "4", "2+2?", "4"]


@given(
    st.sampled_from(["prepend", "replace", "only_if_missing"]),
    st.none() | st.text(),
    st.text().filter(str.strip),
    st.sampled_from(["system", "user"]),
)
def test_twice_is_once(mode, system, rule, role):
    messages = ((Message("system", system),) if system is not None else ()) + TURN
    section = StyleSection(rule=rule, mode=mode if role == "system" else "prepend", role=role)
    try:
        once = apply_style(Conversation(messages, ""), section)
    except ConfigError:
        return
    assert apply_style(once, section) == once
    assert once.messages[-1] == TURN[-1]


@pytest.mark.parametrize(
    ("section", "where"),
    [
        (StyleSection(), "data.style.rule"),
        (StyleSection(rule=" \n"), "data.style.rule"),
        (StyleSection(rule="\0"), "data.style.rule"),
        (StyleSection(rule=RULE, role="user", mode="replace"), "data.style.mode"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(raw, section, where):
    with pytest.raises(ConfigError) as caught:
        style_splits(section, "nowhere", "styled")
    assert caught.value.where == where
    assert not Path("styled").exists()


def test_the_three_splits_are_written_with_their_sources(raw):
    run_process(raw("faq.jsonl", [{"q": f"What is {i}?", "a": "x", "system": "S" if i % 2 else ""} for i in range(20)]))
    section = StyleSection(rule="Be\r\nbrief.", mode="only_if_missing")
    counts = style_splits(section, "out", "styled")
    assert {name: rows for name, (rows, _) in counts.items()} == {"train": 16, "val": 2, "test": 2}
    assert sum(changed for _, changed in counts.values()) == 10
    for name in ("train", "val", "test"):
        before, after = jsonl(f"out/{name}.jsonl"), jsonl(f"styled/{name}.jsonl")
        assert after == [{**row, "system": row["system"] or "Be\nbrief."} for row in before]
        assert len(read_split(f"styled/{name}.jsonl")) == len(before)


def test_a_missing_split_names_make_process_and_writes_nothing(raw):
    run_process(raw("faq.jsonl", [{"q": f"{i}?", "a": "x"} for i in range(10)]))
    Path("out/test.jsonl").unlink()
    with pytest.raises(DataError, match="missing") as caught:
        style_splits(StyleSection(rule=RULE), "out", "styled")
    assert "make process" in caught.value.cure
    assert not list(Path("styled").glob("*.jsonl"))


def test_an_empty_split_of_tiny_data_stays_empty(raw):
    run_process(raw("faq.jsonl", [{"q": "1?", "a": "x"}]))
    assert style_splits(StyleSection(rule=RULE), "out", "styled") == {"train": (1, 1), "val": (0, 0), "test": (0, 0)}
    assert Path("styled/test.jsonl").read_text() == ""


def test_rendered_pairs_cannot_be_styled(raw):
    raw("out/train.jsonl", '{"input": "x", "target": "y"}\n')
    with pytest.raises(DataError, match="no messages"):
        style_splits(StyleSection(rule=RULE), "out", "styled")
