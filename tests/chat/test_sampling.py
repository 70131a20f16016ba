"""A sample of raw rows stands for all of them: evenly taken, digits kept, and what is refused stays refused."""

from __future__ import annotations

import pytest
from chat.conftest import read_rows

from sftlib.chat.rows import RawRow, Rejected
from sftlib.chat.sampling import sample_lines
from sftlib.errors import DataError


def test_rows_are_taken_evenly(raw):
    name = raw("a.jsonl", [{"q": number} for number in range(1000)])
    assert sample_lines([name], "auto", 4) == ['{"q":0}', '{"q":20}', '{"q":40}', '{"q":60}']  # of the first 80
    assert sample_lines([name], "auto", 2000) == [f'{{"q":{number}}}' for number in range(1000)]


def test_every_source_has_its_share(raw):
    names = [raw("a.csv", "q,a\n" + "x,1.10\n" * 500), raw("b.jsonl", [{"q": "y"}] * 500)]
    lines = sample_lines(names, "auto", 10)
    assert lines == ['{"q":"x","a":"1.10"}'] * 5 + ['{"q":"y"}'] * 5


def test_numbers_keep_their_digits_and_half_pairs_can_be_written(raw):
    name = raw("a.jsonl", '{"q": 1.10, "a": "\\ud800", "b": [1e400, null]}\n{"q": 2}\n')
    first, _ = sample_lines([name], "auto", 5)
    assert first == '{"q":1.10,"a":"\ufffd","b":[1e400,null]}'


def test_a_refused_row_stays_refused(raw):
    name = raw("a.jsonl", '{"q": 1}\n{"q": \n{"q": 3}\n[4]\n')
    lines = sample_lines([name], "auto", 10)
    rows = read_rows(raw("sample.jsonl", "".join(f"{line}\n" for line in lines)))
    assert [type(row) for row in rows] == [RawRow, Rejected, RawRow, Rejected]


def test_what_cannot_be_read_at_all_is_said(raw):
    with pytest.raises(DataError, match="No rows can be made out"):
        sample_lines([raw("a.txt", "hello\n")], "auto", 5)
