"""A chat template as other programs can run it.

In comes the template that training used; out goes Jinja text in message style, for chat_template.jinja. A template that
is in message style already stays as it is: transformers understands its {% generation %} tags. One of the simple style
(`system`, `user`, `assistant`), which is ours alone, is wrapped in a loop over the messages that gives the same text.

    portable_template(simple_template)  ->  "{%- macro turn(...) %}...{% for message in messages %}..."

Worst bug: a tuned model prompted elsewhere with another text than it was trained on (tests/model/test_portable.py).
"""

from __future__ import annotations

from ..chat import sandbox
from ..chat.templates import ChatTemplate

PLACE = "\ue000"  # stands for the answer; a private-use character, which no text holds
# The trimming signs keep the template's own text unchanged: `+%}` its first line break, `{%+` its last blanks.
LOOP = """{%% macro turn(system, user, assistant, bos_token) +%%}%(source)s{%%+ endmacro -%%}
{%%- set state = namespace(system='', user=none, turns=0) -%%}
{%%- macro bos() -%%}{{ bos_token if not state.turns and bos_token is defined else '' }}{%%- endmacro -%%}
{%%- for message in messages -%%}
{%%- if message.role == 'system' and loop.first -%%}
{%%- set state.system = message.content -%%}
{%%- elif message.role == 'user' and state.user is none -%%}
{%%- set state.user = message.content -%%}
{%%- elif message.role == 'assistant' and state.user is not none -%%}
{%%- set after = turn(state.system, state.user, '%(place)s', bos()).split('%(place)s')[1] -%%}
{%%- set text = turn(state.system, state.user, message.content, bos()) -%%}
{{- text[:text|length - after|length] + %(eos)s + after -}}
{%%- set state.system = '' -%%}
{%%- set state.user = none -%%}
{%%- set state.turns = state.turns + 1 -%%}
{%%- else -%%}
{{- raise_exception('This template takes an optional system message, then user and assistant in turn.') -}}
{%%- endif -%%}
{%%- endfor -%%}
{%%- if state.user is not none -%%}
{{- turn(state.system, state.user, '%(place)s', bos()).split('%(place)s')[0].rstrip(' ') -}}
{%%- endif -%%}"""


def portable_template(template: ChatTemplate) -> str:
    """The template's text in message style."""
    if template.style == "messages":
        return template.source
    source = template.source.removesuffix("\n")  # as Jinja itself does with the last line break of a file
    return LOOP % {"source": source, "place": PLACE, "eos": "eos_token" if _adds_eos(template) else "''"}


def _adds_eos(template: ChatTemplate) -> bool:
    """Whether ChatTemplate ends the answer with eos_token because the template's own text does not end it."""
    turn = {"system": "", "user": "?", "assistant": "Paris"}
    jinja = sandbox.compile_template(template.source, template.origin)
    own = sandbox.render(jinja, template.origin, **template.special_tokens, **turn)
    return own != template.render([{"role": role, "content": turn[role]} for role in ("user", "assistant")])
