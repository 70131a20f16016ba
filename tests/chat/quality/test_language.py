"""Languages are told where they can be told."""

from __future__ import annotations

import pytest

from sftlib.chat.quality.language import UNKNOWN, Languages, Told, differ


@pytest.fixture(scope="module")
def languages() -> Languages:
    return Languages()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Janet has three apples and eats one. How many are left?", "en"),
        ("Vad är ett bygglov, och när behöver jag ett?", "sv"),
        ("Wie lange dauert eine Baugenehmigung in der Stadt?", "de"),
        ("今天天气很好，我们一起去公园散步，然后在湖边吃午饭吧。", "zh"),
        (
            "```python\ndef add(one, other):\n    return one + other\n```\nCe code additionne deux nombres entiers.",
            "fr",
        ),
    ],
)
def test_a_sentence_has_its_language(languages: Languages, text: str, code: str) -> None:
    assert languages.of(text).code == code


@pytest.mark.parametrize("text", ["", "Hola", "Yes.", "2 + 2 = 4", "def f(x): return x + 1", "#### 72", "I am fine"])
def test_short_texts_and_code_have_none(languages: Languages, text: str) -> None:
    assert languages.of(text) == UNKNOWN


def test_two_differ_only_when_both_are_sure() -> None:
    assert differ(Told("en", 0.95), Told("sv", 0.95))
    assert not differ(Told("en", 0.95), Told("sv", 0.7))
    assert not differ(Told("no", 0.99), Told("da", 0.99))
    assert not differ(Told("en", 0.99), UNKNOWN)
    assert not differ(Told("en", 0.99), Told("en", 0.99))
