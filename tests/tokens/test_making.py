"""The way from rows to a table: what its key names, and that the second start says what the first said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from families import FAMILIES
from tiny_t5 import make_t5
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sftlib import console
from sftlib.chat.conversation import Conversation, Message
from sftlib.chat.model_files import read_model_template
from sftlib.chat.stored import RenderedPair
from sftlib.chat.templates import choose_template
from sftlib.errors import ConfigError
from sftlib.tokens.cache import CacheKey, cached_examples
from sftlib.tokens.examples import IGNORED
from sftlib.tokens.length import LengthPolicy
from sftlib.tokens.making import Maker, within_lengths
from sftlib.tokens.remarks import Remarks
from sftlib.tokens.table import ExampleTable, write_table

CHATML = FAMILIES["chatml"].template("chatml")


def talk(*learnt: bool, source: str = "a:1") -> Conversation:
    messages = [
        message
        for number, flag in enumerate(learnt)
        for message in (Message("user", f"q{number}"), Message("assistant", f"a{number}", is_trained=flag))
    ]
    return Conversation(tuple(messages), source)


def test_the_key_names_what_the_table_depends_on(tokenizer: PreTrainedTokenizerFast) -> None:
    maker = Maker(CHATML, tokenizer, LengthPolicy(64, "split"))
    limits = [LengthPolicy(65, "split"), LengthPolicy(64, "truncate_turns"), LengthPolicy(64)]
    others = [
        *(replace(maker, limits=one) for one in limits), replace(maker, loss_on="last"),
        replace(maker, max_rejected=0.5), replace(maker, decoder_start=0),
    ]  # fmt: skip
    assert len({one.identity for one in (maker, *others)}) == len(others) + 1


def test_what_acts_behind_the_table_needs_no_new_one(tokenizer: PreTrainedTokenizerFast) -> None:
    maker = Maker(CHATML, tokenizer, LengthPolicy(64))
    for limits in (LengthPolicy(65), LengthPolicy(64, "truncate"), LengthPolicy(64, "truncate", "start", bos_id=1)):
        assert replace(maker, limits=limits).identity == maker.identity


def test_the_second_start_counts_and_says_the_same(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    maker = Maker(CHATML, tokenizer, LengthPolicy(30, "split"))
    rows = [talk(True, False, True, True), talk(True, source="a:2")]
    reports = []
    for source in (rows, pytest.fail):
        table = cached_examples(
            tmp_path,
            CacheKey("r", "t", "k", maker.identity),
            lambda remarks, rows=source: maker.columns(rows, remarks, "x"),
        )
        table.remarks.say("train")
        examples, report = within_lengths(table, maker.limits)
        reports.append((list(examples), report))
    assert reports[0] == reports[1]
    assert reports[0][1].chunks == 4
    assert said == 2 * [
        "1 rows of the train split flag answers as not to be learnt, such as a:1, and these are learnt all the same; "
        "data.loss_on: flagged heeds the flags."
    ]


def test_flags_that_are_heeded_are_no_warning(tokenizer: PreTrainedTokenizerFast) -> None:
    remarks = Remarks()
    list(Maker(CHATML, tokenizer, LengthPolicy(64), "flagged").columns([talk(True, False)], remarks, "x"))
    assert remarks.flagged.count == 0


def test_a_rendered_pair_has_no_other_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ConfigError, match="rendered pair"):
        list(
            Maker(CHATML, tokenizer, LengthPolicy(64), "last").columns(
                [RenderedPair("q", "a</s>", "a:1")], Remarks(), "x"
            )
        )


def test_an_encoder_decoder_learns_the_answers_that_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_t5(tmp_path / "t5")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = choose_template("auto", *read_model_template(folder), kind="seq2seq")
    rows = [talk(True, False, True), talk(False, source="a:2")]
    found = {}
    for loss_on in ("assistant", "last", "flagged"):
        maker = Maker(template, tokenizer, LengthPolicy(99, max_target_len=99), loss_on, decoder_start=0)
        remarks, sink = Remarks(), pa.BufferOutputStream()
        write_table(sink, maker.columns(rows, remarks, "train"), remarks)
        table = ExampleTable(pa.ipc.open_file(sink.getvalue()))
        found[loss_on] = [
            tokenizer.decode([label for label in one.labels if label != IGNORED], skip_special_tokens=True)
            for one in within_lengths(table, maker.limits)[0]
        ]
        remarks.say("train")
    assert found == {"assistant": ["a0", "a1", "a2", "a0"], "last": ["a2", "a0"], "flagged": ["a0", "a2"]}
    assert "1 rows of the train split have no answer that is learnt, and are left out: a:2." in capsys.readouterr().err
