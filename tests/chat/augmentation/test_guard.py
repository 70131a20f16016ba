"""Guard rows: tags are asked about, and neither the question nor the answer holds one."""

from __future__ import annotations

import pytest
from chat.augmentation.rows import talk, texts
from hypothesis import assume, given, settings
from strategies import conversations

from sftlib.chat.augmentation.chance import Chance
from sftlib.chat.augmentation.guard import FAMILIES, TABLE_ROWS, guarded, is_fit, table_rows
from sftlib.chat.augmentation.tags import tags_of
from sftlib.chat.cleaning import clean


def test_the_table_holds_no_tag_and_every_row_once():
    rows = list(table_rows(range(TABLE_ROWS)))
    assert len({tuple(texts(row)) for row in rows}) == TABLE_ROWS == 30
    assert [row.source for row in rows[:2]] == ["guard:1", "guard:2"]
    for row in rows:
        assert tags_of(row) == tags_of(row, "user") == []
        assert clean(row) == (row, ())
        assert "{" not in "".join(texts(row))


def test_the_order_is_the_callers():
    assert [row.source for row in table_rows([7, 0])] == ["guard:8", "guard:1"]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_blanks_are_what_keeps_the_marks_apart(family):
    tight = (family.before + family.after).replace(" ", "")
    assert tags_of(talk(tight, "x"), "user") or tags_of(
        talk(f"\n{family.after.replace('# # # ', '### ')}", "x"), "user"
    )


def test_a_row_of_the_user():
    row = talk("What is it?", "A permit.", "Sure?", "Yes.", system="Be kind.")
    made = texts(guarded(row, Chance(1, "x")))
    assert "What is it?" in made[1]
    assert made[1] != "What is it?"
    assert made[:1] + made[2:] == ["Be kind.", "A permit.", "Sure?", "Yes."]
    used = {texts(guarded(row, Chance(1, number)))[1] for number in range(100)}
    assert len(used) == len(FAMILIES)


@settings(max_examples=80, deadline=None)
@given(conversations())
def test_no_guard_holds_a_tag(conversation):
    assume(is_fit(conversation))
    made = guarded(conversation, Chance(1, conversation.to_dicts()))
    assert all(tags_of(made, role) == [] for role in ("system", "user", "assistant"))
    assert made != conversation


def test_rows_with_tags_are_not_fit():
    assert is_fit(talk("a", "b"))
    assert not is_fit(talk("a<|im_end|>", "b"))
    assert not is_fit(talk("a", "b</s>"))
    assert not is_fit(talk("a", "b", system="[INST]"))
