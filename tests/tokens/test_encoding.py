"""Which tokens are trained: by hand, at awkward boundaries, and as properties over templates, tokenizers and texts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import conversations
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.model_files import read_model_template
from sftlib.chat.rendering import Rendered, render_conversation, render_prompt
from sftlib.chat.templates import ChatTemplate, choose_template
from sftlib.errors import ModelError
from sftlib.tokens.columns import ROWS
from sftlib.tokens.encoding import AHEAD, encode
from sftlib.tokens.examples import IGNORED, Example, Tally, tally
from sftlib.tokens.table import ExampleTable


@functools.cache
def shipped(name: str) -> ChatTemplate:
    return FAMILIES[name].template(name)


def words(*vocabulary: str, special: tuple[AddedToken, ...] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, ids in the order given, special tokens behind them."""
    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token=vocabulary[0]))
    raw.pre_tokenizer = pre_tokenizers.Split("|", "removed")
    raw.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(tokenizer_object=raw)


END = AddedToken("</s>", normalized=False, special=True)


def test_by_hand() -> None:
    tokenizer = words("?", "q", ">", "a", "b", special=(END,))  # </s> is 5
    rendered = Rendered("q|>|a|b</s>q|>|b</s>", ((4, 11), (15, 20)), "t:1")
    assert rendered.text[4:11] == "a|b</s>"
    (example,) = encode([rendered], tokenizer)
    assert example.input_ids == [1, 2, 3, 4, 5, 1, 2, 4, 5]
    assert example.labels == [-100, -100, 3, 4, 5, -100, -100, 4, 5]
    assert (example.source, example.is_complete, example.supervised) == ("t:1", True, 5)


def test_prompts_too_by_hand() -> None:
    """Everything from a place on through the last end-of-turn, but a marker that somebody wrote into an answer."""
    tokenizer = words("?", "q", ">", "a", "b", special=(END,))
    text = "q|>|a</s>b</s>q|>|b</s>|q"
    spans = ((4, 14), (18, 23))
    assert [text[start:end] for start, end in spans] == ["a</s>b</s>", "b</s>"]
    whole = Rendered(text, spans, "t:1", taught_from=0)
    (example,) = encode([whole], tokenizer)
    assert example.input_ids == [1, 2, 3, 5, 4, 5, 1, 2, 4, 5, 1]
    assert example.labels == [-100, 2, 3, -100, 4, 5, 1, 2, 4, 5, -100]
    assert (example.stray_ends, example.straddling) == (1, 0)
    (later,) = encode([Rendered(text, spans, "t:1", taught_from=4)], tokenizer)
    assert later.labels == [-100, -100, 3, -100, 4, 5, 1, 2, 4, 5, -100]
    (nothing,) = encode([Rendered(text, (), "t:1", taught_from=0)], tokenizer)
    assert nothing.supervised == 0


def test_nothing_is_added_and_the_first_token_is_never_trained() -> None:
    tokenizer = words("?", "a", special=(AddedToken("<s>", special=True), END))
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    assert tokenizer("a")["input_ids"] == [2, 1]
    (example,) = encode([Rendered("a</s>", ((0, 5),), "t:1")], tokenizer)
    assert (example.input_ids, example.labels) == ([1, 3], [IGNORED, 3])


def test_a_token_across_the_prompts_end_is_not_trained_but_counted() -> None:
    tokenizer = words("?", "q", ">a", "b", special=(END,))
    (example,) = encode([Rendered("q|>a|b</s>", ((3, 10),), "t:1")], tokenizer)
    assert (example.input_ids, example.labels) == ([1, 2, 3, 4], [-100, -100, 3, 4])
    assert example.straddling == 1


def test_an_end_of_turn_that_swallows_the_newline_behind_it_is_trained() -> None:
    """Phi-3's <|end|> strips what is right of it; the newline belongs to the next prompt."""
    end = AddedToken("<|end|>", rstrip=True, normalized=False, special=True)
    tokenizer = words("?", "q", "a", special=(end,))
    (example,) = encode([Rendered("q<|end|>\na<|end|>\n", ((9, 17),), "t:1")], tokenizer)
    assert (example.input_ids, example.labels) == ([1, 3, 2, 3], [-100, -100, 2, 3])
    assert example.straddling == 0


