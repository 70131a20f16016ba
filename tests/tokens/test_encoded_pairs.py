"""The encoder's part and the decoder's part, by hand, and what truncation does to each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_t5 import make_t5

from sftlib import console
from sftlib.chat.rendering import Rendered
from sftlib.chat.stored import RenderedPair
from sftlib.tokens.cache import CacheKey, cached_examples
from sftlib.tokens.collate import collate
from sftlib.tokens.columns import in_columns
from sftlib.tokens.examples import Example
from sftlib.tokens.length import LengthPolicy
from sftlib.tokens.pairs import apply_pair_length_policy, encode_pairs
from sftlib.tokens.remarks import Remarks
from sftlib.tokens.table import ExampleTable

START, EOS = 0, 1


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def tokenizer(t5: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(t5)


def pair(given: str, answer: str) -> Rendered:
    return Rendered(given + answer, ((len(given), len(given + answer)),), "a:1")


def test_both_parts_are_what_the_tokenizer_gives_for_each_alone(tokenizer) -> None:
    [example] = encode_pairs([pair("What is 1 and 2?</s>", "Step 1: add them.</s>")], tokenizer, START)
    given, answer = (tokenizer(text)["input_ids"] for text in ("What is 1 and 2?", "Step 1: add them."))
    assert given[-1] == answer[-1] == EOS  # the tokenizer's own, where the template wrote it
    assert example.decoder_at == len(given)
    assert example.input_ids == [*given, START, *answer]
    assert example.labels == [-100] * (len(given) + 1) + answer
    assert example.input_ids.count(EOS) == 2


def test_only_the_last_answer_of_a_text_is_trained(tokenizer) -> None:
    text = "What</s>1</s>and</s>2</s>"
    rendered = Rendered(text, ((8, 13), (20, 25)), "a:1")
    [example] = encode_pairs([rendered], tokenizer, START)
    assert tokenizer.decode(example.input_ids[: example.decoder_at]) == "What</s> 1</s> and</s>"
    assert [label for label in example.labels if label != -100] == tokenizer("2")["input_ids"]


def test_a_batch_pads_both_parts_and_the_decoder_reads_what_t5_itself_would_shift(t5: Path, tokenizer) -> None:
    from transformers import AutoModelForSeq2SeqLM

    texts = [("What is 1?</s>", "1.</s>"), ("What</s>", "Step 1: add them. Answer: 1.</s>")]
    examples = list(encode_pairs([pair(*text) for text in texts], tokenizer, START))
    batch = collate(examples, 0)
    assert batch["input_ids"].shape[1] == max(len(tokenizer(given[:-4])["input_ids"]) for given, _ in texts)
    assert batch["attention_mask"].sum() == sum(example.decoder_at for example in examples)
    longest = len(tokenizer(texts[1][1][:-4])["input_ids"]) + 1
    assert batch["labels"].shape == batch["decoder_input_ids"].shape == (2, longest)
    assert (batch["labels"][:, 0] == -100).all()
    model = AutoModelForSeq2SeqLM.from_pretrained(t5)
    theirs = model.prepare_decoder_input_ids_from_labels(batch["labels"][:, 1:])
    seen = batch["labels"][:, 1:] != -100  # behind the answer nothing counts
    assert torch.equal(batch["decoder_input_ids"][:, :-1][seen], theirs[seen])
    assert batch["decoder_attention_mask"].sum() == sum(
        len(example.input_ids) - example.decoder_at for example in examples
    )


def example(given: int, answer: int, source: str) -> Example:
    """Ids 10, 11, ... and EOS for the input, START, then 50, 51, ... and EOS."""
    ids = [*range(10, 9 + given), EOS, START, *range(50, 49 + answer), EOS]
    return Example(ids, [-100] * (given + 1) + ids[given + 1 :], source, decoder_at=given)


ROWS = [example(4, 3, "a:1"), example(9, 3, "a:2"), example(4, 8, "a:3"), example(9, 8, "a:4")]


def test_drop_leaves_out_what_is_too_long_on_either_side() -> None:
    kept, report = apply_pair_length_policy(ExampleTable.of(ROWS), LengthPolicy(6, "drop", max_target_len=5))
    assert [one.source for one in kept] == ["a:1"]
    assert (report.rows, report.rows_kept, report.rows_dropped, report.rows_cut) == (4, 1, 3, 0)
    assert (report.tokens_lost, report.supervised_tokens_lost) == (13 + 13 + 18, 3 + 8 + 8)
    assert report.losses() == [
        "2 of 4 rows are with an input longer than 6 tokens (model.max_seq_len), and dropped: a:2, a:4.",
        "2 of 4 rows are with an answer longer than 5 tokens (model.max_target_len), and dropped: a:3, a:4.",
    ]
    assert report.longest_shown == "9 + 8"


def test_end_keeps_the_end_of_an_input_and_teaches_no_end_to_a_cut_answer() -> None:
    kept, report = apply_pair_length_policy(ExampleTable.of(ROWS), LengthPolicy(6, "truncate", max_target_len=5))
    assert [one.source for one in kept] == ["a:1", "a:2", "a:3", "a:4"]
    assert kept[0] == ROWS[0]
    cut = kept[3]
    assert cut.input_ids == [10, 11, 12, 13, 14, EOS, START, 50, 51, 52, 53, 54]
    assert cut.labels == [-100] * 7 + [50, 51, 52, 53, 54]
    assert (cut.decoder_at, [one.is_complete for one in kept]) == (6, [True, True, False, False])
    assert (report.rows_cut, report.rows_dropped) == (3, 0)
    assert (report.tokens_lost, report.supervised_tokens_lost) == (3 + 3 + 6, 6)
    assert kept.lengths.tolist() == [len(one.input_ids) for one in kept] == [8, 10, 10, 12]
    assert kept.supervised.tolist() == [one.supervised for one in kept]


def test_start_cuts_the_beginning_of_an_input_and_the_end_of_an_answer() -> None:
    limits = LengthPolicy(6, "truncate", "start", max_target_len=5)
    kept, report = apply_pair_length_policy(ExampleTable.of(ROWS), limits)
    assert kept[1].input_ids == [13, 14, 15, 16, 17, EOS, START, 50, 51, EOS]
    assert kept[3].input_ids == [13, 14, 15, 16, 17, EOS, START, 50, 51, 52, 53, 54]
    assert kept.lengths.tolist() == [len(one.input_ids) for one in kept]
    assert report.losses() == [
        "2 of 4 rows are with an input longer than 6 tokens (model.max_seq_len), and cut at the start: a:2, a:4.",
        "2 of 4 rows are with an answer longer than 5 tokens (model.max_target_len), and cut at the end: a:3, a:4.",
    ]


def test_an_answer_without_a_token_is_counted() -> None:
    empty = Example([10, EOS, START], [-100] * 3, "a:5", decoder_at=2)
    kept, report = apply_pair_length_policy(
        ExampleTable.of([empty, ROWS[0]]), LengthPolicy(6, "drop", max_target_len=5)
    )
    assert (len(kept), report.rows_without_supervision) == (1, 1)


def test_what_a_t5_cannot_spell_is_said(tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    texts = ['{"a": 1}</s>', "1.\n2.</s>", "3.</s>"]  # braces are not in T5's vocabulary
    rows = [RenderedPair("What</s>", text, f"a:{row}") for row, text in enumerate(texts)]
    pairs = [pair(row.input, row.target) for row in rows]
    remarks = Remarks()
    assert list(remarks.watch_answers(rows, tokenizer)) == rows
    examples = [
        replace(one, source=row.source) for one, row in zip(encode_pairs(pairs, tokenizer, START), rows, strict=True)
    ]
    assert list(remarks.watch_examples(examples, tokenizer.unk_token_id)) == examples
    remarks.say("train")
    assert said == [
        "1 answers of the train split hold characters that this tokenizer does not know, learnt as <unk>, such as a:0.",
        "1 answers of the train split hold line breaks, which this tokenizer turns into blanks, such as a:1.",
    ]


def test_the_cache_gives_the_two_parts_back(tmp_path: Path) -> None:
    key = CacheKey("rows", "template", "tokenizer", "-")
    cached_examples(tmp_path, key, lambda remarks: in_columns(ROWS))
    assert list(cached_examples(tmp_path, key, lambda remarks: pytest.fail("made again"))) == ROWS
