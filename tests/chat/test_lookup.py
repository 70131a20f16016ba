"""A row found by what a person calls it: that one, or an error that says which there are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftlib.chat.lookup import LEFT_OUT, Place, equal_rows, find_rows, raw_row
from sftlib.chat.rows import RawRow, Rejected
from sftlib.errors import DataError, UsageError


def stored(source: str | None, user: str = "2+2?") -> dict:
    row = {"system": "", "user": user, "assistant": "4"}
    return row if source is None else row | {"source": source}


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {
        "train": write(tmp_path / "train.jsonl", [stored(f"data/raw/faq.jsonl:{n}") for n in (1, 2, 3, 17)]),
        "val": write(tmp_path / "val.jsonl", [stored("data/raw/faq.jsonl:4"), stored("data/more/faq.jsonl:17")]),
        LEFT_OUT: write(
            tmp_path / "rejected.jsonl",
            [
                {"source": "data/raw/faq.jsonl:9", "reason": "empty answer", "detail": "", "seen": "{}"},
                {"source": "data/raw/sums.csv:1", "reason": "duplicate", "detail": "equal to data/raw/faq.jsonl:3"},
            ],
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("called", "split", "line"),
    [
        ("data/raw/faq.jsonl:3", "train", 3),
        ("raw/faq.jsonl:17", "train", 4),
        ("more/faq.jsonl:17", "val", 2),
        ("faq.jsonl:4", "val", 1),
        ("faq.jsonl:4#2", "val", 1),  # a chunk of it
        ("4", "val", 1),
        ("faq.jsonl:9", LEFT_OUT, 1),
        (" faq.jsonl:2\n", "train", 2),
    ],
)
def test_a_row_is_called_by_its_source_or_the_end_of_it(files, called, split, line) -> None:
    [place] = find_rows(files, called)
    assert (place.split, place.where) == (split, f"{files[split].as_posix()}:{line}")


def test_what_may_be_two_rows_is_no_row(files) -> None:
    with pytest.raises(UsageError, match="2 rows are called") as caught:
        find_rows(files, "faq.jsonl:17")
    assert caught.value.expected == "one of data/raw/faq.jsonl:17, data/more/faq.jsonl:17"


def test_a_row_that_nobody_knows(files) -> None:
    with pytest.raises(DataError, match="No row is called fag") as caught:
        find_rows(files, "fag.jsonl:5")
    assert (
        "data/raw/faq.jsonl (6 rows), data/more/faq.jsonl (1 rows), data/raw/sums.csv (1 rows)" in caught.value.expected
    )
    assert "faq.jsonl:17" in caught.value.cure
    with pytest.raises(DataError) as caught:
        find_rows({"train": files["train"]}, "faq.jsonl:5")
    nearest = ", ".join(f"data/raw/faq.jsonl:{n}" for n in (3, 2, 1, 17))
    assert caught.value.cure == f"The nearest: {nearest}."
    with pytest.raises(DataError) as caught:
        find_rows({}, "faq.jsonl:5")
    assert caught.value.expected == "a row of a split: none is there yet"


def test_the_end_of_a_name_begins_where_a_name_does(files) -> None:
    with pytest.raises(DataError):
        find_rows(files, "aq.jsonl:3")


def test_rows_without_a_source_are_called_by_their_line(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [stored(None, "a"), stored(None, "b")])
    [place] = find_rows({"train": path}, "mine.jsonl:2")
    assert (place.source, place.where, place.row["user"]) == (place.where, f"{path.as_posix()}:2", "b")


def test_every_pair_of_a_rendered_row_is_found(tmp_path: Path) -> None:
    pairs = [{"input": f"[{n}]", "target": "x</s>", "source": "raw.jsonl:1"} for n in range(3)]
    found = find_rows({"train": write(tmp_path / "train.jsonl", pairs)}, "raw.jsonl:1")
    assert [place.row["input"] for place in found] == ["[0]", "[1]", "[2]"]


def test_rows_equal_to_one(files) -> None:
    assert equal_rows(files[LEFT_OUT], "data/raw/faq.jsonl:3") == ["data/raw/sums.csv:1"]
    assert equal_rows(files[LEFT_OUT], "data/raw/faq.jsonl:30") == []
    assert equal_rows(files[LEFT_OUT].with_name("none"), "data/raw/faq.jsonl:3") == []


def test_the_raw_row_as_process_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "faq.jsonl"
    path.write_text('{"question": "a", "answer": "1"}\n\n{"question": "b"\n{"question": "c", "answer": "1.10"}\n')
    assert raw_row(f"{path.as_posix()}:4", "auto") == RawRow(
        {"question": "c", "answer": "1.10"}, f"{path.as_posix()}:4"
    )
    broken = raw_row(f"{path.as_posix()}:3", "auto")
    assert isinstance(broken, Rejected)
    assert broken.reason == "broken JSON"
    assert raw_row(f"{path.as_posix()}:2", "auto") is None
    assert raw_row("hf:org/name:train:7", "auto") is None


@settings(max_examples=40, deadline=None)
@given(name=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12), line=st.integers(1, 30))
def test_any_source_finds_its_own_row(tmp_path_factory, name, line) -> None:
    folder = tmp_path_factory.mktemp("rows")
    sources = [f"data/{name}:{n}" for n in range(1, 31)]
    path = write(folder / "train.jsonl", [stored(source, source) for source in sources])
    source = f"data/{name}:{line}"
    [place] = find_rows({"train": path}, source)
    assert place == Place(source, "train", f"{path.as_posix()}:{line}", stored(source, source))
