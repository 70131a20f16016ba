"""What is shown as trained is what the labels train."""

from __future__ import annotations

from sftlib.tokens.examples import IGNORED, Example
from sftlib.tokens.length import LengthPolicy, LengthReport, apply_length_policy
from sftlib.tokens.showing import pieces, show_lengths
from sftlib.tokens.table import ExampleTable


def test_pieces_follow_the_labels():
    example = Example([1, 7, 9, 12, 2, 5, 3], [IGNORED, IGNORED, IGNORED, 12, 2, IGNORED, 3], "raw.jsonl:1")
    assert pieces(example) == [([1, 7, 9], False), ([12, 2], True), ([5], False), ([3], True)]


def test_lengths_are_one_line_a_split_and_losses_are_warnings(capsys):
    long = Example([1] * 9, [IGNORED] + [1] * 8, "raw.jsonl:7")
    short = Example([1, 2], [IGNORED, 2], "raw.jsonl:8")
    show_lengths({"train": apply_length_policy(ExampleTable.of([long, short]), LengthPolicy(4))[1]})
    shown = capsys.readouterr().err.splitlines()
    assert "train │    2 │       1 │       9 │     11 │    9 │ 9 (81.8 %) │    8" in shown
    assert "warning: train: 1 of 2 rows is longer than 4 tokens (model.max_seq_len) and dropped: raw.jsonl:7." in shown


def test_examples_stand_beside_the_rows_where_rows_are_split(capsys):
    limits = LengthPolicy(8, "split")
    whole = LengthReport(limits, rows=2, examples=2, tokens=9, supervised_tokens=3, longest=5)
    split = LengthReport(
        limits, rows=2, examples=4, rows_split=1, chunks=3, repeated=6, tokens=29, supervised_tokens=20, longest=24,
        sources={"split": ["raw.jsonl:7"]},
    )  # fmt: skip
    show_lengths({"train": split, "val": whole})
    shown = capsys.readouterr().err.splitlines()
    assert "train │    2 │       2 │        4 │      24 │     29 │    0 │ 20 (69.0 %) │    0" in shown
    assert "val   │    2 │       2 │        2 │       5 │      9 │    0 │ 3 (33.3 %)  │    0" in shown
    assert (
        "warning: train: 1 of 2 rows is longer than 8 tokens (model.max_seq_len) and split into 3 examples (6 tokens "
        "of prompts and context are repeated): raw.jsonl:7." in shown
    )
