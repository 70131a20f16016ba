"""Which chat template fits a model, and why: its text beside the model's own, its markers, the end of a turn.

Comes in: a model's folder (its tokenizer files; no weights, no transformers). Goes out: a `Fit` for each shipped
template, and the one to take. Four grades, and what they rest on:

    same       every probe is the text that the model's own template writes
    near       some are, and those that are not are named (a system text, tool calls, ...)
    possible   the tokenizer has each of its markers as one token (those of tools aside), but the text is another
    unfit      a marker is no token of this model: it would be read as several, and no turn would end

The probes are conversations of one turn, of several, with a system text, an empty one, and with a tool. A template that
refuses one is compared on the others.

Worst bug: a template called the same that writes another text (tests/chat/test_fitting.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ..errors import DataError, ModelError
from .conversation import Conversation, Message
from .model_files import ModelTemplate, read_pieces, read_stops
from .rendering import render_conversation, render_prompt
from .templates import SHIPPED, ChatTemplate, choose_template

Grade = Literal["same", "near", "possible", "unfit"]
GRADES: tuple[Grade, ...] = ("same", "near", "possible", "unfit")
MARKER = re.compile(r"<[^<>\s]{1,40}>|\[/?[A-Z_]{2,20}\]")  # what templates write besides words
_CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
_ASKED, _SAID = Message("user", "one"), Message("assistant", "two")
TOOLS = "a tool call"
PROBES = {
    "one turn": (_ASKED, _SAID),
    "several turns": (_ASKED, _SAID, Message("user", "three"), Message("assistant", "four")),
    "a system text": (Message("system", "five"), _ASKED, _SAID),
    "an empty system text": (Message("system", ""), _ASKED, _SAID),
    TOOLS: (_ASKED, Message("assistant", "", (("tool_calls", [_CALL]),)), Message("tool", "3"), _SAID),
}


class Fit(NamedTuple):
    """How a template fits a model.

    other: the probes whose text is not the model's own; refused: those that one of the two refuses.
    missing: its markers that are no token of the model. end: what ends an answer; is_stop: the model stops at it now.
    """

    name: str
    grade: Grade
    other: tuple[str, ...]
    refused: tuple[str, ...]
    missing: tuple[str, ...]
    end: str
    is_stop: bool

    @property
    def why(self) -> str:
        """The grade's reason, in words."""
        if self.missing:
            return f"no single token here: {', '.join(self.missing)}"
        end = f"a turn ends with {self.end}" + ("" if self.is_stop else ", which the model learns to stop at")
        if self.grade == "same":
            return f"the text of the model's own; {end}"
        if self.grade == "near":
            return f"the text of the model's own but for {', '.join((*self.other, *self.refused))}; {end}"
        return f"another text than the model's own; {end}" if self.other else f"its markers are tokens; {end}"


class Advice(NamedTuple):
    """What data.template_path `auto` takes, what to take, and why."""

    auto: str
    path: str
    why: str


def fit_templates(folder: Path, model: ModelTemplate, more: Sequence[Path] = ()) -> list[Fit]:
    """Every shipped template beside a model, and `more` files, the best first."""
    pieces, stops = read_pieces(folder), read_stops(folder, model)
    own = _own(model)
    shipped = sorted(SHIPPED.glob("*.jinja"))
    known = {path.resolve() for path in shipped}
    others = [path for path in more if path.resolve() not in known]
    fits = [fit_template(path, model, own, pieces, stops) for path in (*shipped, *others)]
    return sorted(fits, key=lambda fit: (GRADES.index(fit.grade), len(fit.other) + len(fit.refused), fit.name))


def fit_template(
    path: Path, model: ModelTemplate, own: ChatTemplate | None, pieces: Collection[str], stops: Collection[str]
) -> Fit:
    """One template beside the model's own, which may be None; pieces: every token that stands for itself."""
    source = path.read_text(encoding="utf-8")
    markers = model.markers | set(MARKER.findall(source.partition("-#}")[2] or source))
    template = ChatTemplate(source, path.name, model.special_tokens, markers)
    other, refused, written, end = [], [], set(), ""
    for name, messages in PROBES.items():
        ours = _texts(template, messages)
        if ours is not None and name != TOOLS:
            written |= set(MARKER.findall(ours[0]))
            end = end or _end(template, messages)
        theirs = _texts(own, messages) if own is not None else None
        if own is not None and (ours is None) != (theirs is None):
            refused.append(name)
        elif own is not None and ours != theirs:
            other.append(name)
    missing = tuple(sorted(written - set(pieces)))
    is_near = own is not None and "one turn" not in (*other, *refused) and "several turns" not in (*other, *refused)
    grade: Grade = "unfit" if missing else "near" if is_near else "possible"
    if grade == "near" and not other and not refused:
        grade = "same"
    return Fit(path.name, grade, tuple(other), tuple(refused), missing, end, end in stops)


def advise(model: ModelTemplate, fits: list[Fit]) -> Advice:
    """What `auto` takes for this model, and whether a shipped template is better."""
    auto = choose_template("auto", *model).origin
    if auto != "model":
        why = "the model has no template of its own"
        if auto == "default.jinja":
            return Advice("chat_templates/default.jinja", "auto", f"{why}, and its tokenizer has the markers of ChatML")
        usable = next((fit for fit in fits if fit.grade == "possible"), None)
        rest = f"; {usable.name} can be had, as its markers are tokens of this model" if usable else ""
        return Advice("plain", "auto", f"{why}, nor has its tokenizer the markers of ChatML{rest}")
    own = _own(model)
    try:
        for name in ("one turn", "several turns"):
            render_conversation(Conversation(PROBES[name], name), own)
    except (DataError, ModelError) as error:
        best = next((fit for fit in fits if fit.grade in ("same", "near")), None)
        why = f"the model's own template cannot be trained on: {error.seen}"
        if best is None:
            return Advice("the model's own", "", f"{why} None of chat_templates/ writes its text: write one.")
        return Advice("the model's own", f"chat_templates/{best.name}", why)
    return Advice(
        "the model's own", "auto", "the model was tuned with it, and training, answers and exports keep to it"
    )


def _own(model: ModelTemplate) -> ChatTemplate | None:
    return choose_template("auto", *model) if model.template is not None else None


def _texts(template: ChatTemplate, messages: tuple[Message, ...]) -> tuple[str, str] | None:
    """What a template writes for a conversation, and what it asks with; None where it refuses it."""
    conversation = Conversation(messages, "a probe").to_dicts()
    try:
        return template.render(conversation), render_prompt(conversation[:-1], template)
    except (DataError, ModelError):
        return None


def _end(template: ChatTemplate, messages: tuple[Message, ...]) -> str:
    """The special token that ends the answers of a conversation, '' where none is found."""
    try:
        rendered = render_conversation(Conversation(messages, "a probe"), template)
    except (DataError, ModelError):
        return ""
    said = rendered.text[slice(*rendered.spans[-1])]
    return max((marker for marker in template.markers if marker and said.endswith(marker)), key=len, default="")
