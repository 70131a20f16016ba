"""Rows made shorter with their template: by hand, and what holds of any conversation and template."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import pyarrow as pa
import pytest
from families import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import contents
from transformers import PreTrainedTokenizerFast

from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.provenance import row_of
from sftlib.chat.rendering import render_conversation
from sftlib.chat.stored import RenderedPair
from sftlib.tokens.columns import ROWS
from sftlib.tokens.ends import rows_without_end
from sftlib.tokens.examples import IGNORED, Example
from sftlib.tokens.length import LengthPolicy, LengthReport, whole_lengths
from sftlib.tokens.making import Maker, within_lengths
from sftlib.tokens.remarks import Remarks
from sftlib.tokens.table import ExampleTable, write_table

CHATML = FAMILIES["chatml"].template("chatml")
LONG = "One is one. Two is two. Three is three. Four is four. Five is five. Six is six. Seven is seven."


def table_of(maker: Maker, rows: Iterable[Conversation | RenderedPair]) -> ExampleTable:
    sink, remarks = pa.BufferOutputStream(), Remarks()
    write_table(sink, maker.columns(rows, remarks, "train"), remarks)
    return ExampleTable(pa.ipc.open_file(sink.getvalue()))


def made(maker: Maker, *rows: Conversation | RenderedPair) -> tuple[list[Example], LengthReport]:
    examples, report = within_lengths(table_of(maker, rows), maker.limits)
    return list(examples), report


def talk(*answers: str, system: str = "be brief", source: str = "a:1", learnt: Iterable[bool] = ()) -> Conversation:
    """Questions q0, q1, ... and these answers."""
    flags = [*learnt, *[True] * len(answers)]
    turns = [
        message
        for number, answer in enumerate(answers)
        for message in (Message("user", f"q{number}"), Message("assistant", answer, is_trained=flags[number]))
    ]
    return Conversation((Message("system", system), *turns), source)


class Reader:
    """What examples say, as text."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer

    def texts(self, examples: Iterable[Example]) -> list[str]:
        return [self.tokenizer.decode(one.input_ids) for one in examples]

    def learnt(self, examples: Iterable[Example]) -> list[str]:
        return [self.tokenizer.decode([label for label in one.labels if label != IGNORED]) for one in examples]


@pytest.fixture
def reader(tokenizer: PreTrainedTokenizerFast) -> Reader:
    return Reader(tokenizer)


def tokens(tokenizer: PreTrainedTokenizerFast, conversation: Conversation) -> int:
    return len(tokenizer(render_conversation(conversation, CHATML).text)["input_ids"])


def test_oldest_turns_go_and_the_system_message_stays(tokenizer: PreTrainedTokenizerFast, reader: Reader) -> None:
    whole, kept = (
        talk("a", "b", "c", "d"),
        render_conversation(
            Conversation((talk("a", "b", "c", "d").messages[0], *talk("a", "b", "c", "d").messages[5:]), "a:1"), CHATML
        ),
    )
    longest = len(tokenizer(kept.text)["input_ids"])
    for room in (0, 3):  # less than another turn
        maker = Maker(CHATML, tokenizer, LengthPolicy(longest + room, "truncate_turns"))
        examples, report = made(maker, whole)
        assert reader.texts(examples) == [kept.text]
        assert reader.learnt(examples) == ["c<|im_end|>d<|im_end|>"]
        assert (examples[0].source, examples[0].is_complete) == ("a:1", True)
    assert report.losses() == [
        f"1 of 1 rows is longer than {longest + 3} tokens (model.max_seq_len) and trained without 2 oldest turns, the "
        "system message kept: a:1."
    ]
    size = tokens(tokenizer, whole)
    assert (report.tokens, report.longest, report.tokens_lost) == (size, size, size - longest)
    assert (report.supervised_tokens, report.supervised_tokens_lost) == (8, 4)
    assert (report.rows, report.rows_kept, report.examples, report.turns_lost) == (1, 1, 1, 2)


def test_a_last_turn_that_does_not_fit_drops_the_row(tokenizer: PreTrainedTokenizerFast) -> None:
    maker = Maker(CHATML, tokenizer, LengthPolicy(40, "truncate_turns"))
    examples, report = made(maker, talk("a", LONG), talk("a", source="a:2"))
    assert [one.source for one in examples] == ["a:2"]
    assert (report.rows, report.rows_kept, report.rows_dropped) == (2, 1, 1)
    assert report.losses() == [
        "1 of 2 rows is dropped, as the last turn alone is longer than 40 tokens (model.max_seq_len): a:1."
    ]
    assert report.tokens - report.tokens_lost == len(examples[0].input_ids)


