"""The data sets of a split's file: told from the report of what was made, and from the lines of any other file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from chat.conftest import run_process

from sftlib.chat import sets
from sftlib.chat.sets import SetRows, set_rows, sets_of

SETS = {"faq": {"path": "faq.jsonl"}, "sums": {"path": "sums.jsonl"}}


def digest(*lines: str) -> str:
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


@pytest.fixture
def processed(raw) -> Path:
    raw("faq.jsonl", [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(20)])
    raw("sums.jsonl", [{"question": f"{i} + {i}", "answer": f"{2 * i}"} for i in range(10)])
    run_process(datasets=SETS)
    return Path("out/train.jsonl")


def test_what_was_made_is_told_without_reading_the_lines(processed, monkeypatch):
    lines = processed.read_text().splitlines()
    expected = [SetRows("faq", digest(*lines[:16]), 16), SetRows("sums", digest(*lines[16:]), 8)]
    monkeypatch.setattr(sets, "_as_read", lambda path: pytest.fail("the lines are read"))
    assert sets_of(processed) == expected


def test_an_edited_file_is_read(processed):
    made = sets_of(processed)
    edited = processed.read_text().replace("It is", "That is")
    processed.write_text(edited)
    found = sets_of(processed)
    assert found[0] == SetRows("faq", digest(*edited.splitlines()[:16]), 16) != made[0]
    assert found[1] == made[1]


@pytest.mark.parametrize("report", [None, "no json", "[]", '{"splits": {"train": 3}}'])
def test_without_a_report_the_lines_say_the_same(processed, report):
    made = sets_of(processed)
    Path("out/report.json").unlink()
    if report:
        Path("out/report.json").write_text(report)
    assert sets_of(processed) == made


def test_a_set_added_leaves_the_hashes_of_the_others(processed, raw):
    before = {name: sets_of(Path(f"out/{name}.jsonl")) for name in ("train", "val", "test")}
    raw("more.jsonl", [{"question": f"What is {i}?", "answer": f"Another {i}."} for i in range(10, 40)])
    run_process(datasets={**SETS, "more": {"path": "more.jsonl"}}, out="out2")
    for name, found in before.items():
        assert sets_of(Path(f"out2/{name}.jsonl"))[: len(found)] == found


def test_the_rows_of_one(processed):
    rows = list(set_rows(processed, sets_of(processed)[1]))
    assert {row.dataset for row in rows} == {"sums"}
    assert len(rows) == 8


def test_files_written_by_hand(tmp_path):
    path = tmp_path / "train.jsonl"
    lines = [json.dumps({"user": "a", "assistant": "b", **named}) for named in ({}, {"dataset": "x"}, {})]
    path.write_text("\n".join([lines[0], "", *lines[1:]]))
    assert sets_of(path) == [SetRows("", digest(lines[0], lines[2]), 2), SetRows("x", digest(lines[1]), 1)]
    assert [row.source for row in set_rows(path, sets_of(path)[0])] == [f"{path.as_posix()}:1", f"{path.as_posix()}:4"]
