"""One long answer in parts: by hand, at awkward places, and that every token is learnt once."""

from __future__ import annotations

import pytest
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import contents
from transformers import PreTrainedTokenizerFast

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.rendering import Rendered, render_conversation
from sftlib.chat.templates import ChatTemplate
from sftlib.tokens.answer_parts import CONTEXT, CONTEXT_SHARE, answer_parts
from sftlib.tokens.encoding import Cutter
from sftlib.tokens.examples import IGNORED, Example
from sftlib.tokens.length import LEAST_ROOM, LEAST_SHARE, LengthPolicy

CHATML = FAMILIES["chatml"].template("chatml")
PROMPT = "<s><|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"


def parts_of(
    answer: str, tokenizer: PreTrainedTokenizerFast, longest: int, template: ChatTemplate = CHATML, question: str = "q"
) -> tuple[list[Example], Example]:
    """The parts, and the example of the whole text."""
    conversation = Conversation((Message("user", question), Message("assistant", answer)), "a:1")
    rendered, cutter = render_conversation(conversation, template), Cutter.of(tokenizer)
    whole = cutter.example(rendered, cutter.offsets(rendered.text))
    return answer_parts(rendered, template, cutter, LengthPolicy(longest, "split")), whole


def learnt(tokenizer: PreTrainedTokenizerFast, example: Example) -> str:
    return tokenizer.decode([label for label in example.labels if label != IGNORED])


PROMPT_TOKENS = 11


@pytest.mark.parametrize(
    ("answer", "room", "pieces"),
    [
        # Sentences of 12 tokens; of what came before, a quarter of the room is seen again.
        (
            "A b c d e f. B b c d e f! C b c d e f? D b c d e f.", 28,
            [("", "A b c d e f. B b c d e f!"), (" e f!", " C b c d e f?"), (" e f?", " D b c d e f.")],
        ),
        # Code is kept whole, though a sentence before it leaves room unused.
        (
            "So it is:\n```\na = 1\nb = 2\n```\nIt is so.", 28,
            [("", "So it is:\n"), (" it is:\n", "```\na = 1\nb = 2\n```\n"), ("```\n", "It is so.")],
        ),
        # Too much code for one part goes by lines, a sentence by words, a word anywhere.
        (
            "```\naa = 11\nbb = 22\ncc = 33\ndd = 44\n```", 28,
            [("", "```\naa = 11\nbb = 22\n"), (" = 22\n", "cc = 33\ndd = 44\n```")],
        ),
        ("one five six nine zero cat dog eel", 20, [("", "one five six nine zero"), (" zero", " cat dog eel")]),
        ("x" * 50, 24, [("", "x" * 23), ("x" * 5, "x" * 18), ("x" * 5, "x" * 9)]),
        ("x" * 23, 24, [("", "x" * 22), ("x" * 5, "x")]),  # an end-of-turn alone would teach little
    ],
)  # fmt: skip
def test_by_hand(tokenizer: PreTrainedTokenizerFast, answer: str, room: int, pieces: list[tuple[str, str]]) -> None:
    assert len(tokenizer(PROMPT)["input_ids"]) == PROMPT_TOKENS
    parts, _ = parts_of(answer, tokenizer, longest=PROMPT_TOKENS + room)
    ends = [""] * (len(pieces) - 1) + ["<|im_end|>"]
    assert [learnt(tokenizer, part) for part in parts] == [
        piece + end for (_, piece), end in zip(pieces, ends, strict=True)
    ]
    assert [tokenizer.decode(part.input_ids) for part in parts] == [
        PROMPT + seen + piece + (end and end + "\n") for (seen, piece), end in zip(pieces, ends, strict=True)
    ]
    assert [part.is_complete for part in parts] == [False] * (len(parts) - 1) + [True]
    assert [part.source for part in parts] == ["a:1"] * len(parts)
    assert room // CONTEXT_SHARE < CONTEXT


@pytest.mark.parametrize("room", [LEAST_ROOM - 1, LEAST_ROOM])
def test_a_prompt_that_leaves_no_room(tokenizer: PreTrainedTokenizerFast, room: int) -> None:
    parts, _ = parts_of("a b " * 60, tokenizer, longest=PROMPT_TOKENS + room + 1)  # one for the line's end
    assert bool(parts) == (room == LEAST_ROOM)
    assert LengthPolicy(2048).least_room == 2048 // LEAST_SHARE == 256


def test_an_empty_thinking_block_stands_before_every_part(tokenizer: PreTrainedTokenizerFast) -> None:
    """What the template has the model say is learnt in the first part, and given in the others."""
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' %}A:<think></think>{{ m.content }}<|im_end|>{% else %}"
        "U:{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
    )
    template = ChatTemplate(source, "t", FAMILIES["chatml"].tokens, ["<|im_end|>"])
    parts, _ = parts_of("One is one. " * 20, tokenizer, longest=64, template=template)
    assert len(parts) > 2
    assert all(tokenizer.decode(part.input_ids).startswith("U:qA:<think></think>") for part in parts)
    assert learnt(tokenizer, parts[0]).startswith("<think></think>One")
    assert all("<think>" not in learnt(tokenizer, part) for part in parts[1:])


def test_a_rendered_pair_is_cut_too(tokenizer: PreTrainedTokenizerFast) -> None:
    text = f"U: q A:{' One is one.' * 12}</s>"
    cutter = Cutter.of(tokenizer)
    rendered = Rendered(text, ((7, len(text)),), "a:1")
    parts = answer_parts(rendered, CHATML, cutter, LengthPolicy(48, "split"))
    assert "".join(learnt(tokenizer, part) for part in parts) == text[7:]
    assert all(tokenizer.decode(part.input_ids).startswith("U: q A:") for part in parts)


@settings(max_examples=60, deadline=None)
@given(
    answer=st.lists(contents(), min_size=8, max_size=24).map(" ".join),
    name=st.sampled_from(["chatml", "llama3", "mistral", "gemma3"]),
    kind=st.sampled_from(["bytes", "trimmed", "pieces"]),
    room=st.integers(LEAST_ROOM, 60),
)
def test_every_token_is_learnt_once(tokenizers: dict, answer: str, name: str, kind: str, room: int) -> None:
    tokenizer, template = tokenizers[kind], FAMILIES[name].template(name)
    end = tokenizer.convert_tokens_to_ids(FAMILIES[name].end)
    prompt = len(
        Cutter.of(tokenizer).offsets(
            render_conversation(Conversation((Message("user", "q"), Message("assistant", "")), "a:1"), template).text
        )
    )
    longest = prompt + room
    parts, whole = parts_of(answer, tokenizer, longest, template)
    if len(whole.input_ids) <= longest or not parts:
        return
    assert [label for part in parts for label in part.labels if label != IGNORED] == [
        label for label in whole.labels if label != IGNORED
    ]
    assert all(len(part.input_ids) <= longest for part in parts)
    assert [part.is_complete for part in parts] == [False] * (len(parts) - 1) + [True]
    assert all(end not in part.labels for part in parts[:-1])
    assert parts[-1].labels.count(end) == 1
    assert all(part.labels[0] == IGNORED and part.supervised for part in parts)