def test_split_at_turns(tokenizer: PreTrainedTokenizerFast, reader: Reader) -> None:
    one, two = tokens(tokenizer, talk("a")), tokens(tokenizer, talk("a", "b"))
    maker = Maker(CHATML, tokenizer, LengthPolicy(two, "split"))
    examples, report = made(maker, talk("a", "b", "c", "d", "e"), talk("f", source="a:2"))
    assert reader.learnt(examples) == ["a<|im_end|>", "b<|im_end|>c<|im_end|>", "d<|im_end|>e<|im_end|>", "f<|im_end|>"]
    assert [one.source for one in examples] == ["a:1#1", "a:1#2", "a:1#3", "a:2"]
    assert all(example.is_complete for example in examples)
    system = "<s><|im_start|>system\nbe brief<|im_end|>\n"
    assert all(text.startswith(system + "<|im_start|>user\nq") for text in reader.texts(examples))
    assert [len(example.input_ids) for example in examples] == [one, two, two, one]
    assert (report.rows, report.rows_kept, report.examples, report.rows_split, report.chunks) == (2, 2, 4, 1, 3)
    assert (report.tokens_lost, report.supervised_tokens_lost) == (0, 0)
    head = one - (two - one)
    assert report.repeated == 2 * head
    assert report.losses() == [
        f"1 of 2 rows is longer than {two} tokens (model.max_seq_len) and split into 3 examples ({2 * head} tokens of "
        "prompts and context are repeated): a:1."
    ]


def test_a_turn_too_long_by_itself_is_cut_in_its_answer(tokenizer: PreTrainedTokenizerFast, reader: Reader) -> None:
    maker = Maker(CHATML, tokenizer, LengthPolicy(56, "split"))
    examples, report = made(maker, talk("a", LONG, "c"))
    learnt = reader.learnt(examples)
    assert (learnt[0], learnt[-1]) == ("a<|im_end|>", "c<|im_end|>")
    assert "".join(learnt[1:-1]) == LONG + "<|im_end|>"
    assert [one.is_complete for one in examples] == [True, *[False] * (len(examples) - 3), True, True]
    assert [one.source for one in examples] == [f"a:1#{number + 1}" for number in range(len(examples))]
    assert all("user\nq1<|im_end|>" in text for text in reader.texts(examples[1:-1]))
    assert report.chunks == len(examples) > 4


def test_a_prompt_too_long_drops_the_row(tokenizer: PreTrainedTokenizerFast) -> None:
    maker = Maker(CHATML, tokenizer, LengthPolicy(40, "split"))
    examples, report = made(maker, talk("a", LONG, system=LONG), talk("a", source="a:2"))
    assert [one.source for one in examples] == ["a:2"]
    assert report.losses() == [
        "1 of 2 rows is dropped, as the prompt leaves less than 16 of 40 tokens (model.max_seq_len) for the answer: "
        "a:1."
    ]


def test_rendered_pairs_are_one_turn(tokenizer: PreTrainedTokenizerFast, reader: Reader) -> None:
    pair = RenderedPair("<s>q:", f"{LONG}</s>", "r:1")
    examples, _ = made(Maker(CHATML, tokenizer, LengthPolicy(40, "split")), pair)
    assert "".join(reader.learnt(examples)) == pair.target
    assert made(Maker(CHATML, tokenizer, LengthPolicy(40, "truncate_turns")), pair)[1].rows_dropped == 1


def test_what_is_learnt_of_a_split_row(tokenizer: PreTrainedTokenizerFast, reader: Reader) -> None:
    limits = LengthPolicy(tokens(tokenizer, talk("a", "b")), "split")
    row = talk("a", "b", "c", "d", "e", learnt=[False, True, False, False, True])
    assert reader.learnt(made(Maker(CHATML, tokenizer, limits, "flagged"), row)[0]) == ["b<|im_end|>", "e<|im_end|>"]
    examples, report = made(Maker(CHATML, tokenizer, limits, "last"), row)
    assert reader.learnt(examples) == ["e<|im_end|>"]
    assert "q3" in reader.texts(examples)[0]  # as much before it as there is room for
    assert (report.supervised_tokens, report.supervised_tokens_lost) == (2, 0)
    nothing = talk("a", "b", "c", learnt=[False] * 3)
    examples, report = made(Maker(CHATML, tokenizer, limits, "flagged"), nothing, talk("f"))
    assert (len(examples), report.rows, report.rows_without_supervision) == (1, 2, 1)
    assert report.sources["unsupervised"] == ["a:1"]


def test_prompts_are_learnt_once(tokenizer: PreTrainedTokenizerFast, reader: Reader) -> None:
    two = tokens(tokenizer, talk("a", "b"))
    examples, report = made(Maker(CHATML, tokenizer, LengthPolicy(two, "split"), "all"), talk("a", "b", "c"))
    assert reader.learnt(examples) == [
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nq0<|im_end|>\n<|im_start|>assistant\na<|im_end|>",
        "q1<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\nc"
        "<|im_end|>",
    ]
    opening = len(tokenizer("\n<|im_start|>user\n")["input_ids"])  # of the turn that a chunk begins with
    assert report.supervised_tokens_lost == opening


