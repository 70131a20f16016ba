"""Metrics of texts, with expectations worked out by hand."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from sftlib.measure import text


def test_rouge_by_hand():
    # answer "the cat", reference "the cat sat": 2 of 2 and 2 of 3 unigrams, 1 of 1 and 1 of 2 bigrams, LCS 2
    assert text.rouge("the cat", "the cat sat") == pytest.approx({"rouge1": 0.8, "rouge2": 2 / 3, "rougeL": 0.8})


def test_rouge_is_not_symmetrical_in_order():
    # the same words, reversed: all unigrams, no bigram, an LCS of one word
    assert text.rouge("c b a", "a b c") == pytest.approx({"rouge1": 1.0, "rouge2": 0.0, "rougeL": 1 / 3})


def test_rouge_does_not_stem():
    assert text.rouge("walks", "walking")["rouge1"] == 0.0


@given(st.text(string.printable), st.text(string.printable))
def test_ascii_scores_are_those_of_rouge_score(answer: str, reference: str):
    theirs = RougeScorer(list(text.ROUGE_TYPES)).score(reference, answer)
    ours = text.rouge(answer, reference)
    if ours is None:
        assert not any(character.isalnum() for character in reference)
    else:
        assert ours == {name: score.fmeasure for name, score in theirs.items()}


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("Привет мир", "привет, мир!", 1.0),  # rouge-score's own tokenizer gives 0 here
        ("über Straße", "über Gasse", 0.5),
        ("cafe\u0301 noir", "caf\u00e9 noir", 1.0),  # the same word, composed or not
        ("हिन्दी भाषा", "हिन्दी पाठ", 0.5),  # vowel signs belong to the word
        ("北京市", "北京", 0.8),  # a character is a word: 2 of 3 and 2 of 2
        ("", "мир", 0.0),
    ],
)
def test_rouge_of_any_script(answer: str, reference: str, expected: float):
    assert text.rouge(answer, reference)["rouge1"] == pytest.approx(expected)


@pytest.mark.parametrize("reference", ["", "  ", "?!", "🙂"])
def test_rouge_without_a_word_in_the_reference_has_no_value(reference: str):
    assert text.rouge("some answer", reference) is None


@pytest.mark.parametrize(
    ("raw", "normalised"),
    [
        ("The answer: 3.5!", "answer 3.5"),
        ("  A   cat's\ttail. ", "cats tail"),
        ("U.S.A.", "usa"),
        ("-4 (5) 1/2 10% 1,000.", "-4 5 1/2 10% 1,000"),
        ("x < 3", "x < 3"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("Ｆｕｌｌ", "full"),
        ("«Да»", "да"),
        ("theatre an ant", "theatre ant"),
        ("?!", "?!"),
        ("", ""),
    ],
)
def test_normalise(raw: str, normalised: str):
    assert text.normalise_answer(raw) == normalised


@given(st.text(st.characters(exclude_categories=["N"])))  # a sign stays where a number follows: `B§-0`, then `B-0`
def test_normalising_twice_changes_nothing_for_words(raw: str):
    once = text.normalise_answer(raw)
    if not any(word in ("a", "an", "the") for word in once.split()):
        assert text.words(text.normalise_answer(once)) == text.words(once)


@pytest.mark.parametrize(
    ("answer", "reference", "raw", "lenient"),
    [
        ("Paris", "Paris", 1.0, 1.0),
        (" Paris\n", "Paris", 1.0, 1.0),
        ("paris.", "Paris", 0.0, 1.0),
        ("3.5", "35", 0.0, 0.0),
        ("", "?", 0.0, 0.0),
        ("x > 3", "x < 3", 0.0, 0.0),
    ],
)
def test_exact_match(answer: str, reference: str, raw: float, lenient: float):
    assert text.exact_match(answer, reference) == raw
    assert text.exact_match_normalised(answer, reference) == lenient
