"""Chat templates: from messages to the one text that is trained on, prompted with, evaluated on and exported with.

In: Jinja text (the model's own, a file, or the plain form built in here) and the model's special tokens. Out: a
`ChatTemplate` that renders messages exactly as transformers would. What of the text is trained is not decided here but
in `rendering`; how Jinja is run, in `sandbox`; what the model's files say, in `model_files`.

Two styles, told apart by the variables a template uses:
- message style, as on the hub: `messages`, `add_generation_prompt`, `bos_token`, `eos_token`, `tools` (always none);
- simple style: `system`, `user`, `assistant`, one turn. More turns are rendered one by one and joined, the system text
  and `bos_token` in the first only. Blanks just before the answer count as the answer's (a tokenizer glues them to
  the first word), and an answer that the template does not end with a special token gets `eos_token`.

    choose_template("auto", *read_model_template(folder)).render([{"role": "user", "content": "2+2?"}])

Worst bug: a text that differs from the one the model is later prompted with (tests/chat/test_templates.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import jinja2

from .. import console
from ..errors import DataError, ModelError
from ..files import ROOT
from . import pairs, sandbox, tracing

SHIPPED = ROOT / "chat_templates"
DEFAULT_MARKERS = ("<|im_start|>", "<|im_end|>")  # without them as single tokens, default.jinja could not end an answer

# The lines are joined by newlines and the answer begins with the blank, so that the prompt ends in "Assistant:" and no
# tokenizer merges across its end. BOS is written where the model has one of its own (on GPT-2 it is the EOS).
PLAIN = """
{{- bos_token if bos_token is defined and bos_token != eos_token }}
{%- set line = namespace(start='') %}
{%- for message in messages %}
    {%- if message.tool_calls or message.role not in ('system', 'user', 'assistant') %}
        {{- raise_exception('the plain form has no tools.') }}
    {%- elif message.role == 'assistant' %}
        {{- line.start + 'Assistant:' }}
        {%- generation %}
            {{- ' ' + message.content + eos_token }}
        {%- endgeneration %}
        {%- set line.start = '\\n' %}
    {%- elif message.role == 'user' or message.content %}
        {{- line.start + message.role | capitalize + ': ' + message.content }}
        {%- set line.start = '\\n' %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- line.start + 'Assistant:' }}
{%- endif %}
"""


class ChatTemplate:
    """A compiled template with the special tokens of one model.

    Args:
        source: the Jinja text.
        origin: "model", "plain", "text", "default.jinja" or the path of a file; named in errors and in the log.
        special_tokens: what templates see by name, e.g. {"eos_token": "</s>"}.
        markers: every special token of the tokenizer; an answer must end with one of these.
        is_for_pairs: an encoder reads the prompt and a decoder gives the answer, two texts rather than one (pairs.py).
    """

    def __init__(
        self,
        source: str,
        origin: str,
        special_tokens: Mapping[str, str],
        markers: Collection[str] = (),
        is_for_pairs: bool = False,
    ) -> None:
        self.source, self.origin, self.is_for_pairs = source, origin, is_for_pairs
        self.special_tokens = dict(special_tokens)
        self.markers = frozenset(markers) | frozenset(special_tokens.values())
        self.masks_compared = 0  # kept by `rendering`: conversations on which both ways to mask were compared
        self._label = "the model's own chat template" if origin == "model" else origin
        self._jinja = sandbox.compile_template(source, self._label)
        self._traces = tracing.Traces(source)
        self.style = _style(source, self._label)
        self.has_generation = self.style == "messages" and sandbox.has_generation_tag(source)
        self._marker = any_of(self.markers)

    @property
    def identity(self) -> str:
        """Everything that a rendered text and its spans depend on besides the messages, for caches and stamps."""
        parts = [self.source, sorted(self.special_tokens.items()), sorted(self.markers)]
        return json.dumps([*parts, "pairs"] if self.is_for_pairs else parts, ensure_ascii=False)

    def render(self, messages: Sequence[dict[str, Any]], *, add_generation_prompt: bool = False, row: str = "") -> str:
        """The text of `messages`, with `add_generation_prompt` up to where the model's answer begins.

        Raises DataError when the template refuses these messages, ModelError when it fails; `row` is named in both.
        """
        if self.style == "simple":
            return "".join(self._simple_turns(messages, row))
        return self._rendered(messages, add_generation_prompt, row)

    def render_ranges(
        self, messages: Sequence[dict[str, Any]], *, row: str = ""
    ) -> tuple[str, list[tuple[int, int]] | None]:
        """The text and the ranges of its {% generation %} bodies; None where they cannot be told for certain."""
        return sandbox.find_ranges(lambda marks: self._rendered(messages, False, row, marks))

    def first_marker(self, text: str) -> re.Match[str] | None:
        """The first special token in `text`."""
        return self._marker.search(text)

    def last_marker_end(self, text: str) -> int | None:
        """Where `text` ends with a special token: the end of that token, white space after it left out."""
        stripped = text.rstrip()
        return len(stripped) if any(stripped.endswith(marker) for marker in self.markers if marker) else None

    def _rendered(
        self,
        messages: Sequence[dict[str, Any]],
        add_generation_prompt: bool,
        row: str,
        marks: tuple[str, str] = ("", ""),
    ) -> str:
        """The text, with what transformers passes to a template when there are neither tools nor documents."""

        def run(jinja: jinja2.Template, messages: Sequence[dict[str, Any]]) -> str:
            return sandbox.render(
                jinja, self._label, row, **self.special_tokens, messages=list(messages), tools=None, documents=None,
                add_generation_prompt=add_generation_prompt, **{sandbox.MARKS: marks},
            )  # fmt: skip

        if not all(len(message) == 2 and type(message.get("content")) is str for message in messages):
            return run(self._jinja, messages)  # calls, names and the like: too many shapes
        roles = [message["role"] for message in messages]

        def run_with(jinja: jinja2.Template, contents: Sequence[Any]) -> str:
            return run(jinja, [{"role": role, "content": one} for role, one in zip(roles, contents, strict=True)])

        shape = (add_generation_prompt, marks, *roles)
        return self._traces.render(shape, [message["content"] for message in messages], run_with, self._jinja)

    def _simple_turns(self, messages: Sequence[dict[str, Any]], row: str) -> Iterable[str]:
        for index, (system, user, answer) in enumerate(_single_turns(messages, self._label, row)):
            names = self.special_tokens | ({"bos_token": ""} if index else {})
            run = partial(self._simple_turn, names, row)
            place = sandbox.unused_mark(system, user)
            shape = self._traces.render(bool(index), (system, user, place), run, self._jinja)
            before, found, after = shape.partition(place)
            if not found or place in after:
                raise ModelError(
                    "The chat template does not show the answer exactly once.",
                    where=self._label,
                    expected="{{ assistant }} in one place",
                    code="E601",
                )
            if answer is None:
                yield before.rstrip(" ")
                continue
            text = self._traces.render(bool(index), (system, user, answer), run, self._jinja)
            if not (text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after)):
                raise ModelError(
                    "The chat template changes more than the answer when the answer changes.",
                    where=f"{self._label}, on {row}" if row else self._label,
                    expected="{{ assistant }} in one place, outside of any condition on it",
                    code="E601",
                )
            end = len(text) - len(after)
            yield text if self.first_marker(after) else text[:end] + self._eos() + after

    def _simple_turn(self, names: Mapping[str, str], row: str, jinja: jinja2.Template, contents: Sequence[Any]) -> str:
        system, user, answer = contents
        return sandbox.render(jinja, self._label, row, **names, system=system, user=user, assistant=answer)

    def _eos(self) -> str:
        eos = self.special_tokens.get("eos_token")
        if not eos:
            raise ModelError(
                "The chat template does not end the answer, and the model's tokenizer has no eos_token to end it with.",
                where=self._label,
                cure="End the answer in the template with a special token of this model.",
                code="E602",
            )
        return eos


@lru_cache(maxsize=8)
def any_of(tokens: frozenset[str]) -> re.Pattern[str]:
    """A pattern for any of the tokens, the longest first: one pass over a text, however many tokens there are."""
    longest_first = sorted((re.escape(token) for token in tokens if token), key=len, reverse=True)
    return re.compile("|".join(longest_first) or "(?!)")


def choose_template(
    template_path: str,
    model_template: str | None,
    special_tokens: Mapping[str, str],
    markers: Collection[str] = (),
    kind: Literal["causal", "seq2seq"] = "causal",
) -> ChatTemplate:
    """The template that `data.template_path` asks for, for a model of this kind.

    `auto` takes the model's own, else default.jinja where the tokenizer has its markers as single tokens, else the
    plain form, and says so; for an encoder-decoder the model's own, else the text alone (pairs.py). The three arguments
    after the path are what `read_model_template` returns.
    """
    known = frozenset(markers) | frozenset(special_tokens.values())
    if kind == "seq2seq":
        named = {
            "auto": (model_template or pairs.TEXT, "model" if model_template else "text"),
            "plain": (PLAIN, "plain"),
        }
        source, origin = named.get(template_path) or (_read(Path(template_path)), template_path)
        template = ChatTemplate(source, origin, special_tokens, known, is_for_pairs=True)
        pairs.refuse_open_prompt(template)
        return template
    if template_path == "auto":
        if model_template is not None:
            return ChatTemplate(model_template, "model", special_tokens, known)
        if known.issuperset(DEFAULT_MARKERS):
            console.note("The model has no chat template of its own: taking chat_templates/default.jinja (ChatML).")
            return ChatTemplate(_read(SHIPPED / "default.jinja"), "default.jinja", special_tokens, known)
        console.note(
            "The model has no chat template of its own, and its tokenizer does not know the markers of "
            "chat_templates/default.jinja: taking the plain System:/User:/Assistant: form."
        )
    if template_path in ("auto", "plain"):
        if not special_tokens.get("eos_token"):
            raise ModelError(
                "The plain form ends an answer with eos_token, and the model's tokenizer has none.",
                cure="Point data.template_path at a template that ends answers with a special token of this model.",
                code="E602",
            )
        return ChatTemplate(PLAIN, "plain", special_tokens, known)
    return ChatTemplate(_read(Path(template_path)), template_path, special_tokens, known)


def require_template(name: str) -> Path:
    """The file that data.template_path names. ModelError where it cannot be read."""
    _read(Path(name))
    return Path(name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        names = ", ".join(sorted(file.name for file in SHIPPED.glob("*.jinja")))
        raise ModelError(
            "There is no such chat template.",
            where=f"data.template_path: {path}",
            expected="auto, plain, or the path of a Jinja file",
            cure=f"Take one of chat_templates/: {names}.",
        ) from None
    except UnicodeDecodeError as error:
        raise ModelError(
            f"The chat template is not UTF-8: byte {error.object[error.start]:#04x} at position {error.start}.",
            where=str(path),
            cure="Save it as UTF-8.",
        ) from None


def _style(source: str, label: str) -> Literal["messages", "simple"]:
    names = sandbox.undeclared_variables(source)
    if "messages" in names:
        return "messages"
    if {"user", "assistant"} <= names:
        return "simple"
    raise ModelError(
        f"The chat template uses neither style; its variables are: {', '.join(sorted(names)) or 'none'}.",
        where=label,
        expected="`messages` (as on the hub), or `user` and `assistant` (and `system`)",
    )


def _single_turns(messages: Sequence[dict[str, Any]], label: str, row: str) -> Iterable[tuple[str, str, str | None]]:
    """(system, user, answer) of each turn; the system text in the first only, the answer None where it is to come."""
    rest = list(messages)
    system = rest.pop(0)["content"] if rest and rest[0]["role"] == "system" else ""
    roles = [message["role"] for message in rest]
    if not rest or roles != ["user", "assistant"] * (len(rest) // 2) + ["user"] * (len(rest) % 2):
        raise DataError(
            f"A template of the simple style ({label}) has no form for these roles: {', '.join(roles) or 'none'}.",
            where=row,
            expected="an optional system message, then user and assistant in turn",
            cure="Choose a template of the message style with data.template_path, e.g. chat_templates/default.jinja.",
        )
    for index in range(0, len(rest), 2):
        answer = rest[index + 1]["content"] if index + 1 < len(rest) else None
        yield ("" if index else system), rest[index]["content"], answer
