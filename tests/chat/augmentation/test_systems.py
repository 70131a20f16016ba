"""System messages and personas: what each mode makes of a row, and variants that differ."""

from __future__ import annotations

import pytest
from chat.augmentation.rows import talk, texts
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import conversations

from sftlib.chat.augmentation.chance import Chance
from sftlib.chat.augmentation.systems import MODES, from_pool, put_persona, put_system, system_of, variants

COOK = talk("2+2?", "4", system="You are a cook.")
BARE = talk("2+2?", "4")


@pytest.mark.parametrize(
    ("mode", "cook"),
    [("only_if_missing", "You are a cook."), ("replace", "Be kind."), ("prepend", "Be kind.\n\nYou are a cook.")],
)
def test_modes(mode, cook):
    assert texts(put_system(COOK, "Be kind.", mode)) == [cook, "2+2?", "4"]
    assert texts(put_system(BARE, "Be kind.", mode)) == ["Be kind.", "2+2?", "4"]


def test_a_persona_stands_before_what_the_row_is_told():
    chance = Chance(1, "x")
    assert texts(put_persona(COOK, ["You are patient."], chance))[0] == "You are patient.\n\nYou are a cook."
    assert texts(put_persona(BARE, ["You are patient."], chance))[0] == "You are patient."


def test_the_whole_pool_is_used():
    pool = ["a", "b", "c"]
    taken = [texts(from_pool(BARE, pool, "replace", Chance(1, number)))[0] for number in range(300)]
    assert all(60 < taken.count(one) < 140 for one in pool)


def test_variants_differ_from_the_row_and_from_each_other():
    made = variants(COOK, ["Be kind.", "You are a cook.", "Be brief."], "replace", 3, Chance(1, "x"))
    assert sorted(texts(one)[0] for one in made) == ["Be brief.", "Be kind."]
    assert variants(COOK, ["Be kind."], "only_if_missing", 1, Chance(1, "x")) == []


@settings(max_examples=60, deadline=None)
@given(conversations(), st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True, min_size=1), st.data())
def test_nothing_but_the_system_message_changes(conversation, pool, data):
    mode, copies = data.draw(st.sampled_from(MODES)), data.draw(st.integers(0, len(pool)))
    made = variants(conversation, pool, mode, copies, Chance(3, conversation.to_dicts()))
    rest = [message for message in conversation.messages if message.role != "system"]
    assert len(made) <= copies
    for one in made:
        assert [message for message in one.messages if message.role != "system"] == rest
        assert system_of(one).content.partition("\n\n")[0] in pool
        assert one.source == conversation.source
    everyone = [conversation, *made]
    assert all(a != b for place, a in enumerate(everyone) for b in everyone[:place])
    if mode == "replace" and system_of(conversation) is None:
        assert len(made) == copies
