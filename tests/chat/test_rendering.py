"""The mask: tags and prefixes, templates with quirks of the published ones, and what cannot be masked."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from families import FAMILIES
from hypothesis import given, settings
from strategies import conversations

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.rendering import (
    Rendered,
    answer_lead,
    last_prompt_and_answer,
    render_conversation,
    render_pair,
    render_prompt,
    render_rows,
    special_text_in,
)
from sftlib.chat.templates import ChatTemplate, choose_template
from sftlib.errors import DataError, ModelError

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
LOOP = "{% for m in messages %}BODY{% endfor %}{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"


def talk(*texts: str, start: str = "user") -> Conversation:
    roles = ("user", "assistant") if start == "user" else ("assistant", "user")
    return Conversation(tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)), "raw.jsonl:17")


def template(body: str, markers: tuple[str, ...] = ("<|e|>",)) -> ChatTemplate:
    return ChatTemplate(LOOP.replace("BODY", body), "t.jinja", TOKENS, markers)


def marked(rendered: Rendered) -> str:
    text = rendered.text
    for start, end in reversed(rendered.spans):
        text = f"{text[:start]}«{text[start:end]}»{text[end:]}"
    return text


ROLE = "{{ 'A:' if m.role == 'assistant' else 'U:' }}"


def test_white_space_after_the_end_of_turn_is_the_next_prompts() -> None:
    rendered = render_conversation(talk("q", "a\n ", "q", "b"), template(ROLE + "{{ m.content + '<|e|>\n \n' }}"))
    assert marked(rendered) == "U:q<|e|>\n \nA:«a\n <|e|>»\n \nU:q<|e|>\n \nA:«b<|e|>»\n \n"


def test_white_space_before_the_end_of_turn_is_said() -> None:
    assert (
        marked(render_conversation(talk("q", "a"), template(ROLE + "{{ m.content }}\n<|e|>")))
        == "U:q\n<|e|>A:«a\n<|e|>»"
    )


def test_marker_text_in_messages_moves_nothing() -> None:
    evil = "x<|e|>\nA:y<|e|>"
    body = ROLE + "{{ m.content + '<|e|>\n' }}"
    assert marked(render_conversation(talk(evil, evil), template(body))) == f"U:{evil}<|e|>\nA:«{evil}<|e|>»\n"


def test_an_end_of_the_whole_text_is_not_the_end_of_the_turn() -> None:
    """Phi-3 ends a text that is not a prompt with <|endoftext|>, behind the <|end|> of the answer."""
    source = (
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
    )
    phi = ChatTemplate(source, "model", {"eos_token": "<|endoftext|>"}, ("<|end|>", "<|user|>", "<|assistant|>"))
    assert marked(render_conversation(talk("q", "a", "r", "b"), phi)) == (
        "<|user|>\nq<|end|>\n<|assistant|>\n«a<|end|>»\n<|user|>\nr<|end|>\n<|assistant|>\n«b<|end|>»\n<|endoftext|>"
    )


def test_a_template_without_a_generation_prompt_trains_its_header() -> None:
    source = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
    old = ChatTemplate(source, "model", TOKENS)
    assert marked(render_conversation(talk("q", "a"), old)) == "user: q</s>«assistant: a</s>»"
    assert render_prompt([{"role": "user", "content": "q"}], old) == "user: q</s>"


QWEN3_LIKE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and loop.last %}"
    "{{ '<think>\n' + (m.content.split('</think>')[0].split('<think>')[-1].strip() if '</think>' in m.content else '') "
    "+ '\n</think>\n\n' }}{% endif %}{{ m.content.split('</think>')[-1].lstrip('\n') + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_earlier_turns_that_are_changed_are_context() -> None:
    qwen = ChatTemplate(QWEN3_LIKE, "model", {"eos_token": "<|im_end|>"}, ("<|im_start|>",))
    rendered = render_conversation(talk("q", "<think>\nr1\n</think>\na", "q", "<think>r2</think>b"), qwen)
    assert marked(rendered) == (
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n«<think>\nr2\n</think>\n\nb<|im_end|>»\n"
    )
    assert rendered.turns_left_out == 1
    assert answer_lead([{"role": "user", "content": "q"}], qwen) == "<think>\n\n</think>\n\n"


def test_a_prompt_that_the_answered_text_does_not_go_on_from() -> None:
    """DeepSeek-R1's prompt ends in <think>, which its answered text leaves out."""
    source = (
        "{% for m in messages %}{{ ('U:' if m.role == 'user' else 'A:') + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'A:<think>\n' }}{% endif %}"
    )
    with pytest.raises(ModelError, match="cannot be masked") as caught:
        render_conversation(talk("q", "a"), ChatTemplate(source, "model", TOKENS))
    assert (caught.value.where, "A:<think>" in caught.value.expected) == ("raw.jsonl:17", True)


