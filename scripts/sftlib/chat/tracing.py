"""A chat template run once for all conversations of one shape, where its answer is proved to be the same for all.

In: a template's text, then conversation after conversation: its `shape`, which is everything but the contents of its
messages, and these. Out: the text that Jinja gives.

The template runs with a `Content` in the place of each content. A `Content` lets itself be joined and cut by methods of
str; whatever a template asks of it, it answers for the conversation at hand, and question and answer are written down.
Anything else, its length or its letters, it refuses, and with it the whole trace. A program that was given the same
things and the same answers does the same, so the pieces that came out are the text of every conversation of that shape
that gives those answers:

    {{ '<|user|>' + m.content | trim if m.content else '' }}     of "2+2? "
    questions   bool(content 0) is True                          pieces   '<|user|>', strip(content 0)

A trace is made when a shape comes a second time, and compared with Jinja on its first uses and now and then; a
difference is a fault of this file and ends the run. No part of Jinja may look at a `Content` behind its back: filters
and tests are given one only where they stand in SAFE_TESTS or `_Environment`.

Worst bug: a text that depends on a content in a way that was not written down (tests/chat/test_tracing.py).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.nodes
import jinja2.utils

from ..errors import SftError
from . import sandbox

Read = Callable[[Sequence[str]], Any]  # from the contents of a conversation to what a template makes of them

MOST_TRACES = 8  # of a shape, one for each way through the template; contents that keep finding new ones go to Jinja
MOST_SHAPES = 2000  # some megabytes
COMPARED = 3  # uses of a trace that are compared with Jinja, then one in COMPARED_EVERY
COMPARED_EVERY = 1000
METHODS = frozenset(
    ["strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition", "replace", "lower",
     "upper", "title", "capitalize", "removeprefix", "removesuffix", "startswith", "endswith", "find", "count"]
)  # fmt: skip
SAFE_TESTS = frozenset(["defined", "undefined", "none", "mapping", "boolean", "true", "false", "number", "callable"])

# Every other way into a str that Python has: what these would answer depends on letters that nobody wrote down.
LOOKS = """
    str repr format bytes hash len length_hint iter next reversed getitem lt le gt ge int float complex index round
    trunc floor ceil neg pos abs invert mul rmul mod rmod sub rsub truediv rtruediv floordiv rfloordiv divmod rdivmod
    pow rpow and rand or ror xor rxor lshift rlshift rshift rrshift matmul rmatmul
