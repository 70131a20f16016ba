"""Processing of several data sets: every row accounted for once and under its set, and each key of a set heeded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat.conftest import all_rows, jsonl, run_process
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftlib.errors import DataError
from sftlib.files import read_json

SPLITS = ("train", "val", "test")


def qa(start: int, count: int, answer: str = "It is {}.") -> list[dict]:
    return [{"question": f"What is {i}?", "answer": answer.format(i)} for i in range(start, start + count)]


def rows_of(split: str, name: str) -> list[dict]:
    return [row for row in jsonl(f"out/{split}.jsonl") if row.get("dataset") == name]


def test_every_key_of_a_set_is_heeded(raw):
    raw("faq.csv", "frage,antwort,thema\n" + "".join(f"Was ist {i}?,Das ist {i}.,x\n" for i in range(20)))
    raw("sums.jsonl", [{"system": "Be exact.", "question": f"{i} + {i}", "answer": f"{2 * i}"} for i in range(10)])
    report = run_process(
        datasets={
            "faq": {
                "path": "faq.csv", "columns": {"user": "frage", "assistant": "antwort"}, "system": ["Kurz.", "Lang."],
            },
            "sums": {"path": "sums.jsonl", "system": "Add.", "system_mode": "prepend"},
        }
    )  # fmt: skip
    assert [row.get("dataset") for row in jsonl("out/train.jsonl")] == ["faq"] * 16 + ["sums"] * 8
    assert {row["system"] for row in all_rows() if row["dataset"] == "faq"} == {"Kurz.", "Lang."}
    assert {row["system"] for row in all_rows() if row["dataset"] == "sums"} == {"Add.\n\nBe exact."}
    assert jsonl("out/train.jsonl")[-1].keys() == {"system", "user", "assistant", "source", "dataset"}
    assert {name: (one.read, one.kept) for name, one in report.sets.items()} == {"faq": (20, 20), "sums": (10, 10)}
    assert report.left_out == {"thema": 20}
    written = read_json("out/report.json")
    assert [(file["path"], file["dataset"]) for file in written["files"]] == [
        ("faq.csv", "faq"),
        ("sums.jsonl", "sums"),
    ]
    assert {name: one["rows"] for name, one in written["splits"]["val"]["sets"].items()} == {"faq": 2, "sums": 1}


def test_equal_rows_are_kept_in_the_first_set_and_equal_questions_in_one_split(raw):
    raw("a.jsonl", qa(0, 40))
    raw("b.jsonl", [*qa(0, 10), *qa(10, 10, "Another answer: {}."), *qa(100, 40)])
    report = run_process(datasets={"a": {"path": "a.jsonl"}, "b": {"path": "b.jsonl"}})
    assert (report.sets["b"].duplicates, report.sets["b"].kept, report.sets["b"].follow) == (10, 50, 10)
    asked = {row["user"]: split for split in SPLITS for row in rows_of(split, "a")}
    for split in SPLITS:
        assert all(asked.get(row["user"], split) == split for row in rows_of(split, "b"))


def test_near_duplicates_of_another_set_stay_on_its_side(raw):
    words = [f"word{i}" for i in range(400)]
    texts = [" ".join(words[start : start + 40]) for start in range(0, 400, 20)]
    raw("a.jsonl", [{"question": f"First {i}", "answer": text} for i, text in enumerate(texts)])
    raw("b.jsonl", [{"question": f"Second {i}", "answer": f"{text} indeed"} for i, text in enumerate(texts)])
    sets = {"a": {"path": "a.jsonl"}, "b": {"path": "b.jsonl"}}
    report = run_process(datasets=sets)
    assert report.sets["b"].follow == 20
    lies = {row["assistant"]: split for split in SPLITS for row in rows_of(split, "a")}
    for split in SPLITS:
        assert all(lies[row["assistant"].removesuffix(" indeed")] == split for row in rows_of(split, "b"))
    assert run_process(datasets=sets, near_duplicates=None).sets["b"].follow == 0


def test_a_row_of_two_splits_is_left_out_and_listed(raw):
    raw("a.jsonl", [{"question": f"What is {i}?", "answer": f"It is {i}.", "page": i} for i in range(30)])
    raw("b.jsonl", qa(200, 5))
    run_process(datasets={"a": {"path": "a.jsonl"}})
    asked, page = rows_of("train", "a")[0]["user"], int(rows_of("val", "a")[0]["source"].split(":")[1]) - 1
    raw("b.jsonl", [*qa(200, 5), {"question": asked, "answer": "Both.", "page": page}])
    report = run_process(datasets={"a": {"path": "a.jsonl"}, "b": {"path": "b.jsonl"}}, group_by="page")
    assert report.in_two_splits == report.sets["b"].in_two_splits == 1
    assert report.kept_rows == 35 == len(all_rows())
    (listed,) = jsonl("out/rejected.jsonl")
    assert listed["reason"] == "near duplicate of rows in two splits"
    assert listed["source"] == "b.jsonl:6"
    assert listed["detail"] == "it belongs to rows of train and val"


def test_rows_of_one_page_stay_together(raw):
    raw("a.jsonl", [{"question": f"What is {i}?", "answer": f"It is {i}.", "page": i // 5} for i in range(100)])
    report = run_process("a.jsonl", group_by="page")
    splits = {}
    for split in SPLITS:
        for row in jsonl(f"out/{split}.jsonl"):
            splits.setdefault((int(row["source"].split(":")[1]) - 1) // 5, set()).add(split)
    assert all(len(found) == 1 for found in splits.values())
    assert {name: one["rows"] for name, one in report.splits.items()} == {"train": 80, "val": 10, "test": 10}
    assert report.left_out == {}


def test_a_field_that_no_row_has(raw):
    raw("a.jsonl", [{**row, "page": 1, "author": "x"} for row in qa(0, 10)])
    with pytest.raises(DataError, match="No row has the field 'pages'") as caught:
        run_process("a.jsonl", group_by="pages")
    assert "question, answer, page, author" in caught.value.expected
    assert not Path("out/train.jsonl").exists()


def test_the_blocklist_is_heeded_counted_and_no_fault(raw, capsys):
    raw("raw/a.jsonl", [*qa(0, 20), {"question": "", "answer": "bad"}])
    raw("blocked.txt", "a.jsonl:1\nraw/a.jsonl:5#2\nraw/a.jsonl:21\nelsewhere.jsonl:7\n")
    report = run_process("raw", blocklist="blocked.txt", max_rejected=0)
    assert (report.blocked, report.kept_rows, report.rejected_rows) == (3, 18, 0)
    assert {row["source"] for row in all_rows()} == {f"raw/a.jsonl:{i}" for i in range(1, 21)} - {
        "raw/a.jsonl:1", "raw/a.jsonl:5",
    }  # fmt: skip
    assert [row["reason"] for row in jsonl("out/rejected.jsonl")] == ["on the blocklist"] * 3
    report.show()
    shown = capsys.readouterr()
    assert "No row came from elsewhere.jsonl:7" in shown.err
    assert "on the blocklist" in shown.out


def test_everything_on_the_blocklist(raw):
    raw("a.jsonl", qa(0, 2))
    raw("blocked.txt", "a.jsonl:1\na.jsonl:2\n")
    with pytest.raises(DataError, match="Of 2 rows none is left: 2 are on the blocklist"):
        run_process("a.jsonl", blocklist="blocked.txt")


def test_too_many_bad_rows_are_those_of_one_set(raw):
    raw("a.jsonl", qa(0, 1000))
    raw("b.jsonl", [{"frage": "Was?", "antwort": f"Dies: {i}."} for i in range(10)])
    with pytest.raises(DataError, match=r"10 of 10 rows of b \(100.0 %\) cannot be used") as caught:
        run_process(datasets={"a": {"path": "a.jsonl"}, "b": {"path": "b.jsonl"}})
    assert "data.datasets.b.columns" in caught.value.cure


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"a": {"path": "nowhere"}}, "data.datasets.a.path"),
        ({"a": {"path": "a.jsonl"}, "b": {"path": "empty.jsonl"}}, "data.datasets.b.path"),
    ],
)
def test_a_set_that_is_not_there(raw, sets, said):
    raw("a.jsonl", qa(0, 5))
    raw("empty.jsonl", "")
    with pytest.raises(DataError) as caught:
        run_process(datasets=sets)
    assert said in f"{caught.value.where} {caught.value.cure}"


def test_numbers_of_rows(raw):
    raw("a.jsonl", qa(0, 50))
    report = run_process("a.jsonl", split={"val": 7, "test": 5})
    assert {name: one["rows"] for name, one in report.splits.items()} == {"train": 38, "val": 7, "test": 5}
    with pytest.raises(DataError, match="nothing is left to train on"):
        run_process("a.jsonl", split={"val": 40, "test": 10})


def test_a_large_group_is_warned_about_with_what_to_do(raw, capsys):
    words = " ".join(f"word{i}" for i in range(100))
    raw("a.jsonl", [*qa(0, 30), *({"question": f"Version {i}", "answer": f"{words} {i}"} for i in range(20))])
    report = run_process("a.jsonl")
    assert report.sets[""].near_groups == 1
    report.show()
    said = " ".join(capsys.readouterr().err.split())
    assert "20 of 50 rows (40.0 %) are one group and go to one split: they are near duplicates, as a.jsonl:" in said
    assert "Raise data.near_duplicates" in said


def test_the_table_of_sets(raw, capsys):
    raw("a.jsonl", qa(0, 20))
    raw("b.jsonl", [*qa(0, 5), *qa(100, 15), {"question": "", "answer": "x"}])
    sets = {"first": {"path": "a.jsonl"}, "second": {"path": "b.jsonl"}, "third": {"path": "a.jsonl"}}
    run_process(datasets=sets).show()
    shown = capsys.readouterr()
    lines = [line.replace("│", " ").split() for line in shown.out.splitlines()]
    assert ["first", "20", "20", "0", "0", "16", "2", "2"] in lines
    assert ["second", "21", "15", "1", "5", "12", "2", "1"] in lines  # 12, 1.5, 1.5 of 15
    assert ["third", "20", "0", "0", "20", "0", "0", "0"] in lines
    assert "Of the data set third no row is left." in shown.err


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 11), min_size=1, max_size=30), st.lists(st.integers(0, 11), min_size=1, max_size=30))
def test_every_row_is_accounted_for_once(raw, first, second):
    """Rows of twelve kinds: equal, of one page, broken, blocked, in two sets."""

    def rows(kinds: list[int], name: str) -> list[dict]:
        row = {
            0: lambda i: {"question": "What is 1?", "answer": "It is 1."},
            1: lambda i: {"question": f"What is {i % 3}?", "answer": f"Or {i}."},
            2: lambda i: {"question": "", "answer": "x"},
            3: lambda i: {"question": f"{name} {i}", "answer": "x", "page": i % 2},
        }
        return [
            row.get(kind, lambda i: {"question": f"{name} {i}", "answer": f"{i}"})(i) for i, kind in enumerate(kinds)
        ]

    sets = {"a": [*rows(first, "a"), {"question": "ok", "answer": "ok", "page": 9}], "b": rows(second, "b")}
    for name, content in sets.items():
        raw(f"{name}.jsonl", content)
    raw("blocked.txt", "b.jsonl:2\n")
    try:
        report = run_process(
            datasets={name: {"path": f"{name}.jsonl"} for name in sets}, max_rejected=0.99, group_by="page",
            blocklist="blocked.txt",
        )  # fmt: skip
    except DataError:
        assert all(kind == 2 for kind in second)
        return
    places = [row["source"] for row in all_rows()] + [row["source"] for row in jsonl("out/rejected.jsonl")]
    assert sorted(places) == sorted(f"{name}.jsonl:{i + 1}" for name, rows in sets.items() for i in range(len(rows)))
    for name, one in report.sets.items():
        assert one.read == one.kept + one.rejected + one.duplicates + one.blocked + one.in_two_splits == len(sets[name])
        assert one.kept == sum(len(rows_of(split, name)) for split in SPLITS)
    json.dumps(read_json("out/report.json"), allow_nan=False)