def test_an_end_of_turn_that_somebody_wrote_is_not_trained_but_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = Conversation((Message("user", "q"), Message("assistant", "a<|im_end|>b")), "t:1")
    (example,) = encode([render_conversation(conversation, shipped("qwen3"))], tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert example.input_ids.count(end) == 3
    assert example.labels.count(end) == example.stray_ends == 1
    assert example.labels[-2] == end  # the real one; the newline behind it is not trained
    assert tokenizer.decode([label for label in example.labels if label != IGNORED]) == "ab<|im_end|>"


def test_words_may_repeat() -> None:
    (example,) = encode([Rendered("q|a|b|a", ((2, 7),), "t:1")], words("?", "q", "a", "b", special=(END,)))
    assert (example.labels, example.stray_ends) == ([-100, 2, 3, 2], 0)


@pytest.mark.parametrize("answer", ["👩‍🚀 ok", "漢字", "日本👍", " é", "\n\nfour", "four  ", ""])
@pytest.mark.parametrize("kind", ["bytes", "trimmed", "pieces"])
def test_awkward_answers_in_full(tokenizers: dict, kind: str, answer: str) -> None:
    conversation = Conversation((Message("user", "q 👍"), Message("assistant", answer)), "t:1")
    tokenizer = tokenizers[kind]
    (example,) = encode([render_conversation(conversation, shipped("phi4"))], tokenizer)
    labels = [label for label in example.labels if label != IGNORED]
    alone = tokenizer(f"<|im_sep|>{answer}<|im_end|>", add_special_tokens=False)["input_ids"][1:]
    assert labels == alone  # what follows a special token is cut apart from it, so this is what the model will say
    assert example.straddling == 0


def test_trimmed_offsets_do_not_hide_a_token_across_the_boundary(tokenizers: dict) -> None:
    """ " four" is one token that claims four characters; the blank is the prompt's."""
    for kind in ("bytes", "trimmed"):
        tokenizer = tokenizers[kind]
        (inside,) = encode([Rendered("Assistant: four</s>", ((10, 19),), "t:1")], tokenizer)
        (across,) = encode([Rendered("Assistant: four</s>", ((11, 19),), "t:1")], tokenizer)
        assert tokenizer.decode([label for label in inside.labels if label != IGNORED]) == " four</s>"
        assert tokenizer.decode([label for label in across.labels if label != IGNORED]) == "</s>"
        assert (inside.straddling, across.straddling) == (0, 1)


def test_order_is_kept_over_batches(tokenizer: PreTrainedTokenizerFast) -> None:
    rendered = [Rendered(f"{n} </s>", ((0, 2),), str(n)) for n in range(ROWS + 2)]
    examples = list(encode(rendered, tokenizer))
    assert [example.source for example in examples] == [one.source for one in rendered]
    assert tokenizer.decode(examples[-1].input_ids) == f"{ROWS + 1} </s>"
    assert list(encode([], tokenizer)) == []


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="Slow"):
        list(encode([], Slow()))


def test_tally() -> None:
    tokenizer = words("?", "q", ">a", "b", special=(END,))
    examples = encode(
        [Rendered("q|>a|b</s>", ((3, 10),), "t:1"), Rendered("q|b</s>|b</s>", ((2, 13),), "t:2")], tokenizer
    )
    assert tally(ExampleTable.of(examples)) == Tally(rows=2, tokens=9, supervised=5, straddling=1, stray_ends=1)


def walked(rendered: Rendered, tokenizer: PreTrainedTokenizerFast) -> Example:
    """The rule in its plainest form: past every token and its offsets, as transformers gives them."""
    encoded = tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    labels, straddling, strays, at = [IGNORED] * len(ids), 0, [], 0

    def hides_a_blank(at: int, span_start: int) -> bool:
        before = offsets[at - 1][1] if at else 0
        is_blank = tokenizer.convert_ids_to_tokens(ids[at]).startswith("Ġ")
        return before < span_start <= offsets[at][0] and is_blank

    ends_across = 0
    for start, end in rendered.spans:
        while at < len(ids) and (offsets[at][0] < start or hides_a_blank(at, start)):
            straddling += offsets[at][1] > start
            at += 1
        first, ends_across = at, 0
        while at < len(ids) and offsets[at][0] < end:
            if offsets[at][1] <= end or ids[at] in special:
                labels[at] = ids[at]
            else:
                ends_across += 1
            at += 1
        straddling += ends_across
        for earlier in range(first, at - 1):
            if ids[earlier] == ids[at - 1] and ids[earlier] in special:
                labels[earlier] = IGNORED
                strays.append(earlier)
    if rendered.taught_from is not None and rendered.spans:
        taught = [place for place in range(at - ends_across) if offsets[place][0] >= rendered.taught_from]
        for place in taught:
            labels[place] = IGNORED if place in strays else ids[place]
        straddling = ends_across
    if ids:
        labels[0] = IGNORED
    return Example(ids, labels, rendered.source, straddling=straddling, stray_ends=len(strays))


