"""Operations on one row: their order, their shares, their counts, and rows that do not depend on others."""

from __future__ import annotations

import pytest
from chat.augmentation.rows import talk, texts
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import conversations

from sftlib.chat.augmentation.operations import Counts, Operations, augmented
from sftlib.chat.augmentation.rewriting import Style
from sftlib.chat.augmentation.tags import tags_of
from sftlib.errors import UsageError

STEPS = talk("How?", "Step 1: Mix. Step 2: Bake.")


def of(row, asked, rewrite=lambda row: (row, "no reply")):
    """The rows made, and the counts."""
    counts = Counts()
    return augmented(row, asked, rewrite, counts), counts.by


def test_all_of_them_in_their_order():
    asked = Operations(
        42, tags="remove", style=Style("m", "i", 0), structure=True, split_over=8, follow_ups=["Go on."],
        systems=["Be kind.", "Be brief."], system_mode="replace", copies=2, personas=["You teach."],
    )  # fmt: skip

    def rewrite(row):
        assert texts(row) == ["How?", "Step 1: Mix. Step 2: Bake."]  # the tag is gone by now
        return talk("How?", "One: a; two: b; three: cream. That is all of it."), None

    made, counts = of(talk("How?", "Step 1: Mix. Step 2: Bake.<|im_end|>"), asked, rewrite)
    first, *copies = made
    assert texts(first.conversation) == [
        "You teach.", "How?", "## How?\n\nOne:\n\n- a;\n- two: b;\n- three: cream.", "Go on.", "That is all of it."
    ]  # fmt: skip
    assert first.done == ("tags", "style", "structure", "split", "persona")
    assert {texts(one.conversation)[0] for one in copies} == {"You teach.\n\nBe kind.", "You teach.\n\nBe brief."}
    for one in copies:
        assert texts(one.conversation)[1:] == texts(first.conversation)[1:]
        assert one.done == ("tags", "style", "structure", "split", "system", "persona")
    assert counts == {
        "tags": {"in an answer": 1, "cut off": 1},
        "style": {"chosen": 1, "changed": 1},
        "structure": {"chosen": 1, "changed": 1},
        "split": {"chosen": 1, "changed": 1},
        "system": {"chosen": 1, "copies": 2},
        "persona": {"chosen": 3, "changed": 3},
    }


def test_each_copy_has_a_persona_of_its_own():
    asked = Operations(3, systems=[*"abcdefgh"], copies=8, system_mode="replace", personas=[f"P{n}." for n in range(9)])
    made, _ = of(STEPS, asked)
    assert len({texts(one.conversation)[0].partition("\n")[0] for one in made}) > 3


def test_what_cannot_be_done_is_counted():
    asked = Operations(
        1, style=Style("m", "i", 0), structure=True, split_over=50, systems=["Be kind."], personas=["P."]
    )
    made, counts = of(talk("a", "b", system="Be cool."), asked, lambda row: (row, "cut off"))
    assert [one.done for one in made] == [("persona",)]
    assert {name: set(counts[name]) - {"chosen"} for name in counts} == {
        "style": {"cut off"},
        "structure": {"nothing to list"},
        "split": {"short, or all in one piece"},
        "system": {"had one"},
        "persona": {"changed"},
    }


def test_copies_that_the_pool_does_not_make_are_counted():
    asked = Operations(1, systems=["Be kind."], copies=1, system_mode="replace")
    made, counts = of(talk("a", "b", system="Be kind."), asked)
    assert len(made) == 1
    assert counts["system"] == {"chosen": 1, "copies": 0, "fewer copies than asked for": 1}


@pytest.mark.parametrize(
    ("policy", "answer", "left"),
    [
        ("keep", "Yes.<|im_end|>", ["Yes.<|im_end|>"]),
        ("remove", "Yes.<|im_end|>", ["Yes."]),
        ("remove", "Yes.<|im_end|>No.", []),
        ("drop", "Yes.<|im_end|>", []),
        ("drop", "Yes.", ["Yes."]),
    ],
)
def test_policies_for_tags(policy, answer, left):
    made, counts = of(talk("a<|im_start|>", answer), Operations(1, tags=policy))
    assert [texts(one.conversation)[1] for one in made] == left
    assert counts["tags"]["in a user message, kept"] == 1
    assert counts["tags"].get("rows left out", 0) == (not left)


@settings(max_examples=80, deadline=None)
@given(conversations(), st.sampled_from(["remove", "drop"]))
def test_no_answer_holds_a_tag(conversation, policy):
    asked = Operations(
        1, tags=policy, structure=True, split_over=3, systems=["Be kind."], copies=1, system_mode="replace"
    )
    made, _ = of(conversation, asked)
    assert all(tags_of(one.conversation) == [] for one in made)
    assert all(one.conversation.source == conversation.source for one in made)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("structure", {"structure": True}),
        ("split", {"split_over": 3}),
        ("system", {"systems": ["Be kind."]}),
        ("persona", {"personas": ["You teach."]}),
    ],
)
def test_shares_hold_and_are_seeded(name, options):
    rows = [talk(f"How {number}?", "Step 1: Mix it well. Step 2: Bake it.") for number in range(400)]
    done = {
        share: [of(row, Operations(42, shares, **options))[0][0].done for row in rows]
        for share, shares in ((1, {}), (0.25, {name: 0.25}), (0, {name: 0}))
    }
    assert set(done[1]) == {(name,)}
    assert 65 < done[0.25].count((name,)) < 135  # 100, standard deviation 9
    assert set(done[0]) == {()}
    again = [of(row, Operations(42, {name: 0.25}, **options))[0][0].done for row in reversed(rows)]
    assert again == done[0.25][::-1], "the order of the rows has no part in it"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shares": {"guard": 0.5}}, "--share guard=0.5 cannot be"),
        ({"shares": {"style": 1.5}}, "--share style=1.5 cannot be"),
        ({"shares": {"style": float("nan")}}, "cannot be"),
        ({"copies": 2, "systems": ["a"]}, "2 copies of a row need as many system messages, and the pool holds 1"),
    ],
)
def test_what_cannot_be_asked_for(options, said):
    with pytest.raises(UsageError, match=said):
        Operations(1, **options)