def test_rows_that_fit_are_those_of_the_other_policies_and_order_is_kept(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [talk(LONG if number % 700 == 5 else "a", source=f"a:{number + 1}") for number in range(2 * ROWS + 7)]
    plain = table_of(Maker(CHATML, tokenizer, LengthPolicy(60)), rows)
    split = table_of(Maker(CHATML, tokenizer, LengthPolicy(60, "split")), rows)
    assert [source for source, _ in groupby(row_of(one.source) for one in split)] == [one.source for one in plain]
    assert [one for one in split if "#" not in one.source] == [one for one in plain if len(one.input_ids) <= 60]
    assert sorted(whole_lengths(split)) == sorted(whole_lengths(plain)) == sorted(plain.lengths.tolist())
    assert split.source(ROWS + 3) == split[ROWS + 3].source
    turned = table_of(Maker(CHATML, tokenizer, LengthPolicy(60, "truncate_turns")), rows)
    assert list(turned) == [one for one in plain if len(one.input_ids) <= 60]


FLAGS = st.lists(st.booleans(), min_size=4, max_size=4)
ANSWERS = st.one_of(contents(), st.lists(contents(), min_size=4, max_size=12).map(". ".join))


@st.composite
def long_talks(draw: st.DrawFn) -> Conversation:
    """One to four turns, some with long answers, some with a tool; contents never white space alone."""
    head = (Message("system", draw(contents())),) if draw(st.booleans()) else ()
    messages: list[Message] = []
    for number in range(draw(st.integers(1, 4))):
        answer = Message("assistant", f"{draw(ANSWERS)}.", is_trained=draw(st.booleans()))
        messages += [Message("user", f"{number}{draw(contents())}"), answer]
    return Conversation((*head, *messages), "raw.jsonl:7")


@settings(max_examples=120, deadline=None)
@given(
    conversation=long_talks(),
    name=st.sampled_from(["chatml", "llama3", "mistral", "gemma3"]),
    kind=st.sampled_from(["bytes", "pieces"]),
    policy=st.sampled_from(["split", "truncate_turns"]),
    loss_on=st.sampled_from(["assistant", "last", "flagged", "all"]),
    longest=st.integers(40, 160),
)
def test_properties(
    tokenizers: dict, conversation: Conversation, name: str, kind: str, policy: str, loss_on: str, longest: int
) -> None:
    tokenizer, template = tokenizers[kind], FAMILIES[name].template(name)
    end = tokenizer.convert_tokens_to_ids(FAMILIES[name].end)
    (whole,) = table_of(Maker(template, tokenizer, LengthPolicy(10**6), loss_on), [conversation])
    table = table_of(Maker(template, tokenizer, LengthPolicy(longest, policy), loss_on), [conversation])
    examples, report = within_lengths(table, LengthPolicy(longest, policy))
    found = list(examples)

    assert all(len(one.input_ids) <= longest for one in found)
    assert all(row_of(one.source) == "raw.jsonl:7" for one in found)
    assert rows_without_end(found, [end]) == []
    labels = [[label for label in one.labels if label != IGNORED] for one in found]
    assert all(one.labels[0] == IGNORED and some for one, some in zip(found, labels, strict=True))
    for one, some in zip(found, labels, strict=True):
        assert one.is_complete == (some[-1] == end)
    assert (report.rows, report.tokens, report.longest) == (1, len(whole.input_ids), len(whole.input_ids))
    assert report.supervised_tokens == whole.supervised
    assert report.rows_kept == bool(found)
    assert report.examples == len(found) or report.rows_without_supervision
    expected = [label for label in whole.labels if label != IGNORED]
    together = [label for some in labels for label in some]
    if not found:
        assert report.tokens_lost == len(whole.input_ids)
    elif len(whole.input_ids) <= longest:
        assert found == [whole]
    elif policy == "truncate_turns":
        assert together == expected[len(expected) - len(together) :] or loss_on == "all"
    elif loss_on != "all":
        assert together == expected  # once each, in order
    else:
        assert is_part(together, expected)

    # Never an orphan answer, the system message kept: every example begins as its own turns' rendering does.
    if found and len(whole.input_ids) > longest:
        head = [one for one in conversation.messages if one.role == "system"]
        turns = conversation.messages[len(head) :]
        opening = {
            tokenizer.decode(tokenizer(template.render(
                [one.to_dict() for one in (*head, turns[at])], add_generation_prompt=True), add_special_tokens=False
            )["input_ids"])
            for at in range(0, len(turns), 2)
        }  # fmt: skip
        if name != "mistral":  # which puts the system message into the last question
            assert all(tokenizer.decode(one.input_ids).startswith(tuple(opening)) for one in found)


def is_part(some: list[int], of: list[int]) -> bool:
    """Whether one is the other with some left out."""
    rest = iter(of)
    return all(one in rest for one in some)
