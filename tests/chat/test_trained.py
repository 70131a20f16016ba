"""Which spans are learnt, for templates with and without tags and for one that leaves turns out."""

from __future__ import annotations

import pytest
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import conversations

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.pairs import up_to_each_answer
from sftlib.chat.rendered_files import render_splits
from sftlib.chat.rendering import Rendered, render_conversation, render_rows
from sftlib.chat.stored import RenderedPair
from sftlib.chat.templates import ChatTemplate
from sftlib.chat.trained import heed
from sftlib.errors import ConfigError, ModelError

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def talk(*flags: bool) -> Conversation:
    """Questions q0, q1, ... with answers a0, a1, ..., learnt as the flags say."""
    messages = [
        message
        for number, flag in enumerate(flags)
        for message in (Message("user", f"q{number}"), Message("assistant", f"a{number}", is_trained=flag))
    ]
    return Conversation(tuple(messages), "raw.jsonl:1")


def said(rendered: Rendered) -> list[str]:
    return [rendered.text[start:end] for start, end in rendered.spans]


@pytest.mark.parametrize("name", ["chatml", "mistral", "qwen3"])
def test_each_way(name: str) -> None:
    template, end = FAMILIES[name].template(name), FAMILIES[name].end
    lead = FAMILIES[name].lead
    flagged = talk(True, False, True, False)
    whole = [f"{lead}a{number}{end}" for number in range(4)]
    assert said(render_conversation(flagged, template)) == whole
    assert said(render_conversation(flagged, template, "last")) == whole[3:]
    assert said(render_conversation(flagged, template, "flagged")) == [whole[0], whole[2]]
    rendered = render_conversation(flagged, template, "all")
    assert (said(rendered), rendered.taught_from) == (whole, 0)
    assert render_conversation(talk(False, False), template, "flagged").spans == ()
    assert render_conversation(flagged, template).turns_left_out == 0


def test_flags_are_not_shown_to_templates() -> None:
    text = "{% for m in messages %}{{ m | tojson }}{% endfor %}{{ eos_token }}"
    shown = ChatTemplate(text, "t", TOKENS).render(talk(False).to_dicts())
    assert "a0" in shown
    assert "train" not in shown


# Answers before the last lose what they thought, and are not tagged; the tags alone do not say which answer one is.
FORGETS = (
    "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }}{% elif '!' in m.content and not loop.last %}"
    "A:{{ m.content.split('!')[-1] }}</s>{% else %}A:{% generation %}{{ m.content }}</s>{% endgeneration %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)
THINKS = Conversation(
    (
        Message("user", "q"), Message("assistant", "why!a", is_trained=True),
        Message("user", "r"), Message("assistant", "b", is_trained=False),
        Message("user", "s"), Message("assistant", "why!c", is_trained=True),
    ),
    "raw.jsonl:1",
)  # fmt: skip


@pytest.mark.parametrize("is_tagged", [True, False])
def test_a_template_that_leaves_turns_out(is_tagged: bool) -> None:
    source = FORGETS if is_tagged else FORGETS.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    template = ChatTemplate(source, "t", TOKENS)
    assert said(render_conversation(THINKS, template)) == ["b</s>", "why!c</s>"]
    assert said(render_conversation(THINKS, template, "flagged")) == ["why!c</s>"]  # not b, though it is the first span
    assert render_conversation(THINKS, template, "flagged").turns_left_out == 1
    assert said(render_conversation(THINKS, template, "last")) == ["why!c</s>"]


@pytest.mark.parametrize("shown", ["messages[1].content + m.content", "m.content[:2]"])
def test_tags_of_which_nobody_knows_whose_they_are(shown: str) -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }}{% elif loop.last %}A:{% generation %}"
        "{{ SHOWN }}</s>{% endgeneration %}{% endif %}{% endfor %}{% if add_generation_prompt %}A:<think>{% endif %}"
    )
    template = ChatTemplate(source.replace("SHOWN", shown), "t", TOKENS)
    assert len(render_conversation(talk(True, True), template).spans) == 1
    with pytest.raises(ModelError, match="tags 1 texts of 2 answers") as caught:
        render_conversation(talk(True, False), template, "flagged")
    assert caught.value.where == "raw.jsonl:1"


def test_a_tag_that_only_a_longer_answer_gets() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }}"
        "{% elif m.content | length > 2 or loop.last %}A:{% generation %}{{ m.content }}</s>{% endgeneration %}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}A:<think>{% endif %}"
    )
    template = ChatTemplate(source, "t", TOKENS)
    assert said(render_conversation(talk(True, False), template, "last")) == ["a1</s>"]
    assert said(render_conversation(talk(True, False), template, "flagged")) == []


def test_each_learnt_answer_is_a_pair() -> None:
    flagged = talk(True, False, True)
    ends = [[len(one.messages) for one in up_to_each_answer(flagged, how)] for how in ("assistant", "last", "flagged")]
    assert ends == [[2, 4, 6], [6], [2, 6]]
    assert up_to_each_answer(talk(False), "flagged") == []


def test_a_rendered_pair_is_learnt_as_it_stands() -> None:
    pair, template = RenderedPair("U:q A:", "a</s>", "train.jsonl:1"), ChatTemplate("{{ messages }}", "t", TOKENS)
    assert [said(one) for one in render_rows([pair], template, 0, "train")] == [["a</s>"]]
    for how in ("last", "all", "flagged"):
        with pytest.raises(ConfigError, match="rendered pair") as caught:
            list(render_rows([pair], template, 0, "train", how))
        assert "train.jsonl:1" in str(caught.value)


def test_make_render_refuses_prompts(tmp_path) -> None:
    with pytest.raises(ConfigError, match="teaches its target alone"):
        render_splits(tmp_path, tmp_path / "out", FAMILIES["chatml"].template("chatml"), "all")


@settings(max_examples=60, deadline=None)
@given(conversation=conversations(), data=st.data())
def test_flags_choose_among_the_spans(conversation: Conversation, data) -> None:
    messages = [
        Message(one.role, one.content, is_trained=one.role != "assistant" or data.draw(st.booleans()))
        for one in conversation.messages
    ]
    flagged = Conversation(tuple(messages), conversation.source)
    answers = [one for one in messages if one.role == "assistant"]
    for name in ("default", "llama3", "gemma2", "deepseek"):
        template = FAMILIES[name].template(name)
        whole = render_conversation(flagged, template)
        assert whole == render_conversation(conversation, template)
        chosen = render_conversation(flagged, template, "flagged")
        assert chosen.text == whole.text
        assert chosen.spans == tuple(
            span for span, answer in zip(whole.spans, answers, strict=True) if answer.is_trained
        )
        assert render_conversation(flagged, template, "last").spans == whole.spans[-1:]
    assert heed(flagged, "assistant") == conversation
