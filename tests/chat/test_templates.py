"""Templates: the same text as transformers, the choice of one, both styles, and errors that say where."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import FAMILIES
from hypothesis import given, settings
from strategies import conversations

from sftlib.chat.conversation import Conversation
from sftlib.chat.templates import PLAIN, SHIPPED, ChatTemplate, choose_template
from sftlib.errors import DataError, ModelError

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
TURN = [{"role": "system", "content": "S"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
PROMPT = TURN[:2]

# Everything that published templates lean on: white space control, namespaces, loop controls, tojson, dates, tags in a
# macro, undefined variables, string methods, slices, tools that are none.
TRICKY = """
{%- set ns = namespace(count=0) -%}
{%- macro show(message) %}
    {%- generation %}{{ message.content | trim }}{{ eos_token }}{% endgeneration %}
{%- endmacro %}
{{ bos_token }}{{ undefined_thing }}{{ unk_token }}
  {% for message in messages %}
  {% if message.role == 'system' %}
[{{ strftime_now('%Y') }}] {{ message | tojson }} {{ {'b': '<&>', 'a': ['é']} | tojson(indent=2) }}
  {% continue %}
  {% endif %}
    {% set ns.count = ns.count + 1 %}
    {% if ns.count > 5 %}{% break %}{% endif %}
    {{- message.role.upper() }}: {% if message.role == 'assistant' %}{{ show(message) }}
    {% else %}{{ message.content.split('</think>')[-1] }}{% endif %}
  {% endfor %}

{{ messages[-1].role if not add_generation_prompt else 'ASSISTANT: ' }}{% if tools is not none %}tools{% endif %}
"""


@pytest.fixture(scope="module")
def transformers_text():
    """Render with transformers itself."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    def render(source: str, tokens: dict[str, str], messages: list[dict], *, prompt: bool = False) -> str:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **tokens)
        return tokenizer.apply_chat_template(
            messages, chat_template=source, tokenize=False, add_generation_prompt=prompt
        )

    return render


@pytest.mark.parametrize("name", [*sorted(FAMILIES), "plain", "tricky"])
@settings(max_examples=12, deadline=None)
@given(conversation=conversations())
def test_same_text_as_transformers(transformers_text, name: str, conversation: Conversation) -> None:
    tokens = FAMILIES[name].tokens if name in FAMILIES else TOKENS
    source = {"plain": PLAIN, "tricky": TRICKY}.get(name) or (SHIPPED / f"{name}.jinja").read_text(encoding="utf-8")
    template, messages = ChatTemplate(source, name, tokens), conversation.to_dicts()
    assert template.render(messages) == transformers_text(source, tokens, messages)
    prompt = messages[:-1]
    assert template.render(prompt, add_generation_prompt=True) == transformers_text(source, tokens, prompt, prompt=True)


def test_same_text_as_transformers_with_tool_calls(transformers_text) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"b": "<é>", "a": 1}}}
    messages = [TURN[1], {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "1"}]
    for name in ("qwen2.5", "qwen3"):
        template = FAMILIES[name].template(name)
        assert template.render(messages) == transformers_text(template.source, template.special_tokens, messages)


def test_ranges_survive_a_macro_a_set_block_and_repeated_answers() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% set said %}[{% generation %}{{ m.content }}"
        "{{ eos_token }}{% endgeneration %}]{% endset %}{{ said | upper }}{% else %}"
        "{{ m.content }}{% endif %}{% endfor %}"
    )
    template = ChatTemplate(source, "t.jinja", TOKENS)
    text, ranges = template.render_ranges([*PROMPT, TURN[2], TURN[1], TURN[2]])
    assert text == "Sq[A</S>]q[A</S>]"
    assert [text[a:b] for a, b in ranges] == ["A</S>", "A</S>"]
    assert ranges == [(3, 8), (11, 16)]


