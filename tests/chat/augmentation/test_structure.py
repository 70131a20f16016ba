"""Markdown by rule: lists by hand, and the words the same for any text."""

from __future__ import annotations

import re

import pytest
from chat.augmentation.rows import talk, texts
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import contents

from sftlib.chat.augmentation.structure import add_structure, plain, structured
from sftlib.chat.conversation import Conversation, Message


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("Step 1: Mix. Step 2: Bake.", "- Step 1: Mix.\n- Step 2: Bake."),
        ("So:\nSteg 1: a b\nSteg 2: c\nSvar: d", "So:\n\n- Steg 1: a b\n- Steg 2: c\n\nSvar: d"),
        ("Take 1) flour 2) eggs 3) milk. Stir.", "Take\n\n1) flour\n2) eggs\n3) milk.\n\nStir."),
        ("First, mix. Then bake it. Enjoy.", "- First, mix.\n- Then bake it.\n\nEnjoy."),
        ("Hi. First mix it. It is wet. Finally bake it.", "Hi.\n\n- First mix it. It is wet.\n- Finally bake it."),
        ("Först mäter du. Sedan ritar du.", "- Först mäter du.\n- Sedan ritar du."),
        (
            "You need: a plan; a permit; time. That is all.",
            "You need:\n\n- a plan;\n- a permit;\n- time.\n\nThat is all.",
        ),
        ("Cats purr; dogs bark; cows moo.", "- Cats purr;\n- dogs bark;\n- cows moo."),
    ],
)
def test_enumerations_become_lists(text, listed):
    assert structured(text) == listed
    assert structured(text, "How?") == f"## How?\n\n{listed}"


@pytest.mark.parametrize(
    "text",
    [
        "Nothing to list here.",
        "One; two.",
        "It takes (a; b; c) all three.",
        "Step 2: Bake. Step 3: Eat.",
        "Step 1: Mix. Step 3: Eat.",
        "In 2024. 1) only one.",
        "Then bake it. Finally eat it.",  # nothing opens it
        "Firstborn children. Then others.",
        "- a\n- b\n\nStep 1: x. Step 2: y.",  # holds Markdown
        "# Title\nStep 1: x. Step 2: y.",
        "```\nx; y; z;\n```",
        "Step 1: a\n\nb. Step 2: c.",  # an item of two paragraphs
        "",
    ],
)
def test_what_is_left_as_it_is(text):
    assert structured(text, "How?") == text


def test_a_heading_is_one_short_line():
    text, listed = "Step 1: Mix. Step 2: Bake.", "- Step 1: Mix.\n- Step 2: Bake."
    assert structured(text, "x" * 80) == f"## {'x' * 80}\n\n{listed}"
    for question in ("x" * 81, "two\nlines", "# What?", "  "):
        assert structured(text, question) == listed


def test_every_answer_of_a_row_gets_the_question_before_it():
    row = talk("A?", "Step 1: b. Step 2: c.", "D?", "No.", "E?", "1) f 2) g 3) h")
    assert texts(add_structure(row)) == [
        "A?", "## A?\n\n- Step 1: b.\n- Step 2: c.", "D?", "No.", "E?", "## E?\n\n1) f\n2) g\n3) h",
    ]  # fmt: skip
    call = Message("assistant", "Step 1: b. Step 2: c.", (("tool_calls", []),))
    row = Conversation((Message("user", "?"), call), "a:1")
    assert add_structure(row) == row


PIECES = [
    "Step 1: ", "Step 2: ", "Step 3. ", "1) ", "2) ", "3) x", "1. a", "First, ", "Then ", "Finally ", "; ", ";\n", ": ",
    ". ", "\n", "\n\n", "a", "it is so", "(", ")", "- ", "# ", "| ",
]  # fmt: skip
ANSWERS = st.lists(st.one_of(st.sampled_from(PIECES), contents(markers=False)), max_size=14).map("".join)


@settings(max_examples=300, deadline=None)
@given(ANSWERS, st.sampled_from(["", "How?", "# x", "a\nb"]))
def test_the_words_stay_the_same(text, question):
    result = structured(text, question)
    assert result == text or plain(result).split() == text.split()
    assert result == text or re.search(r"^(- |\d+[.)] ).*\w.*\n(- |\d+[.)] )", result, re.M | re.S)
    assert structured(result, question) == result, "twice is once"
