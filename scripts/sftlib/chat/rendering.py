"""From a conversation to one text and the spans of it that are trained.

In: a conversation and a `ChatTemplate`. Out: `Rendered`, whose spans are character ranges. It makes no tokens; the room
`tokens` does, from this one text. The rule is DESIGN section 4: a span is what the model must produce after the
generation prompt, through its end-of-turn, and nothing that the prompt supplies.

    <|im_start|>user\\n2+2?<|im_end|>\\n<|im_start|>assistant\\n4<|im_end|>\\n
                                                          [-----------)     "\\n" belongs to what follows

Two ways to the spans, and positions are never searched for in what a person wrote:
- the template's {% generation %} tags, white space after the end-of-turn left out;
- rendering prefixes. The prompt of turn k is render(messages[:k]) with the generation prompt; what follows an answer
  is learnt by rendering the turn with a placeholder for it, and the span ends behind the first special token there.
Tags that leave the end-of-turn out are passed over. On the first conversations both ways are taken and must agree.

Templates that change earlier turns (Qwen3 takes the thinking out of all but the last) supervise those turns only that
stand in the text as they stood when the model had just said them; the others are context, counted in `turns_left_out`.
An assistant message that opens a conversation answers no prompt, and is context too.

Of the spans found those are kept whose answer is learnt (trained.py). Which answer a span is says the prefix, or the
order of the tags; where a template leaves turns out, a mark at the end of each answer shows in which tag it stands.

Worst bug: a span that starts or ends one character off (tests/chat/test_rendering.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import console
from ..errors import DataError, ModelError
from . import sandbox
from .conversation import Conversation
from .stored import RenderedPair, Row
from .templates import ChatTemplate, any_of
from .trained import LossOn, heed, refuse_rendered

Span = tuple[int, int]
COMPARED = 16  # conversations on which tags and prefixes are compared; a template that is wrong is wrong from the start
CURE = "Point data.template_path at one of chat_templates/*.jinja, or put {% generation %} tags around the answer."

NAMED = 3  # refused rows whose reason is shown


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text and the character ranges of it to train on: ascending, disjoint, each with its end-of-turn.

    taught_from: where prompts are trained too (loss_on: all), the place from which on all is, through the last span.
    conversation: what it is the text of, flagged as it is learnt; None of a rendered pair.
    """

    text: str
    spans: tuple[Span, ...]
    source: str
    turns_left_out: int = 0
    taught_from: int | None = None
    conversation: Conversation | None = field(default=None, compare=False, repr=False)


def render_conversation(conversation: Conversation, template: ChatTemplate, loss_on: LossOn = "assistant") -> Rendered:
    """The text of a conversation and the spans of it that are learnt; none where no answer is.

    Raises DataError when the template refuses the conversation or nobody answers in it, ModelError when the template
    cannot be masked.
    """
    conversation = heed(conversation, loss_on)
    messages, row = conversation.to_dicts(), conversation.source
    answers = [k for k, message in enumerate(messages) if message["role"] == "assistant" and k > 0]
    if not answers:
        raise _no_answer(row)
    found: dict[int, Span] | None = None
    if not template.has_generation:
        text = template.render(messages, row=row)
        found = _prefix_spans(messages, answers, template, text, row)
        spans = list(found.values())
    else:
        text, ranges = template.render_ranges(messages, row=row)
        tagged = _tagged_spans(messages, template, text, ranges)
        if tagged is None:
            found = _prefix_spans(messages, answers, template, text, row)
        elif template.masks_compared < COMPARED:
            template.masks_compared += 1
            _compare(tagged, messages, answers, template, text, row)
        spans = list(found.values()) if found is not None else tagged or []
    left_out = max(0, len(answers) - len(spans))
    if not all(conversation.messages[k].is_trained for k in answers):
        owned = found if found is not None else _owners(spans, messages, answers, template, row)
        spans = [span for k, span in owned.items() if conversation.messages[k].is_trained]
        left_out = sum(conversation.messages[k].is_trained for k in answers) - len(spans)
    taught_from = 0 if loss_on == "all" else None
    return Rendered(text, tuple(spans), row, left_out, taught_from, conversation)