@pytest.mark.parametrize(
    "body",
    [
        "{% generation %}{% generation %}x{% endgeneration %}{% endgeneration %}",  # nested
        "{% set x %}{% generation %}x{% endgeneration %}{% endset %}{{ x[1:] }}",  # a mark cut off
        "{% set x %}{% generation %} x {% endgeneration %}{% endset %}{{ x | trim }}",  # the marks change the text
        "{% set x %}{% generation %}x{% endgeneration %}{% endset %}{{ x | length }}",
    ],
)
def test_ranges_that_are_not_certain_are_none(body: str) -> None:
    assert ChatTemplate("{{ messages[0].content }}" + body, "t.jinja", TOKENS).render_ranges(PROMPT)[1] is None


def test_auto_takes_the_models_own() -> None:
    template = choose_template("auto", "{{ messages[0].content }}", TOKENS)
    assert (template.origin, template.render(TURN), template.style) == ("model", "S", "messages")


def test_auto_takes_default_where_its_markers_are_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    template = choose_template("auto", None, TOKENS, {"<|im_start|>", "<|im_end|>"})
    assert template.origin == "default.jinja"
    assert template.render(PROMPT, add_generation_prompt=True).endswith("<|im_start|>assistant\n")
    assert "default.jinja" in capsys.readouterr().err


def test_auto_takes_plain_where_the_markers_would_be_ordinary_text(capsys: pytest.CaptureFixture[str]) -> None:
    template = choose_template("auto", None, TOKENS, {"<|im_start|>"})
    assert template.origin == "plain"
    assert "plain System:/User:/Assistant:" in capsys.readouterr().err


def test_plain_letter_by_letter() -> None:
    template = choose_template("plain", "{{ messages }}", TOKENS)
    assert template.render(PROMPT, add_generation_prompt=True) == "<s>System: S\nUser: q\nAssistant:"
    assert template.render([*TURN, *TURN[1:]]) == "<s>System: S\nUser: q\nAssistant: a</s>\nUser: q\nAssistant: a</s>"
    assert template.render([{"role": "system", "content": ""}, *TURN[1:]]) == "<s>User: q\nAssistant: a</s>"
    gpt2 = choose_template("plain", None, {"bos_token": "<|end|>", "eos_token": "<|end|>"})
    assert gpt2.render(TURN) == "System: S\nUser: q\nAssistant: a<|end|>"
    with pytest.raises(DataError, match="no tools"):
        template.render([{"role": "tool", "content": "4"}])


def test_plain_needs_an_end_of_turn() -> None:
    with pytest.raises(ModelError, match="eos_token"):
        choose_template("auto", None, {"bos_token": "<s>"})


def test_a_file_is_read_as_utf8_with_or_without_bom(tmp_path: Path) -> None:
    file = tmp_path / "my.jinja"
    file.write_bytes(b"\xef\xbb\xbf" + "«{{ messages[0].content }}».".encode())
    template = choose_template(str(file), "ignored", TOKENS)
    assert (template.render(TURN), template.origin) == ("«S».", str(file))
    file.write_bytes(b"\xe9")
    with pytest.raises(ModelError, match="not UTF-8: byte 0xe9 at position 0"):
        choose_template(str(file), None, TOKENS)


@pytest.mark.parametrize("path", ["nowhere.jinja", "."])
def test_a_missing_file_names_what_there_is(path: str) -> None:
    with pytest.raises(ModelError, match="no such chat template") as caught:
        choose_template(path, None, TOKENS)
    assert "qwen2.5.jinja" in caught.value.cure


def test_a_syntax_error_has_file_and_line() -> None:
    with pytest.raises(ModelError, match="endfor") as caught:
        ChatTemplate("{% for m in messages %}\nx\n{% endif %}", "my.jinja", TOKENS)
    assert caught.value.where == "my.jinja:3"