def test_a_system_message_that_the_answered_text_drops() -> None:
    """Mistral v0.3 puts the system text before the last message if that is the user's: an answered text has none."""
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ messages[0].content + '\n\n' if loop.last else '' }}"
        "{{ m.content }}[/INST]{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    conversation = Conversation((Message("system", "S"), *talk("q", "a").messages), "raw.jsonl:17")
    with pytest.raises(ModelError, match="cannot be masked"):
        render_conversation(conversation, ChatTemplate(source, "model", TOKENS))


@pytest.mark.parametrize("end", ["", "\n", "<|im_end|>\n"])
def test_an_answer_that_does_not_end_in_a_special_token(end: str) -> None:
    with pytest.raises(ModelError, match="would not stop"):
        render_conversation(talk("q", "a"), template(ROLE + "{{ m.content }}" + f"{{{{ {end!r} }}}}"))


TAGGED = "{% if m.role == 'assistant' %}BODY{% else %}{{ 'U:' + m.content + '\n' }}{% endif %}"


def tagged(body: str) -> ChatTemplate:
    return template(TAGGED.replace("BODY", body))


@pytest.mark.parametrize(
    "body",
    [
        "A:{% generation %}{{ m.content }}<|e|>{% endgeneration %}{{ '\n' }}",
        "A:{% generation %}{{ m.content + '<|e|>\n' }}{% endgeneration %}",  # takes the newline too
        "A:{% generation %}{{ m.content }}{% endgeneration %}{% generation %}<|e|>{% endgeneration %}\n\n",
        "A:{% generation %}{{ m.content }}{% endgeneration %}<|e|>{{ '\n' }}",  # leaves it out: passed over
        "A:{{ m.content }}{% generation %}{% endgeneration %}<|e|>{{ '\n' }}",
    ],
)
def test_tags_end_with_the_end_of_turn(body: str) -> None:
    assert tagged(body).has_generation
    assert marked(render_conversation(talk("q", "a", "q", "b"), tagged(body))) == "U:q\nA:«a<|e|>»\nU:q\nA:«b<|e|>»\n"


@pytest.mark.parametrize(
    "body",
    [
        "{% generation %}A:{{ m.content }}<|e|>{% endgeneration %}",  # what the prompt supplies is tagged
        "A:{{ m.content[:1] }}{% generation %}{{ m.content[1:] }}<|e|>{% endgeneration %}",
        "A:{{ m.content }}{% generation %}<|e|>{% endgeneration %}",
        "A:{% generation %}{{ m.content }}<|e|><|e|>{% endgeneration %}",  # two ends
    ],
)
def test_tags_that_disagree_with_the_generation_prompt(body: str) -> None:
    with pytest.raises(ModelError, match="disagree") as caught:
        render_conversation(talk("q", "abc"), tagged(body))
    assert "abc<|e|>" in caught.value.expected


def test_tags_stand_alone_where_prefixes_do_not_apply() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content + eos_token }}"
        "{% endgeneration %}{% else %}U:{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}A:<think>{% endif %}"
    )
    assert marked(render_conversation(talk("q", "a"), ChatTemplate(source, "t", TOKENS))) == "U:qA:«a</s>»"


def test_touching_tags_are_one_span() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}{% endgeneration %}"
        "{% generation %}{{ eos_token }}{% endgeneration %}{% else %}U:{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}A:<think>{% endif %}"
    )
    assert marked(render_conversation(talk("q", "a"), ChatTemplate(source, "t", TOKENS))) == "U:qA:«a</s>»"


def test_two_answers_without_anything_between_them_are_two_spans() -> None:
    conversation = Conversation(
        (Message("user", "q"), Message("assistant", "a"), Message("assistant", "b")), "raw.jsonl:17"
    )
    mistral = FAMILIES["mistral"].template("mistral")
    assert marked(render_conversation(conversation, mistral)) == "<s>[INST] q[/INST]« a</s>»« b</s>»"


@pytest.mark.parametrize("say", ["", "{{ m.content }}{{ m.content }}"])
def test_an_answer_that_is_not_shown_exactly_once(say: str) -> None:
    with pytest.raises(ModelError, match="exactly once"):
        render_conversation(talk("q", "a"), template(ROLE + say + "<|e|>"))


def test_an_ending_that_depends_on_the_answer() -> None:
    odd = template(ROLE + "{{ m.content }}<|e|>{{ '!' if m.content == 'odd' }}")
    assert marked(render_conversation(talk("q", "a"), odd)) == "U:q<|e|>A:«a<|e|>»"
    with pytest.raises(ModelError, match="cannot be masked"):
        render_conversation(talk("q", "odd"), odd)
    with pytest.raises(ModelError, match="cannot be masked"):  # the earlier turn alone is not enough
        render_conversation(talk("q", "a", "r", "odd"), odd)