def render_rows(
    rows: Iterable[Row], template: ChatTemplate, max_rejected: float, name: str, loss_on: LossOn = "assistant"
) -> Iterator[Rendered]:
    """Every row but those that the template refuses, as they come; the first of these are named on the screen.

    name: of the split, for the display. Raises DataError behind the last row when more than the share `max_rejected`
    were refused.
    """
    count = lost = 0
    refused: list[DataError] = []
    for row in console.progress(rows, f"rendering {name}"):
        count += 1
        try:
            if isinstance(row, RenderedPair):
                refuse_rendered(row, loss_on)
                rendered = render_pair(row, template)
            else:
                rendered = render_conversation(row, template, loss_on)
        except DataError as error:
            lost += 1
            if lost <= NAMED:
                refused.append(error)
            continue
        yield rendered
    if lost > max_rejected * count:
        first = refused[0]
        raise DataError(
            f"{lost} of {count} rows cannot be rendered. The first: {first.seen}",
            where=first.where, expected=first.expected or f"at most {max_rejected:.0%} (data.max_rejected)",
            cure=first.cure, code="E307",
        )  # fmt: skip
    for error in refused:
        console.note(f"{error.where}: {error.seen}")


def render_prompt(messages: Sequence[dict[str, Any]], template: ChatTemplate) -> str:
    """The text after which the model answers."""
    return template.render(messages, add_generation_prompt=True)


def answer_lead(messages: Sequence[dict[str, Any]], template: ChatTemplate) -> str:
    """What the template has the model say before the answer: nothing, a blank, an empty thinking block."""
    prompt = template.render(messages, add_generation_prompt=True)
    text, place = _with_placeholder(messages, template, prompt, "")
    return text[len(prompt) : place]


def render_pair(pair: RenderedPair, template: ChatTemplate) -> Rendered:
    """A row of data/rendered/ as it stands: its target is the span.

    Raises DataError when the target does not end with a special token: the model would never learn to stop.
    """
    if template.last_marker_end(pair.target) != len(pair.target):
        raise DataError(
            f"The target does not end with a special token of the model: ...{pair.target[-20:]!r}.",
            where=pair.source,
            expected=f"a target that ends with {template.special_tokens.get('eos_token', 'the end-of-turn')!r}",
            cure="Render the data again for this model: make render.",
        )
    if template.is_for_pairs and template.last_marker_end(pair.input) != len(pair.input):
        raise DataError(
            f"The input does not end with a special token of the model: ...{pair.input[-20:]!r}.",
            where=pair.source,
            expected=f"an input that ends with {template.special_tokens['eos_token']!r}, as an encoder reads it",
            cure="Render the data again for this model: make render.",
        )
    return Rendered(pair.input + pair.target, ((len(pair.input), len(pair.input) + len(pair.target)),), pair.source)


def last_prompt_and_answer(conversation: Conversation) -> tuple[list[dict[str, Any]], str]:
    """The messages before the last answer, and that answer: what an evaluation asks and compares with."""
    messages = conversation.to_dicts()
    for k in range(len(messages) - 1, 0, -1):
        if messages[k]["role"] == "assistant":
            return messages[:k], messages[k]["content"]
    raise _no_answer(conversation.source)


def special_text_in(conversation: Conversation, special_tokens: Collection[str]) -> list[str]:
    """The special tokens that somebody wrote as text: a tokenizer takes them for the real ones."""
    pattern = any_of(frozenset(special_tokens))
    return sorted({token for message in conversation.messages for token in pattern.findall(message.content)})


def _tagged_spans(
    messages: list[dict[str, Any]], template: ChatTemplate, text: str, ranges: list[Span] | None
) -> list[Span] | None:
    """The tagged ranges cut behind their end-of-turn; None where the tags do not tell."""
    joined: list[Span] = []
    for start, end in ranges or []:
        unended = joined and template.last_marker_end(text[slice(*joined[-1])]) is None
        if unended and joined[-1][1] == start:  # one answer in two tags; of two answers the first has its end
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    ends = [template.last_marker_end(text[start:end]) for start, end in joined]
    if not joined or None in ends:
        return None
    spans = [(start, start + length) for (start, _), length in zip(joined, ends, strict=True)]
    return spans[1:] if messages[0]["role"] == "assistant" and len(spans) == _answers(messages) else spans


