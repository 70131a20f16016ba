"""A file in, a file out: every row accounted for, sources kept, guards added, nothing in memory that grows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat.augmentation.endpoint_server import completion, serving
from chat.conftest import jsonl, read_rows

from sftlib.chat.augmentation.answers import AnswerStore
from sftlib.chat.augmentation.augmenting import augment_rows
from sftlib.chat.augmentation.endpoint import Endpoint
from sftlib.chat.augmentation.operations import Operations
from sftlib.chat.augmentation.rewriting import Style
from sftlib.chat.augmentation.tags import found_in
from sftlib.chat.readers import find_sources
from sftlib.chat.stored import read_split
from sftlib.errors import DataError

SHAPES = [
    {"question": "a?", "answer": "A."},
    {"instruction": "b", "input": "?", "output": "B."},
    {"conversations": [{"from": "human", "value": "c?"}, {"from": "gpt", "value": "C."}]},
    {"user": "d?", "assistant": "D.", "source": "old.csv:7", "dataset": "faq"},
    {"user": "e?", "assistant": "E.", "source": "Wikipedia", "dataset": "dumps"},
    {"question": "f?", "answer": ""},
]


def run(name, asked, out="out.jsonl", max_rejected=0.5, **options):
    """`augment_rows` on one file."""
    sources, _ = find_sources([name])
    return augment_rows(asked, Path(out), sources=sources, columns={}, max_rejected=max_rejected, **options)


def test_every_shape_comes_out_stored_with_its_source(raw):
    report = run(raw("a.jsonl", SHAPES), Operations(1, personas=["You teach."]))
    rows = jsonl("out.jsonl")
    assert [row["source"] for row in rows] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3", "old.csv:7", "a.jsonl:5"]
    assert [row.get("dataset") for row in rows] == [None, None, None, "faq", None]
    assert [row["assistant"] for row in rows] == ["A.", "B.", "C.", "D.", "E."]
    assert all(row["augmented"] == ["persona"] for row in rows)
    assert (report.read, report.kept, report.written, report.rejected) == (6, 5, 5, {"empty answer": 1})
    assert report.examples[0].startswith("a.jsonl:6: empty answer")
    assert len(read_split("out.jsonl")) == 5  # train reads it as it is
    assert all(row["augmented"] for row in (one.value for one in read_rows("out.jsonl")))


def test_rows_that_nothing_was_done_to_say_so(raw):
    run(raw("a.jsonl", [{"q": "a", "a": "b"}]), Operations(1, structure=True))
    assert jsonl("out.jsonl") == [{"system": "", "user": "a", "assistant": "b", "source": "a.jsonl:1"}]


def test_copies_and_counts_add_up(raw):
    rows = [{"q": f"{n}?", "a": "x" if n else "x</s>"} for n in range(50)]
    asked = Operations(1, {"system": 0.4}, tags="drop", systems=["S.", "T."], copies=2, guard=8)
    report = run(raw("a.jsonl", rows), asked)
    written = jsonl("out.jsonl")
    assert report.left_out == 1
    assert report.copies == 2 * report.operations["system"]["chosen"] > 0
    assert report.guards == 8
    assert report.written == len(written) == 50 - 1 + report.copies + 8
    assert not any(found_in(row["assistant"]) for row in written)


def test_guards_are_yours_and_the_tables(raw):
    rows = [{"q": f"{n}?", "a": f"{n}."} for n in range(50)]
    run(raw("a.jsonl", rows), Operations(1, guard=8), out="first.jsonl")
    styled = run("a.jsonl", Operations(1, guard=8, personas=["You teach."]), out="styled.jsonl")
    assert styled.guards == 8
    assert jsonl("styled.jsonl")[50]["system"] == "You teach."  # guards are made of what comes out
    guards = [row for row in jsonl("first.jsonl") if row.get("augmented") == ["guard"]]
    assert [row["source"].partition(":")[0] for row in guards] == ["a.jsonl"] * 6 + ["guard"] * 2
    assert len({row["source"] for row in guards}) == 8
    run(raw("b.jsonl", rows[::-1]), Operations(1, guard=8), out="second.jsonl")
    questions = [{row["user"] for row in jsonl(name)} for name in ("first.jsonl", "second.jsonl")]
    assert questions[0] == questions[1], "the order of the rows has no part in it"


def test_there_are_no_more_guards_than_rows_and_table(raw):
    report = run(raw("a.jsonl", [{"q": "a?", "a": "b"}]), Operations(1, guard=400))
    assert report.guards == 31


def test_styled_by_a_server(raw, tmp_path):
    def answer(asked):
        said = asked["messages"][1]["content"]
        return completion("", "stop") if "2?" in said else completion(said.partition("Answer:\n")[2].upper() + "!")

    name = raw("a.jsonl", [{"q": f"{n}?", "a": f"it is {n}"} for n in range(4)])
    asked = Operations(1, style=Style("m", "Shout.", 0), systems=["S.", "T."], copies=2)
    with serving(answer) as server, AnswerStore(tmp_path / "a.sqlite") as store:
        for known, sent in ((0, 4), (4, 0)):
            report = run(name, asked, store=store, endpoint=Endpoint(server.url))
            assert (report.asked.known, report.asked.sent) == (known, sent)
        asked = Operations(1, style=Style("n", "Shout.", 0))
        limited = run(name, asked, store=store, endpoint=Endpoint(server.url), limit=1)
    rows = jsonl("out.jsonl")
    assert report.operations["style"] == {"chosen": 4, "changed": 3, "empty": 1}
    assert limited.operations["style"] == {"chosen": 4, "changed": 1, "not asked for yet": 3}
    assert [row["assistant"] for row in rows] == ["IT IS 0!", "it is 1", "it is 2", "it is 3"]


def test_a_file_that_cannot_be_used(raw):
    name = raw("a.jsonl", [*SHAPES, {"x": 1}])
    with pytest.raises(DataError, match=r"(?s)2 of 7 rows cannot be used, such as a\.jsonl:6: empty answer.*20\.0 %"):
        run(name, Operations(1, personas=["P."]), max_rejected=0.2)
    assert not Path("out.jsonl").exists()
    with pytest.raises(DataError, match="no rows to augment"):
        run(raw("b.jsonl", ""), Operations(1, personas=["P."]))
    with pytest.raises(DataError, match="Not one row would be left"):
        run(raw("c.jsonl", [{"q": "a", "a": "b</s>c"}]), Operations(1, tags="drop"))
    assert not Path("out.jsonl").exists()


def test_the_same_rows_again_bit_for_bit(raw):
    asked = Operations(7, {"system": 0.5}, systems=["S.", "T."], personas=["P.", "Q."], guard=5, structure=True)
    name = raw("a.jsonl", [{"q": f"{n}?", "a": "One: a; two: b; three: c."} for n in range(30)])
    for out in ("one.jsonl", "two.jsonl"):
        run(name, asked, out=out)
    assert Path("one.jsonl").read_bytes() == Path("two.jsonl").read_bytes()
    assert json.loads(Path("one.jsonl").read_text().splitlines()[0])["source"] == "a.jsonl:1"
