"""Where texts may be cut, by hand."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import contents

from sftlib.chat.sentences import Places, cut_places, sentences


def pieces(text: str, places: list[int]) -> list[str]:
    edges = [0, *places, len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def test_by_hand() -> None:
    assert cut_places("Add 1. Then 2.\n```\na\n```\n") == Places([7, 15], [7, 15, 19, 21], [4, 7, 12, 15, 19, 21])


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith pays 3.5 percent. OK?  Yes.", ["Dr. Smith pays 3.5 percent. ", "OK?  ", "Yes."]),
        ("1. Do this. Then that.\n2. Stop.\n\nEnd.", ["1. Do this. Then that.\n", "2. Stop.\n\n", "End."]),
        ("它是四。再见！好", ["它是四。", "再见！", "好"]),
        ("¿Qué? Nada. 👍 Sí.", ["¿Qué? ", "Nada. ", "👍 Sí."]),
        ("one", ["one"]),
        ("", [""]),
    ],
)
def test_sentences_and_lines(text: str, sentences: list[str]) -> None:
    assert pieces(text, cut_places(text).sentences) == sentences


def test_a_code_block_is_one_piece_as_long_as_it_can_be() -> None:
    code = "```python\nx = 1. + y\n\nprint('No. Yes.')\n```\n"
    text = f"First. So:\n\n{code}Last."
    assert pieces(text, cut_places(text).sentences) == ["First. ", "So:\n\n", code, "Last."]
    assert pieces(text, cut_places(text).lines)[2:5] == ["```python\n", "x = 1. + y\n\n", "print('No. Yes.')\n"]


def test_a_block_that_is_never_closed_goes_to_the_end() -> None:
    assert pieces("a\n~~~\nb\nc. D.", cut_places("a\n~~~\nb\nc. D.").sentences) == ["a\n", "~~~\nb\nc. D."]


@settings(max_examples=100)
@given(text=contents())
def test_places_lie_inside_and_ascend(text: str) -> None:
    found = cut_places(text)
    for places in (found.sentences, found.lines, found.words):
        assert places == sorted(set(places))
        assert all(0 < place < len(text) for place in places)
    assert set(found.sentences) <= set(found.lines) <= set(found.words)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        (" \n", [" \n"]),
        ("Ask Dr. Smith. She knows\nit.\n", ["Ask Dr. Smith. ", "She knows\nit.\n"]),
        ("  First.  Second.", ["  First.  ", "Second."]),
        ("One.\n\n\n\nTwo.", ["One.\n\n\n\n", "Two."]),
        ("\n\nOne.", ["\n\nOne."]),
        ("今日は晴れです。元気ですか？", ["今日は晴れです。", "元気ですか？"]),
        ("Das gilt z.B. hier und da. Die Stadt sagt es.", ["Das gilt z.B. hier und da. ", "Die Stadt sagt es."]),
    ],
)
def test_whole_sentences(text: str, found: list[str]) -> None:
    assert sentences(text) == found


@settings(max_examples=100)
@given(text=contents())
def test_sentences_joined_are_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text


ODD = [*'ab .!?\n(1"', "\u2028", "\x85", "\u3000", "\xa0", "。", "é", "😀", "\u200b"]


@given(st.text(st.sampled_from(ODD), max_size=25))
def test_no_text_is_too_odd(text: str) -> None:
    """sentencex panics at blanks of several bytes, which would end the process."""
    assert "".join(sentences(text)) == text
    assert all(0 < place < len(text) for place in cut_places(text).words)