def test_a_refusal_is_the_rows_fault_and_a_crash_the_templates() -> None:
    refusing = ChatTemplate(
        "{% if messages %}{{ raise_exception('roles must alternate') }}{% endif %}", "r.jinja", TOKENS
    )
    with pytest.raises(DataError, match=r"r\.jinja.*roles must alternate") as refusal:
        refusing.render(TURN, row="raw.jsonl:17")
    assert refusal.value.where == "raw.jsonl:17"
    crashing = ChatTemplate("{{ messages[0].content + 1 }}", "model", TOKENS)
    with pytest.raises(ModelError, match="TypeError") as crash:
        crashing.render(TURN, row="raw.jsonl:17")
    assert crash.value.where == "the model's own chat template, on raw.jsonl:17"


@pytest.mark.parametrize(
    "attack",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10**9) %}{% endfor %}{{ messages }}",
        "{{ cycler.__init__.__globals__ }}{{ messages }}",
    ],
)
def test_the_sandbox_holds(attack: str) -> None:
    with pytest.raises(ModelError, match=r"SecurityError|OverflowError"):
        ChatTemplate(attack + "{{ messages[0].content }}", "evil.jinja", TOKENS).render(TURN)


SIMPLE = "{{ bos_token }}{% if system %}# {{ system }}\n{% endif %}Q: {{ user }}\nA: {{ assistant | trim }}\n\n"


def test_simple_style() -> None:
    template = ChatTemplate(SIMPLE, "s.jinja", TOKENS)
    assert template.style == "simple"
    assert template.render(PROMPT, add_generation_prompt=True) == "<s># S\nQ: q\nA:"
    assert template.render(TURN) == "<s># S\nQ: q\nA: a</s>\n"  # Jinja takes one newline off the end of a template
    assert template.render([*TURN, TURN[1], {"role": "assistant", "content": " b "}]) == (
        "<s># S\nQ: q\nA: a</s>\nQ: q\nA: b</s>\n"
    )
    assert template.render([*TURN, TURN[1]], add_generation_prompt=True) == "<s># S\nQ: q\nA: a</s>\nQ: q\nA:"


def test_simple_style_that_ends_its_answers_is_left_alone() -> None:
    template = ChatTemplate("{{ user }}>{{ assistant }}{{ eos_token }}", "s.jinja", TOKENS)
    assert template.render(TURN[1:]) == "q>a</s>"


def test_simple_style_without_any_end_of_turn() -> None:
    with pytest.raises(ModelError, match="no eos_token"):
        ChatTemplate("{{ user }}>{{ assistant }}", "s.jinja", {}).render(TURN[1:])


@pytest.mark.parametrize(
    "roles", [[], ["system"], ["assistant"], ["user", "user"], ["user", "assistant", "tool"], ["user", "system"]]
)
def test_simple_style_has_no_form_for_other_roles(roles: list[str]) -> None:
    template = ChatTemplate(SIMPLE, "s.jinja", TOKENS)
    with pytest.raises(DataError, match="no form for these roles") as caught:
        template.render([{"role": role, "content": "x"} for role in roles], row="raw.jsonl:3")
    assert caught.value.where == "raw.jsonl:3"


@pytest.mark.parametrize(
    "source", ["{{ user }}{{ assistant }}{{ assistant }}", "{{ user }}{% if 0 %}{{ assistant }}{% endif %}"]
)
def test_simple_style_shows_the_answer_exactly_once(source: str) -> None:
    with pytest.raises(ModelError, match="exactly once"):
        ChatTemplate(source, "s.jinja", TOKENS).render(TURN[1:])


def test_simple_style_whose_text_depends_on_the_answer() -> None:
    source = "{% if assistant == 'a' %}odd{% endif %}{{ user }}{{ assistant }}"
    with pytest.raises(ModelError, match="changes more than the answer"):
        ChatTemplate(source, "s.jinja", TOKENS).render(TURN[1:])


def test_a_template_of_neither_style() -> None:
    with pytest.raises(ModelError, match="instruction, output") as caught:
        ChatTemplate("{{ instruction }}{{ output }}", "alpaca.jinja", TOKENS)
    assert caught.value.where == "alpaca.jinja"
