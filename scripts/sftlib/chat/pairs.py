"""Conversations for an encoder-decoder: every answer is a text of its own, and its prompt goes to the encoder.

In: conversations and a template. Out: conversations that end with the one answer they train, and of each rendered text
the prompt and that answer. `make render` writes the same pairs, so that both ways train the same tokens.

    user, assistant, user, assistant   ->   user, assistant      and      user, assistant, user, assistant
                                                  ^ trained                                    ^ trained

Such a model reads its prompt to the end-of-text, so the template ends the prompt with `eos_token`, as it ends the
answer: once on both sides, in training, prompting and export alike. A T5 has no template of its own; `TEXT` is what its
users expect: what the user wrote and nothing more. A system message stands in a line before it; only where there are
earlier answers do the lines say who speaks.

    translate English to German: Good night.</s>          User: 2+2?\\nAssistant: 4\\nUser: And 3+3?</s>

Worst bug: a prompt that does not end, or ends twice (tests/chat/test_pairs.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import ModelError
from .conversation import Conversation
from .stored import RenderedPair, Row
from .trained import LossOn, heed, refuse_rendered

if TYPE_CHECKING:
    from .rendering import Rendered
    from .templates import ChatTemplate

TEXT = """
{%- set has_answer = messages[-1].role == 'assistant' and not add_generation_prompt %}
{%- set asked = messages[:-1] if has_answer else messages %}
{%- set line = namespace(start='', names=false) %}
{%- for message in messages %}
    {%- if message.tool_calls or message.role not in ('system', 'user', 'assistant') %}
        {{- raise_exception('the text form has no tools.') }}
    {%- endif %}
{%- endfor %}
{%- for message in asked if message.role == 'assistant' %}
    {%- set line.names = true %}
{%- endfor %}
{%- for message in asked if message.content %}
    {{- line.start + (message.role | capitalize + ': ' if line.names else '') + message.content }}
    {%- set line.start = '\\n' %}
{%- endfor %}
{{- eos_token }}
{%- if has_answer %}
    {%- generation %}
        {{- messages[-1].content + eos_token }}
    {%- endgeneration %}
{%- endif %}
"""


def one_answer_each(rows: Iterable[Row], loss_on: LossOn = "assistant") -> Iterator[Row]:
    """A row for every answer that is learnt: the conversation up to it. Rendered pairs are that already."""
    for row in rows:
        if isinstance(row, RenderedPair):
            refuse_rendered(row, loss_on)
            yield row
        else:
            yield from up_to_each_answer(row, loss_on)


def up_to_each_answer(conversation: Conversation, loss_on: LossOn = "assistant") -> list[Conversation]:
    """A conversation for each answer that is learnt, ending there; one in which nobody answers stays as it is."""
    messages = heed(conversation, loss_on).messages
    answers = [place for place, message in enumerate(messages) if message.role == "assistant" and place > 0]
    ends = [place for place in answers if messages[place].is_trained]
    return [replace(conversation, messages=messages[: end + 1]) for end in ends] if answers else [conversation]


def answer_of(row: Row) -> str:
    """The answer of a row that `one_answer_each` gave."""
    return row.target if isinstance(row, RenderedPair) else row.messages[-1].content


def last_pair(rendered: Rendered) -> RenderedPair:
    """The prompt before the last answer, and that answer through its end."""
    start, end = rendered.spans[-1]
    return RenderedPair(rendered.text[:start], rendered.text[start:end], rendered.source)


def refuse_open_prompt(template: ChatTemplate) -> None:
    """ModelError unless the template ends a prompt with one eos_token."""
    eos = template.special_tokens.get("eos_token")
    if not eos:
        raise ModelError("The model's tokenizer has no eos_token, with which an encoder-decoder ends its texts.")
    prompt = template.render([{"role": "user", "content": "?"}], add_generation_prompt=True)
    if not prompt.endswith(eos) or prompt.count(eos) > 1:
        raise ModelError(
            f"The chat template ({template.origin}) ends a prompt in {prompt[-40:]!r}; an encoder-decoder (model.type: "
            "seq2seq) reads its prompt to one end-of-text.",
            where="data.template_path", expected=f"a prompt that ends with {eos!r} once, as the answer does",
            cure="Set data.template_path to auto, which takes the text alone, or write {{ eos_token }} before the "
            "answer in the template.",
        )  # fmt: skip
