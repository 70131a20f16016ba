"""Answers that teach something wrong, and their neighbours that do not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from strategies import contents

from sftlib.chat.quality.answers import faults_of, is_cut_off, is_refusal
from sftlib.chat.quality.kinds import KINDS

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, I cannot assist with this request.",
    "Sorry, but I am unable to provide medical advice.",
    "Unfortunately, I'm not able to access the web.",
    "I cannot fulfil that request.",
    "As an AI language model, I do not have opinions.",
    '"I must respectfully decline."',
    "Es tut mir leid, aber ich kann dir dabei nicht helfen.",
    "Leider kann ich diese Frage nicht beantworten.",
    "Als KI-Modell habe ich keine Meinung.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Désolé, mais je ne peux pas vous aider.",
    "En tant qu'IA, je n'ai pas d'opinion.",
    "Mi dispiace, ma non posso fornire queste informazioni.",
    "Desculpe, mas não posso ajudar com isso.",
    "Tyvärr kan jag inte svara på det.",
    "很抱歉，我无法回答这个问题。",
    "作为一个AI语言模型，我没有观点。",
]
NO_REFUSALS = [
    "I'm sorry, I can't come on Monday.",
    "I'm sorry to hear that. You can return it within 30 days.",
    "I can't help but laugh.",
    "Unfortunately, the permit takes ten weeks.",
    "As an architect, I can tell you what it costs.",
    "Say: I'm sorry, but I can't help with that.",
    "You cannot provide a key twice.",
    "Es tut mir leid, ich kann am Montag nicht kommen.",
    "No puedo más, dijo el rey.",
    "Je ne peux pas dormir.",
    "Desculpe o atraso.",
    "申し訳ありませんが、雨です。",
]


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_refusal_is_known_by_its_beginning(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize("answer", NO_REFUSALS)
def test_what_sounds_alike_is_none(answer: str) -> None:
    assert not is_refusal(answer)


@pytest.mark.parametrize(
    ("question", "answer", "kinds"),
    [
        ("Why?", "N/A", ["empty"]),
        ("Why?", " ... ", ["empty"]),
        ("Why?", "[deleted]", ["empty"]),
        ("How many are left?", "None", ["one_word"]),
        ("Is it so?", "Yes.", ["one_word"]),
        ("什么？", "好", ["one_word"]),
        ("什么？", "北京是首都", []),
        ("How many?", "Two of them.", []),
        ("What is a building permit?", "What is a building permit? It allows you to build.", ["repeats_question"]),
        ("what is a  BUILDING permit?", "What is a building permit: a paper.", ["repeats_question"]),
        ("What is a building permit?", "A building permit is a paper.", []),
        ("Hi", "Hi! What can I do for you?", []),
    ],
)
def test_the_kinds_of_an_answer(question: str, answer: str, kinds: list[str]) -> None:
    assert faults_of(question, answer) == kinds


@pytest.mark.parametrize(
    "answer",
    [
        "The permit takes ten weeks and the municipality may",
        "First line.\nThe permit takes ten weeks, but when the application is not complete,",
        "Ο ήλιος ανατέλλει πάντα από την ανατολή και δύει στη",
    ],
)
def test_a_sentence_without_an_end_is_cut_off(answer: str) -> None:
    assert is_cut_off(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "The permit takes ten weeks.",
        "He said: “The permit takes ten weeks.”",
        "It takes ten weeks (or more if it is late)",
        "- the permit of the municipality for a house",
        "1. write to the municipality and wait for them",
        "Ten weeks",
        "She has 3 + 4 apples, so that makes #### 7",
        "Read more about all of that on https://example.org/permits",
        "| a | b | c | d | e | of | g",
        "```python\nfor i in range(10): print(i) and then\n```",
        "今天天气很好 我们 一起 去 公园 散步 吧",
    ],
)
def test_what_ends_otherwise_on_purpose_is_not(answer: str) -> None:
    assert not is_cut_off(answer)


@given(contents(), contents())
@settings(max_examples=60, deadline=None)
def test_every_answer_gets_kinds_that_there_are(question: str, answer: str) -> None:
    if answer.strip():
        assert set(faults_of(question, answer)) <= set(KINDS)