"""


class Refused(Exception):
    """The template does something with a content that cannot be written down."""


class Traces:
    """The traces of one template, found by shape."""

    def __init__(self, source: str) -> None:
        environment = sandbox.environment(_Environment)
        may_escape = next(environment.parse(source).find_all(jinja2.nodes.EvalContextModifier), None) is not None
        self._jinja = None if may_escape else environment.from_string(source)
        self._known: dict[Hashable, list[_Trace] | None] = {}  # None: not to be traced

    def render(
        self, shape: Hashable, contents: Sequence[str], run: Callable[[jinja2.Template, Sequence[Any]], str],
        plain: jinja2.Template,
    ) -> str:  # fmt: skip
        """The text of these contents. `run` renders a template with them, or with what stands for them."""
        if shape not in self._known:
            if len(self._known) < MOST_SHAPES and self._jinja is not None:
                self._known[shape] = []
            return run(plain, contents)
        traces = self._known[shape]
        if traces is None:
            return run(plain, contents)
        for trace in traces:
            if all(answers(contents) for answers in trace.answers):
                return trace.text(contents) if trace.is_trusted() else _compared(trace, contents, run(plain, contents))
        text = run(plain, contents)
        trace = self._trace(contents, run) if len(traces) < MOST_TRACES else None
        if trace is None or trace.text(contents) != text:
            self._known[shape] = None
        else:
            traces.append(trace)
        return text

    def _trace(self, contents: Sequence[str], run: Callable[[jinja2.Template, Sequence[Any]], Any]) -> _Trace | None:
        trace = _Trace()
        self._jinja.globals["strftime_now"] = trace.now
        standing = [Content(trace, contents, at, operator.itemgetter(at)) for at in range(len(contents))]
        try:
            trace.finish(run(self._jinja, standing))
        except SftError:
            return None
        return None if trace.is_refused else trace


class _Trace:
    """One way through a template.

    answers: whether a conversation answers each question as the first did. read: its text.
    """

    def __init__(self) -> None:
        self.questions: dict[Hashable, Read] = {}
        self.answers: list[Read] = []
        self.is_refused = False
        self._form, self._values, self._uses = "", (), 0

    def ask(self, question: Hashable, read: Read, contents: Sequence[str]) -> Any:
        """The answer for these contents; from now on it belongs to the trace."""
        answer = read(contents)
        self.questions.setdefault(question, lambda others: read(others) == answer)
        return answer

    def refuse(self, *_: Any, **__: Any) -> Any:
        """Give up. Jinja swallows some exceptions, so it is written down too."""
        self.is_refused = True
        raise Refused

    def now(self, form: str) -> str:
        """The clock, as the template sees it: a question whose answer changes."""
        return self.ask(("now", form), lambda _: datetime.now().strftime(form), ())

    def finish(self, rendered: str | Content) -> None:
        """Keep what came out."""
        parts = rendered._parts if isinstance(rendered, Content) else (rendered,)
        values = [part for part in parts if isinstance(part, Content)]
        places = iter(range(len(values)))
        self._form = "".join(
            f"{{{next(places)}}}" if isinstance(part, Content) else part.replace("{", "{{").replace("}", "}}")
            for part in parts
        )
        self._values = [value._read for value in values]
        self.answers = list(self.questions.values())

    def text(self, contents: Sequence[str]) -> str:
        """The text of a conversation that answers as the first did."""
        return self._form.format(*[value(contents) for value in self._values])

    def is_trusted(self) -> bool:
        """Whether this use need not be compared with Jinja."""
        self._uses += 1
        return self._uses > COMPARED and self._uses % COMPARED_EVERY > 0


def _compared(trace: _Trace, contents: Sequence[str], text: str) -> str:
    """The text of Jinja, after a look at that of the trace; a clock may have gone on between the two."""
    assert trace.text(contents) == text or not all(answers(contents) for answers in trace.answers), (
        f"the trace of a chat template gives {trace.text(contents)!r} instead of {text!r}"
    )
    return text


class Content:
    """What stands for a text that depends on contents, while a template is traced."""

    __slots__ = ("_contents", "_name", "_parts", "_read", "_trace")

    def __init__(
        self, trace: _Trace, contents: Sequence[str], name: Hashable, read: Read, parts: tuple[Any, ...] = ()
    ) -> None:
        self._trace, self._contents, self._name, self._read = trace, contents, name, read
        self._parts = parts or (self,)

    def __add__(self, other: Any) -> Content:
        return self._joined((*self._parts, *self._parts_of(other)))

    def __radd__(self, other: Any) -> Content:
        return self._joined((*self._parts_of(other), *self._parts))

    def __bool__(self) -> bool:
        return self._asked("bool", bool)

    def __eq__(self, other: object) -> bool:
        if other is None or self is other:
            return other is not None
        return self._asked("==", operator.eq, other)

    def __contains__(self, other: Any) -> bool:
        return self._asked("in", operator.contains, other)

    def __getattr__(self, method: str) -> Any:
        return self._caller(method) if method in METHODS else self._trace.refuse()

    def _caller(self, method: str) -> Callable[..., Any]:
        function = getattr(str, method)

        def call(*arguments: Any) -> Any:
            value = function(self._read(self._contents), *arguments)
            if isinstance(value, (bool, int)):
                return self._asked(method, function, *arguments)
            if isinstance(value, str):
                return self._made((method,), lambda contents: function(self._read(contents), *arguments), *arguments)
            self._asked((method, "length"), lambda text, *others: len(function(text, *others)), *arguments)
            items = [
                self._made(
                    (method, at), lambda contents, at=at: function(self._read(contents), *arguments)[at], *arguments
                )
                for at in range(len(value))
            ]
            return type(value)(items)

        return call

    def _made(self, name: tuple[Any, ...], read: Read, *arguments: Any) -> Content:
        return Content(self._trace, self._contents, (self._name, *name, *self._plain(arguments)), read)

    def _asked(self, name: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        question = (self._name, name, *self._plain(arguments))
        return self._trace.ask(question, lambda contents: function(self._read(contents), *arguments), self._contents)

    def _plain(self, arguments: Iterable[Any]) -> Iterable[Any]:
        return [one if one is None or type(one) in (str, int) else self._trace.refuse() for one in arguments]

    def _parts_of(self, other: Any) -> tuple[Any, ...]:
        if isinstance(other, Content):
            return other._parts
        return (other,) if type(other) is str else self._trace.refuse()

    def _joined(self, parts: tuple[Any, ...]) -> Content:
        def read(contents: Sequence[str]) -> str:
            return "".join(part if isinstance(part, str) else part._read(contents) for part in parts)

        name = ("+", *(part if isinstance(part, str) else (part._name,) for part in parts))
        return Content(self._trace, self._contents, name, read, parts)


def _refuse(content: Content, *_: Any, **__: Any) -> Any:
    content._trace.refuse()


for _name in LOOKS.split():
    setattr(Content, f"__{_name}__", _refuse)


class _Generator(jinja2.compiler.CodeGenerator):
    """Output goes to `concat` as it is, rather than through str()."""

    def _output_child_pre(self, node: jinja2.nodes.Expr, frame: Any, finalize: Any) -> None:
        self.write("(")

    def _output_child_post(self, node: jinja2.nodes.Expr, frame: Any, finalize: Any) -> None:
        self.write(")")

    def visit_Concat(self, node: jinja2.nodes.Concat, frame: Any) -> None:  # the `~`
        self.write("environment.concat((")
        for argument in node.nodes:
            self.visit(argument, frame)
            self.write(", ")
        self.write("))")


class _Environment(sandbox.Sandbox):
    """Jinja that keeps a `Content` whole, and lets nothing look into it that is not known to ask it first."""

    code_generator_class = _Generator

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        kinds = dict.fromkeys(("string", "iterable", "sequence"), lambda content: True)
        asked = {name: test for name, test in self.tests.items() if name in ("in", "==", "eq", "equalto", "!=", "ne")}
        self.tests = {
            name: _guarded(test, {**dict.fromkeys(SAFE_TESTS, test), **kinds, **asked}.get(name))
            for name, test in self.tests.items()
        }
        own = {"trim": lambda content, chars=None: content.strip(chars), "string": lambda content: content}
        own |= dict.fromkeys(("default", "d"), self.filters["default"])
        self.filters = {name: _guarded(form, own.get(name)) for name, form in self.filters.items()}
        self.filters["random"] = self.globals["lipsum"] = _refuse_to_run

    @staticmethod
    def concat(values: Iterable[Any]) -> Any:
        """All values joined: a `Content` if there is one among them."""
        values = [value if isinstance(value, (str, Content)) else str(value) for value in values]
        content = next((value for value in values if isinstance(value, Content)), None)
        if content is None:
            return "".join(values)
        return content._joined(
            tuple(part for value in values for part in (value._parts if isinstance(value, Content) else (str(value),)))
        )


def _refuse_to_run(*_: Any, **__: Any) -> Any:
    raise Refused


def _guarded(function: Callable[..., Any], for_contents: Callable[..., Any] | None) -> Callable[..., Any]:
    """The filter or test, or another one where it is given a `Content`."""

    def call(*arguments: Any, **named: Any) -> Any:
        for one in (*arguments, *named.values()):
            if isinstance(one, Content):
                return for_contents(*arguments, **named) if for_contents else _refuse(one)
        return function(*arguments, **named)

    if (passed := jinja2.utils._PassArg.from_obj(function)) is not None:
        call.jinja_pass_arg = passed  # type: ignore[attr-defined]
    return call
