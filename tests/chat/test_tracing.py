"""A traced template says letter for letter what Jinja says, and gives up on what it cannot know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
import pytest
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import contents, conversations

from sftlib.chat import sandbox, tracing
from sftlib.chat.conversation import Conversation
from sftlib.chat.model_files import read_model_template
from sftlib.chat.rendering import Rendered, render_conversation
from sftlib.chat.templates import PLAIN, ChatTemplate
from sftlib.chat.tracing import LOOKS, METHODS, Content, Traces
from sftlib.errors import SftError

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
QWEN3 = """
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not
           (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
            {{- '<|im_start|>' + message.role }}
            {{- '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
            {{- content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


class Bench:
    """A template of one variable, `x`, and how often Jinja itself was asked."""

    def __init__(self, source: str) -> None:
        self.plain = sandbox.compile_template(source, "t.jinja")
        self.traces, self.asked = Traces(source), 0

    def run(self, jinja: jinja2.Template, contents: Sequence[Any]) -> str:
        self.asked += jinja is self.plain
        return sandbox.render(jinja, "t.jinja", x=contents[0], y=contents[1])

    def __call__(self, *contents: str) -> str:
        return self.traces.render("shape", contents, self.run, self.plain)

    def is_traced(self) -> bool:
        return bool(self.traces._known.get("shape"))


@pytest.fixture(autouse=True)
def _trusted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "COMPARED", 0)


def same(bench: Bench, *pairs: tuple[str, str]) -> None:
    for pair in pairs:
        assert bench(*pair) == sandbox.render(bench.plain, "t.jinja", x=pair[0], y=pair[1])


TRACED = [
    "<{{ x }}{{ y }}>",
    "{{ x + '{0}' + y }}}",
    "{{ x ~ y ~ 1 ~ none }}",
    "{{ '  ' + x | trim + y.strip() }}",
    "{{ (x + ' ' + y) | trim }}",
    "{% set z %}[{{ x }}]{% endset %}{{ z }}",
    "{% macro say(what) %}<{{ what | trim }}>{% endmacro %}{{ say(x) + say(y) }}",
    "{% generation %}{{ x }}{% endgeneration %}{{ y }}",
    "{% if x %}{{ x }}{% else %}none{% endif %}",
    "{% if '</t>' in x %}{{ x.split('</t>')[-1] }}{% else %}{{ x }}{% endif %}",
    "{{ 'yes' if x == 'a' else 'no' }}{{ 'yes' if x != 'b' }}",
    "{{ x is string }}{{ x is none }}{{ x is defined }}{{ x is mapping }}{{ x is iterable }}{{ x is number }}",
    "{{ x | default('d') }}{{ x or 'empty' }}{{ y and 'full' }}",
    "{{ x.startswith('a') }}{{ x.replace('a', 'b').upper() }}{{ x.find('b') }}",
    "{% for part in x.split(',') %}({{ part | trim }}){% endfor %}",
    "{{ [x, y] | last }}{{ [x, y] | length }}{{ [x, y] | first }}",
    "{{ strftime_now('%Y') }}{{ x }}",
    "{% filter trim %} {{ x }} {% endfilter %}",
]
PAIRS = [
    ("a", "b"),
    ("", ""),
    (" a ", "\nb\n"),
    ("a,b", "</t>"),
    ("x</t> y", "{0}%s"),
    ("a</t>b</t>", "漢"),
    (" ", "a"),
]


@pytest.mark.parametrize("source", TRACED)
def test_the_same_text_without_jinja(source: str) -> None:
    bench = Bench(source)
    same(bench, PAIRS[0], *PAIRS)
    asked = bench.asked
    assert bench.is_traced()
    same(bench, *PAIRS)
    assert bench.asked == asked  # no way through the template was new


REFUSED = [
    "{{ x | length }}", "{{ x | upper }}", "{{ x | tojson }}", "{{ [x] | tojson }}", "{{ x[0] }}", "{{ x[1:] }}",
    "{% for letter in x %}{{ letter }}.{% endfor %}", "{{ '%s' % x }}", "{{ '{}'.format(x) }}", "{{ x * 2 }}",
    "{{ [x, y] | join }}", "{{ [x, y] | sort }}", "{{ [x, y] | unique | list }}", "{{ {'a': 1}[x] }}", "{{ 'abc'[x] }}",
    "{{ x in 'abc' }}", "{{ x in y }}", "{{ x == y }}", "{{ x is sameas y }}", "{{ x is lower }}", "{{ x | e }}",
    "{{ x | int }}", "{{ x | safe }}", "{{ [x] }}", "{{ x.format(1) }}", "{{ x.nothing }}",
    "{{ x < 'm' }}", "{{ x | first }}", "{{ x | reverse }}", "{{ x | string | length }}", "{{ x.split() | join }}",
    "{% set z %}{{ x }}{% endset %}{{ z | length }}", "{{ (x ~ y) | length }}",
    "{% macro say() %}{{ x }}{% endmacro %}{{ say() | upper }}", "{% autoescape true %}{{ x }}{% endautoescape %}",
    "{{ x is sequence and x.nothing is undefined }}", "{{ [x, y] | map('length') | sum }}", "{{ x.encode() }}",
    "{{ x }}{{ [1] | random }}", "{{ x }}{{ lipsum() | length > 0 }}", "{{ x.find(y) }}",
]  # fmt: skip


@pytest.mark.parametrize("source", REFUSED)
def test_what_cannot_be_known_is_asked_of_jinja(source: str) -> None:
    bench = Bench(source)
    for pair in [("a", "b"), ("a", "b"), ("c<", "d"), ("abc", "abc"), ("", "")]:
        found = []
        for run in (bench, lambda *own: sandbox.render(bench.plain, "t.jinja", x=own[0], y=own[1])):
            try:
                found.append(run(*pair))
            except SftError as error:
                found.append(str(error))
        assert found[0] == found[1]
    assert not bench.is_traced()


def test_swallowed_refusals_count() -> None:
    """Jinja's `int` filter and `a[b]` turn errors into a default; what they were given must not be told from it."""
    trace = tracing._Trace()
    with pytest.raises(tracing.Refused):
        len(Content(trace, ["a"], 0, lambda contents: contents[0]))
    assert trace.is_refused


def test_every_way_into_a_text_is_closed() -> None:
    kept = {"add", "radd", "bool", "eq", "ne", "contains", "getattr"}  # answered, or refused by `__getattr__`
    object_only = {name.strip("_") for name in dir(object)} - {"str", "repr", "format", "hash", "lt", "le", "gt", "ge"}
    ways = {name.strip("_") for kind in (str, int, float, complex, bytes) for name in dir(kind) if name[:2] == "__"}
    others = {"getnewargs", "doc", "buffer", "release_buffer", "getformat", "annotations"}  # pickles, C, classes
    assert ways - object_only - kept - others <= set(LOOKS.split())
    content = Content(tracing._Trace(), ["a"], 0, lambda contents: contents[0])
    for name in LOOKS.split():
        with pytest.raises(tracing.Refused):
            getattr(content, f"__{name}__")()
    for name in set(dir(str)) - METHODS:
        if name[:2] != "__":
            with pytest.raises(tracing.Refused):
                getattr(content, name)


def test_contents_that_answer_otherwise_take_another_way() -> None:
    bench = Bench("{% if x == 'a' %}A{% elif x.strip() %}{{ x }}{% else %}blank{% endif %}")
    assert [bench(x, "") for x in ("a", "a", "b", "c", " ", "", "a", "d")] == [*"AAbc", "blank", "blank", *"Ad"]
    assert len(bench.traces._known["shape"]) == 3


def test_contents_that_never_answer_alike_go_to_jinja() -> None:
    bench = Bench("{{ x.find('b') }}")
    for length in range(2 * tracing.MOST_TRACES):
        assert bench("a" * length + "b", "") == str(length)
    assert not bench.is_traced()
    assert bench("ab", "") == "1"


def test_the_clock_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        day = "1"

        @classmethod
        def now(cls) -> Clock:
            return cls()

        def strftime(self, form: str) -> str:
            return self.day

    monkeypatch.setattr(tracing, "datetime", Clock)
    monkeypatch.setattr(sandbox, "datetime", Clock)
    bench = Bench("{{ strftime_now('%d') }}{{ x }}")
    assert [bench("a", ""), bench("b", ""), bench("c", "")] == ["1a", "1b", "1c"]
    Clock.day = "2"
    assert [bench("a", ""), bench("b", "")] == ["2a", "2b"]
    assert bench.is_traced()


def test_a_trace_that_is_wrong_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("{{ x }}!")
    same(bench, PAIRS[0], PAIRS[0])
    (trace,) = bench.traces._known["shape"]
    monkeypatch.setattr(trace, "_form", "{0}?")
    monkeypatch.setattr(tracing, "COMPARED", 1000)
    with pytest.raises(AssertionError, match=r"'a\?' instead of 'a!'"):
        bench("a", "")


def templates() -> dict[str, ChatTemplate]:
    found = {name: family.template(name) for name, family in FAMILIES.items()}
    found |= {
        f"{name} without tags": family.template(
            name, found[name].source.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")
        )
        for name, family in FAMILIES.items()
    }
    found["plain"] = ChatTemplate(PLAIN, "plain", TOKENS)
    found["simple"] = ChatTemplate("{{ bos_token }}{{ system }}|{{ user | trim }}|{{ assistant }}", "s", TOKENS)
    found["Qwen3's own"] = ChatTemplate(QWEN3, "model", {"eos_token": "<|im_end|>"}, ("<|im_start|>",))
    return found


TEMPLATES = templates()


def outcome(conversation: Conversation, template: ChatTemplate) -> Rendered | str:
    try:
        return render_conversation(conversation, template)
    except SftError as error:
        return repr(error)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@settings(max_examples=8, deadline=None)
@given(some=st.lists(conversations(), min_size=2, max_size=4))
def test_every_template_as_without_traces(name: str, some: list[Conversation]) -> None:
    """Texts and spans, of conversations whose shapes come again; TEMPLATES remember the shapes of earlier examples."""
    template = TEMPLATES[name]
    untraced = ChatTemplate(template.source, template.origin, template.special_tokens, template.markers)
    untraced._traces._jinja = None
    for conversation in [*some, *some]:
        assert outcome(conversation, template) == outcome(conversation, untraced)
    assert not untraced._traces._known


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_every_template_is_traced(name: str) -> None:
    template = ChatTemplate(TEMPLATES[name].source, name, TEMPLATES[name].special_tokens, TEMPLATES[name].markers)
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    for _ in range(2):
        text = template.render(messages)
    assert "q" in text
    assert all(template._traces._known.values())


@given(x=contents(), y=contents())
@settings(max_examples=60, deadline=None)
def test_any_contents(x: str, y: str) -> None:
    for bench in BENCHES:
        same(bench, (x, y), (y, x))


BENCHES = [Bench(source) for source in TRACED]


def test_a_real_model(tiny_model) -> None:
    source, special, markers = read_model_template(tiny_model)
    template = ChatTemplate(source, "model", special, markers)
    messages = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    assert len({template.render(messages) for _ in range(3)}) == 1
    assert template._traces._known[(False, ("", ""), "user", "assistant")]
