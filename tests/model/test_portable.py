"""Portable templates: transformers renders the same text as our ChatTemplate, for every style."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftlib.chat.model_files import read_model_template
from sftlib.chat.templates import ChatTemplate, choose_template
from sftlib.errors import DataError
from sftlib.model.portable import portable_template
from sftlib.model.tokenizer import load_tokenizer

SIMPLE = {
    "ends itself": "{{ bos_token }}[{{ system }}] {{ user }}\n=> {{ assistant }}{{ eos_token }}\n",
    "eos is added": "### Human: {{ user }}\n### Assistant: {{ assistant }}\n",
    "a marker of its own": "{% if system %}S:{{ system }}\n{% endif %}U:{{ user }}\nA:{{ assistant }}<|endoftext|>",
    "blanks and breaks": "\n\n  U: {{ user }}  \n   A: {{ assistant | trim }}   ",
    "blocks at line ends": "{% if system %}\n  {{ system }}\n{% endif %}\n"
    "{{ user }}\n{{ assistant }}{% if true %}\n{% endif %}",
}
TURN = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
SYSTEM = {"role": "system", "content": "Be brief. {{ no }}"}
CONVERSATIONS = [
    TURN,
    [SYSTEM, *TURN],
    [SYSTEM, *TURN, {"role": "user", "content": "And\n3+3?"}, {"role": "assistant", "content": " six \n"}],
    [SYSTEM, *TURN, {"role": "user", "content": "<b>&amp;"}],
    [TURN[0]],
]


@pytest.mark.parametrize("source", SIMPLE.values(), ids=SIMPLE.keys())
@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_simple_style_gives_the_same_text_in_transformers(tiny_model: Path, source, messages):
    _, tokens, markers = read_model_template(tiny_model)
    ours = ChatTemplate(source, "test", tokens, markers)
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = portable_template(ours)
    asks = messages[-1]["role"] == "user"
    theirs = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
    assert theirs == ours.render(messages, add_generation_prompt=asks)


def test_message_style_stays_as_it_is(tiny_model: Path):
    for path in ("auto", "plain"):
        template = choose_template(path, *read_model_template(tiny_model))
        assert portable_template(template) == template.source


def test_roles_that_the_simple_style_cannot_hold(tiny_model: Path):
    _, tokens, markers = read_model_template(tiny_model)
    ours = ChatTemplate(SIMPLE["ends itself"], "test", tokens, markers)
    wrapped = ChatTemplate(portable_template(ours), "test", tokens, markers)
    with pytest.raises(DataError):
        wrapped.render([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