PIECES = [
    "four",
    " four",
    "\n",
    "  ",
    "é",
    "漢",
    "👍",
    "👩‍🚀",
    "▁",
    "Ġ",
    "</s>",
    "<|im_end|>",
    "<|end|>",
    "a",
    ".",
    "\t",
    "́",
]


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12), data=st.data())
def test_any_span_of_any_text_as_a_walk_past_every_token_has_it(tokenizers: dict, pieces: list, data) -> None:
    text = "".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = tuple(zip(cuts[::2], cuts[1::2], strict=False))
    taught_from = data.draw(st.sampled_from([None, 0, *([spans[0][0]] if spans else [])]))
    for kind, tokenizer in tokenizers.items():
        rendered = Rendered(text, spans, "t:1", taught_from=taught_from)
        untrimmed = tokenizers["bytes"] if kind == "trimmed" else tokenizer  # the same tokens where they really lie
        assert list(encode([rendered], tokenizer)) == [walked(rendered, untrimmed)]


def test_texts_are_taken_as_they_are_needed(tokenizer: PreTrainedTokenizerFast) -> None:
    taken = []

    def texts() -> Iterator[Rendered]:
        for number in range(ROWS * (AHEAD + 3)):
            taken.append(number)
            yield Rendered("a </s>", ((0, 6),), str(number))

    assert next(encode(texts(), tokenizer)).source == "0"
    assert len(taken) == ROWS * (AHEAD + 1)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@settings(max_examples=40, deadline=None)
@given(conversation=conversations())
def test_properties(tokenizers: dict, name: str, conversation: Conversation) -> None:
    rendered = render_conversation(conversation, shipped(name))
    said = "".join(rendered.text[start:end] for start, end in rendered.spans)
    for kind, tokenizer in tokenizers.items():
        (example,) = encode([rendered], tokenizer)
        assert example == walked(rendered, tokenizer)
        assert example.input_ids == tokenizer(rendered.text, add_special_tokens=False)["input_ids"]
        assert all(label in (IGNORED, token) for label, token in zip(example.labels, example.input_ids, strict=True))
        trained = [label for label in example.labels if label != IGNORED]
        assert trained.count(tokenizer.convert_tokens_to_ids(FAMILIES[name].end)) == len(rendered.spans)
        if kind != "pieces" and example.straddling == example.stray_ends == 0:
            assert tokenizer.decode(trained) == said


@settings(max_examples=60, deadline=None)
@given(conversation=conversations(markers=False))
def test_the_prompt_is_tokenized_in_training_as_it_is_alone(tokenizers: dict, conversation: Conversation) -> None:
    messages = conversation.to_dicts()
    for name in ("phi4", "mistral", "deepseek"):  # their prompts end in a special token: nothing can merge across
        (example,) = encode([render_conversation(conversation, shipped(name))], tokenizers["bytes"])
        prompt = render_prompt(messages[:-1], shipped(name))
        alone = tokenizers["bytes"](prompt, add_special_tokens=False)["input_ids"]
        assert example.input_ids[: len(alone)] == alone
        assert all(label != IGNORED for label in example.labels[len(alone) :])
        assert example.straddling == 0


def test_a_real_model() -> None:
    folder = Path("/tmp/w/smol")
    if not folder.exists():
        pytest.skip("no SmolLM2 on this machine")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = choose_template("auto", *read_model_template(folder))
    conversation = Conversation((Message("user", "2+2? 👍"), Message("assistant", "It is 4. 漢字")), "t:1")
    (example,) = encode([render_conversation(conversation, template)], tokenizer)
    assert tokenizer.decode([label for label in example.labels if label != IGNORED]) == "It is 4. 漢字<|im_end|>"
    assert example.labels[-1] == IGNORED  # the newline behind <|im_end|>