def test_an_answer_that_the_template_drops() -> None:
    source = "{% for m in messages if m.content %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
    with pytest.raises(ModelError, match="cannot be masked"):
        render_conversation(talk("q", ""), ChatTemplate(source, "model", TOKENS))


@pytest.mark.parametrize("say", ["{{ m.content }}<|e|>", "{% generation %}{{ m.content }}<|e|>{% endgeneration %}"])
def test_an_opening_assistant_message_is_context(say: str) -> None:
    chosen = template("{% if m.role == 'user' %}U:{{ m.content }}<|e|>{% else %}A:" + say + "{% endif %}")
    rendered = render_conversation(talk("hello", "q", "a", start="assistant"), chosen)
    assert marked(rendered) == "A:hello<|e|>U:q<|e|>A:«a<|e|>»"


@pytest.mark.parametrize(
    "conversation", [talk("q"), talk("hello", start="assistant"), Conversation((), "raw.jsonl:17")]
)
def test_nobody_answers(conversation: Conversation) -> None:
    with pytest.raises(DataError, match="answers") as caught:
        render_conversation(conversation, template(ROLE + "{{ m.content }}<|e|>"))
    assert caught.value.where == "raw.jsonl:17"
    with pytest.raises(DataError, match="answers"):
        last_prompt_and_answer(conversation)


def test_a_conversation_that_ends_with_the_user_is_trained_up_to_there() -> None:
    rendered = render_conversation(talk("q", "a", "r"), template(ROLE + "{{ m.content }}<|e|>"))
    assert marked(rendered) == "U:q<|e|>A:«a<|e|>»U:r<|e|>"
    assert last_prompt_and_answer(talk("q", "a", "r")) == ([{"role": "user", "content": "q"}], "a")


@settings(max_examples=100, deadline=None)
@given(conversation=conversations())
def test_properties_of_the_plain_form_and_the_simple_style(conversation: Conversation) -> None:
    plain = choose_template("plain", None, TOKENS)
    simple = ChatTemplate("{% if system %}{{ system }}\n{% endif %}Q: {{ user }}\nA: {{ assistant }}\n\n", "s", TOKENS)
    for chosen in (plain, simple):
        rendered = render_conversation(conversation, chosen)
        said = [message.content for message in conversation.messages if message.role == "assistant"]
        assert [rendered.text[a:b] for a, b in rendered.spans] == [f" {answer}</s>" for answer in said]
        for index, (start, _) in enumerate(rendered.spans):
            until = len(conversation.messages) - 2 * (len(said) - index) + 1
            assert rendered.text[:start] == render_prompt(conversation.to_dicts()[:until], chosen)


def test_last_prompt_and_answer() -> None:
    messages, answer = last_prompt_and_answer(talk("q", "a", "r", "b"))
    assert ([message["content"] for message in messages], answer) == (["q", "a", "r"], "b")


def test_a_rendered_row_is_trained_on_its_target() -> None:
    pair = SimpleNamespace(input="U:q\nA:", target=" a</s>", source="train.jsonl:1")
    assert render_pair(pair, template("")) == Rendered("U:q\nA: a</s>", ((6, 12),), "train.jsonl:1")


@pytest.mark.parametrize("target", ["", " a", " a</s>\n", "</s> a"])
def test_a_rendered_row_that_would_not_stop(target: str) -> None:
    with pytest.raises(DataError, match="does not end with a special token") as caught:
        render_pair(SimpleNamespace(input="x", target=target, source="train.jsonl:5"), template(""))
    assert caught.value.where == "train.jsonl:5"


def test_special_text_is_found_in_any_message() -> None:
    assert special_text_in(talk("say </s>", "<|e|> no"), {"</s>", "<|e|>", "<s>", ""}) == ["</s>", "<|e|>"]
    assert special_text_in(talk("<", "/s>"), {"</s>"}) == []


def test_rows_that_the_template_refuses_are_counted_and_named(capsys) -> None:
    refusal = "{% if m.content == 'no' %}{{ raise_exception('Not this.') }}{% endif %}"
    strict = template(refusal + ROLE + "{{ m.content }}<|e|>")
    rows = [talk("no" if n == 4 else "q", "a") for n in range(10)]
    assert len(list(render_rows(rows, strict, max_rejected=0.1, name="train"))) == 9
    assert "raw.jsonl:17: " in capsys.readouterr().err
    with pytest.raises(DataError, match=r"1 of 10 rows cannot be rendered.*Not this") as caught:
        list(render_rows(rows, strict, max_rejected=0.05, name="train"))
    assert caught.value.where == "raw.jsonl:17"
