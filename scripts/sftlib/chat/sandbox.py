"""The Jinja that chat templates run in: sandboxed, and letter for letter what transformers gives them.

In: a template's text and where it came from. Out: a compiled template, and from it text, with the ranges that
`{% generation %}` marks. It does not know messages or spans; `templates` and `rendering` do.

A template's own {% generation %} body is found by rendering a second time with two marks around each body, characters
that the text does not hold, and taking them out again. transformers counts the characters yielded so far instead,
which goes wrong when the body sits in a macro, a {% set %} block or a filter; the marks travel with the text, and where
even they do not come out as the same text, there are no ranges rather than wrong ones.

    jinja = compile_template("{{ q }}{% generation %}{{ a }}!{% endgeneration %}", "x.jinja")
    find_ranges(lambda marks: render(jinja, "x.jinja", q="2+2?", a="4", **{MARKS: marks}))  ->  ("2+2?4!", [(4, 6)])

Worst bug: a text that differs from the one transformers renders (tests/chat/test_templates.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox

from ..errors import DataError, ModelError

MARKS = "_generation_marks"  # the variable that carries the two marks into a render
Sandbox = jinja2.sandbox.ImmutableSandboxedEnvironment
UNASSIGNED = [*range(0xFDD0, 0xFDF0), *range(0xE000, 0xF900)]  # noncharacters, then private use: texts hold neither


class Refusal(jinja2.TemplateError):
    """The template itself refused the conversation, with `raise_exception`."""


class GenerationTag(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %}: renders its body, between the two marks when there are marks."""

    tags = {"generation"}  # noqa: RUF012  (the name and the form are jinja's)

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.CallBlock:
        """The tag as a call of `_body`: a call block, as in transformers, so that variables have the same scope."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    @jinja2.pass_context
    def _body(self, context: jinja2.runtime.Context, caller: Callable[[], str]) -> str:
        opening, closing = context.get(MARKS, ("", ""))
        return context.environment.concat((opening, caller(), closing))


def environment(kind: type[Sandbox] = Sandbox) -> Sandbox:
    """Jinja as transformers sets it up for chat templates."""
    jinja = kind(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols])
    jinja.filters["tojson"] = _to_json
    jinja.globals["raise_exception"] = _refuse
    jinja.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return jinja


def compile_template(source: str, origin: str) -> jinja2.Template:
    """Compile `source`; a syntax error is a ModelError at `origin:line`."""
    try:
        template = environment().from_string(source)
        template.globals = dict(template.globals)  # jinja copies them a render, and its ChainMap is slow to copy
        return template
    except jinja2.TemplateSyntaxError as error:
        raise ModelError(
            f"The chat template is not valid Jinja: {error.message}.",
            where=f"{origin}:{error.lineno}",
            cure="Correct that line, or point data.template_path at one of chat_templates/*.jinja.",
        ) from error


def undeclared_variables(source: str) -> set[str]:
    """The names that the template takes from outside."""
    return jinja2.meta.find_undeclared_variables(environment().parse(source))


def has_generation_tag(source: str) -> bool:
    """Whether the template marks what the model says."""
    calls = environment().parse(source).find_all(jinja2.nodes.ExtensionAttribute)
    return any(call.identifier == GenerationTag.identifier for call in calls)


def render(template: jinja2.Template, origin: str, row: str = "", **variables: Any) -> str:
    """Render once.

    Raises DataError when the template refuses the conversation, ModelError when it cannot be run on it.
    `row` is the conversation's source, named in both.
    """
    try:
        return template.render(**variables)
    except Refusal as refusal:
        raise DataError(
            f"The chat template ({origin}) refuses the conversation: {refusal.message}",
            where=row,
            cure="Change or remove the row, or choose another template with data.template_path.",
        ) from refusal
    except Exception as error:  # whatever a template does, it is the template that failed, not us
        raise ModelError(
            f"The chat template failed: {type(error).__name__}: {error}",
            where=f"{origin}, on {row}" if row else origin,
            cure="Correct the template, or point data.template_path at one of chat_templates/*.jinja.",
        ) from error


def find_ranges(run: Callable[[tuple[str, str]], str]) -> tuple[str, list[tuple[int, int]] | None]:
    """Render, and find the ranges of the {% generation %} bodies; None where the marks do not come out intact.

    run: renders with these two marks as the variable MARKS.
    """
    text = run(("", ""))
    opening = unused_mark(text)
    closing = unused_mark(text, opening)
    marked = run((opening, closing))
    if marked.replace(opening, "").replace(closing, "") != text:
        return text, None
    found = list(re.finditer(f"[{opening}{closing}]", marked))
    if "".join(mark.group() for mark in found) != (opening + closing) * (len(found) // 2):
        return text, None  # nested, or cut by a filter
    places = [mark.start() - removed for removed, mark in enumerate(found)]
    return text, list(zip(places[::2], places[1::2], strict=True))


def unused_mark(*texts: str) -> str:
    """A character that none of the texts holds and that no filter takes for white space."""
    return next(chr(code) for code in UNASSIGNED if not any(chr(code) in text for text in texts))


def _refuse(message: str) -> str:
    raise Refusal(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own `tojson` escapes for HTML and sorts keys; chat templates expect plain JSON."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