def _prefix_spans(
    messages: list[dict[str, Any]], answers: list[int], template: ChatTemplate, text: str, row: str
) -> dict[int, Span]:
    """The spans by rendering prefixes, by the place of their message."""
    spans: dict[int, Span] = {}
    for k in answers:
        prompt = template.render(messages[:k], add_generation_prompt=True, row=row)
        said = text if k == len(messages) - 1 else template.render(messages[: k + 1], row=row)
        shape, place = _with_placeholder(messages[:k], template, prompt, row)
        rest = shape[place + 1 :]
        marker = template.first_marker(rest)
        if marker is None:
            raise ModelError(
                f"The chat template ({template.origin}) does not end an answer with a special token of the model; "
                f"after the answer it writes {rest!r}, so that a model trained on it would not stop.",
                where=row,
                expected="e.g. {{ eos_token }} behind the answer",
                cure=CURE,
                code="E602",
            )
        end = len(said) - len(rest) + marker.end()
        if said.endswith(rest) and said.startswith(prompt) and end > len(prompt) and text[:end] == said[:end]:
            spans[k] = (len(prompt), end)
    if answers[-1] not in spans:  # it at least must stand as it was said
        raise _unmaskable(template, prompt, row)
    return spans


def _owners(
    tagged: list[Span], messages: list[dict[str, Any]], answers: list[int], template: ChatTemplate, row: str
) -> dict[int, Span]:
    """The tagged spans by the place of their message."""
    if len(tagged) == len(answers):
        return dict(zip(answers, tagged, strict=True))
    mark = sandbox.unused_mark(template.render(messages, row=row))
    owned: dict[int, Span] = {}
    for k in answers:
        changed = [*messages]
        changed[k] = {**messages[k], "content": messages[k]["content"] + mark}
        text, ranges = template.render_ranges(changed, row=row)
        spans = _tagged_spans(changed, template, text, ranges) or []
        if len(spans) == len(tagged):
            shown = [own for (start, end), own in zip(spans, tagged, strict=True) if mark in text[start:end]]
            owned |= {k: shown[0]} if shown else {}
    if sorted(owned.values()) != tagged:
        raise ModelError(
            f"The chat template ({template.origin}) tags {len(tagged)} texts of {len(answers)} answers, and nothing "
            "tells which answer each is.",
            where=row, expected="one {% generation %} an answer, or tags that stay where an answer grows",
            cure="Set data.loss_on to assistant, or take another template with data.template_path.", code="E601",
        )  # fmt: skip
    return owned


def _with_placeholder(
    messages: Sequence[dict[str, Any]], template: ChatTemplate, prompt: str, row: str
) -> tuple[str, int]:
    """The messages with a placeholder of one character for the answer, and the place of it behind the prompt."""
    mark = sandbox.unused_mark(prompt)
    text = template.render([*messages, {"role": "assistant", "content": mark}], row=row)
    if not text.startswith(prompt) or text.count(mark) != 1:
        raise _unmaskable(template, prompt, row)
    return text, text.index(mark)


def _compare(
    tagged: list[Span], messages: list[dict[str, Any]], answers: list[int], template: ChatTemplate, text: str, row: str
) -> None:
    """Refuse a template whose tags and prefixes disagree. A turn that prefixes leave out may be tagged."""
    try:
        prefixes = list(_prefix_spans(messages, answers, template, text, row).values())
    except ModelError:
        return  # the tags stand alone
    if not set(prefixes) <= set(tagged):
        start, end = next(span for span in prefixes if span not in tagged)
        raise ModelError(
            f"The generation tags of the chat template ({template.origin}) disagree with its generation prompt.",
            where=row,
            expected=f"{text[start:end]!r} as one of the tagged texts {[text[a:b] for a, b in tagged]!r}",
            cure="Put the tags around exactly what follows the generation prompt, through the end-of-turn; "
            "or remove the tags.",
            code="E601",
        )


def _unmaskable(template: ChatTemplate, prompt: str, row: str) -> ModelError:
    return ModelError(
        f"The chat template ({template.origin}) cannot be masked: its answered conversation does not go on from its "
        "generation prompt, or does not show the answer exactly once.",
        where=row,
        expected=f"a text that begins with the prompt, which ends in {prompt[-40:]!r}",
        cure=CURE,
        code="E601",
    )


def _no_answer(row: str) -> DataError:
    return DataError("No message of the assistant answers another one.", where=row, cure="Remove the row.")


def _answers(messages: Sequence[dict[str, Any]]) -> int:
    return sum(message["role"] == "assistant" for message in messages)
