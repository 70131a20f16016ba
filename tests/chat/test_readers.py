"""Readers: every row comes out once, whole, under the place where it begins; what cannot be read says where and why."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
import types

import pytest
from chat.conftest import read_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftlib.chat import decoding
from sftlib.chat.jsonstream import json_rows
from sftlib.chat.readers import BROKEN_CSV, BROKEN_JSON, NOT_AN_OBJECT, WRONG_CELLS, find_sources
from sftlib.chat.rows import RawRow, Rejected
from sftlib.errors import DataError

QA = {"question": "2+2?", "answer": "4"}


def places(rows) -> list[str]:
    return [row.source for row in rows]


# JSON Lines


def test_jsonl_is_known_by_its_content_and_keeps_line_numbers(raw):
    name = raw("notes.json", '{"question": "a", "answer": "b"}\r\n\r\n   \n{"question": "c", "answer": "d"}')
    assert read_rows(name) == [
        RawRow({"question": "a", "answer": "b"}, "notes.json:1"),
        RawRow({"question": "c", "answer": "d"}, "notes.json:4"),
    ]


def test_a_broken_line_is_that_lines_business(raw):
    name = raw("a.jsonl", '{"q": 1}\n{"q": "x", "q": "y"}\n{"q": \n[1]\n5\n{"q": 2}\n{"q": 3}\n{"q": 4}\n')
    rows = read_rows(name)
    assert places(rows) == [f"a.jsonl:{line}" for line in range(1, 9)]
    assert [row.reason for row in rows if isinstance(row, Rejected)] == [
        BROKEN_JSON, BROKEN_JSON, NOT_AN_OBJECT, NOT_AN_OBJECT,
    ]  # fmt: skip
    assert "'q' stands twice" in rows[1].detail
    assert rows[3].detail == "the row is a list"


def test_nesting_that_is_too_deep_is_a_broken_row(raw):
    deep = '{"q": ' + "[" * 100_000 + "]" * 100_000 + "}"
    rows = read_rows(raw("a.jsonl", f'{{"q": 1}}\n{deep}\n{{"q": 2}}\n'))
    assert [type(row).__name__ for row in rows] == ["RawRow", "Rejected", "RawRow"]
    assert rows[1].detail == "nested too deeply"


@pytest.mark.parametrize(
    ("encoded", "asked"),
    [
        ("utf-8", "auto"), ("utf-8-sig", "auto"), ("utf-16", "auto"), ("utf-32", "auto"),
        ("utf-16-le", "utf-16-le"), ("cp1252", "cp1252"), ("latin-1", "latin-1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_encodings(raw, name, encoded, asked):
    rows = [
        {"question": "Größe?", "answer": "één — æ" if "cp" not in encoded and "latin" not in encoded else "één æ"}
    ] * 3
    if name.endswith("csv"):
        stream = io.StringIO()
        writer = csv.DictWriter(stream, ["question", "answer"])
        writer.writeheader()
        writer.writerows(rows)
        text = stream.getvalue()
    else:
        text = (
            "\r\n".join(map(json_text, rows)) if name.endswith("l") else "[" + ",\r\n".join(map(json_text, rows)) + "]"
        )
    raw(name, text.encode(encoded))
    assert [row.value for row in read_rows(name, encoding=asked)] == rows


def json_text(row) -> str:
    return json.dumps(row, ensure_ascii=False)


@pytest.mark.parametrize("bom", [b"\xff\xfe", b"\xfe\xff"])
def test_utf16_of_both_byte_orders(raw, bom):
    codec = "utf-16-le" if bom == b"\xff\xfe" else "utf-16-be"
    assert read_rows(raw("a.jsonl", bom + '{"q": "ü"}\n{"q": "2"}\n'.encode(codec)))[0].value == {"q": "ü"}


def test_a_wrong_byte_is_named_with_offset_line_and_option(raw):
    good = '{"question": "é", "answer": "b"}\n'.encode()
    name = raw("a.jsonl", good * 3 + b'{"question": "caf\xe9", "answer": "b"}\n')
    with pytest.raises(DataError) as caught:
        read_rows(name)
    assert caught.value.where == "a.jsonl:4"
    assert f"0xe9 at offset {len(good) * 3 + 17}" in caught.value.seen
    assert "data.encoding=cp1252" in caught.value.cure


def test_a_wrong_byte_far_into_the_file_has_the_right_offset_and_line(raw):
    line = ('{"question": "' + "é" * 501 + '", "answer": "b"}\n').encode()
    count = 2 * decoding.BLOCK // len(line) + 5  # past a block border that cuts an é
    name = raw("a.jsonl", line * count + b"\xff\n")
    with pytest.raises(DataError) as caught:
        read_rows(name)
    assert caught.value.where == f"a.jsonl:{count + 1}"
    assert f"offset {len(line) * count} " in caught.value.seen


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_recognised_and_named(raw, codec):
    with pytest.raises(DataError, match="UTF-16 without") as caught:
        read_rows(raw("a.jsonl", '{"q": "a"}\n'.encode(codec)))
    assert f"data.encoding={codec}" in caught.value.cure


def test_a_few_nul_bytes_line_separators_and_half_pairs_are_text(raw):
    name = raw("a.jsonl", '{"q": "a\u2028b\u0085c", "a": "x\\ud83d"}\n{"q": "n\0l", "a": "\\u0000"}\n')
    assert [row.value for row in read_rows(name)] == [
        {"q": "a\u2028b\u0085c", "a": "x\ud83d"},
        {"q": "n\0l", "a": "\0"},
    ]


def test_an_endless_line_is_refused(raw, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_ROW", 1000)
    name = raw("a.jsonl", '{"q": 1}\n{"q": 2}\n{"q": "' + "x" * 2000 + '"}\n')
    with pytest.raises(DataError, match="longer than 1,000") as caught:
        list(decoding.numbered_lines(["a\n", "x" * 700, "x" * 700], name))
    assert caught.value.where == "a.jsonl:2"


# JSON


def rows_by_blocks(text: str, size: int) -> list[tuple[int, str]]:
    return list(json_rows((text[at : at + size] for at in range(0, len(text), size)), "f"))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_json_rows_are_cut_at_the_right_place_and_line(size):
    text = (
        '{"v": 2, "meta": {"a": [{"x": 1}]},\n"Data": [{"q": "2+\\"2\\\\",\n "a": "]}"},\n\n'
        ' {"q": [1]}, 5,], "train":\n[{"k": 1}]}'
    )
    assert rows_by_blocks(text, size) == [
        (2, '{"q": "2+\\"2\\\\",\n "a": "]}"}'),
        (5, '{"q": [1]}'),
        (5, "5"),
        (6, '{"k": 1}'),
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"messages": [{"role": "user", "content": "x"}]}',
        '{"data": ["q", "a"], "id": 1}',
        '{"history": [["q", "a"]], "instruction": "x", "output": "y"}',
        '{"train": []}',
        "{}",
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_an_object_that_wraps_no_rows_is_a_row(text, size):
    assert rows_by_blocks(text, size) == [(1, text)]


def test_objects_one_after_another():
    assert rows_by_blocks('{"a": 1}\n{\n"a": 2}{"a": 3}', 4) == [(1, '{"a": 1}'), (2, '{\n"a": 2}'), (3, '{"a": 3}')]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"a": 1},\n{"a": 2}', 2),
        ('[\n{"a": "x}]', 2),
        ('[{"a": 1}\n {"b": 2}]', 2),
        ('{"data": [{"a": 1}]\n, 5}', 2),
        ("[1] nonsense", 1),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_json_that_ends_where_no_row_can_is_refused_with_its_line(text, line, size):
    with pytest.raises(DataError) as caught:
        rows_by_blocks(text, size)
    assert caught.value.where == f"f:{line}"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=4), max_size=6),
    st.integers(1, 40),
    st.booleans(),
)
def test_any_array_comes_back_row_by_row(rows, size, pretty):
    text = json.dumps(rows, indent=1 if pretty else None, ensure_ascii=False)
    found = rows_by_blocks(text, size)
    assert [json.loads(row) for _, row in found] == rows
    lines = text.split("\n")
    for line, row in found:  # the line that is named holds the beginning of the row
        assert row.split("\n")[0] in lines[line - 1]


def test_a_broken_row_of_an_array_is_rejected_alone(raw):
    rows = read_rows(raw("a.json", '[{"q": 1},\n{"q": \'x\'},\n{"q": 2}]'))
    assert [type(row).__name__ for row in rows] == ["RawRow", "Rejected", "RawRow"]
    assert places(rows) == ["a.json:1", "a.json:2", "a.json:3"]


# CSV and TSV


def test_csv_with_quoted_newlines_keeps_the_line_where_a_record_starts(raw):
    name = raw("a.csv", 'question,answer\r\n"a\r\nb","says ""x"", y"\r\n\r\nc,1.10\r\n')
    assert read_rows(name) == [
        RawRow({"question": "a\r\nb", "answer": 'says "x", y'}, "a.csv:2"),
        RawRow({"question": "c", "answer": "1.10"}, "a.csv:5"),
    ]


@pytest.mark.parametrize(("delimiter", "said"), [(",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "pipe")])
def test_the_delimiter_is_sniffed_and_said(raw, delimiter, said):
    lines = [["question", "answer", "note"], ["a, b", "c; d", "e"], ["f", "g, h, i", ""]]
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows(lines)
    name = raw("a.csv" if delimiter != "\t" else "a.tsv", stream.getvalue())
    source = find_sources([name])[0][0]
    assert f"a {said} divides its 3 columns" in source.why
    assert [row.value for row in source.read(None)] == [
        {"question": "a, b", "answer": "c; d", "note": "e"},
        {"question": "f", "answer": "g, h, i", "note": None},
    ]


def test_cells_that_do_not_fit_the_header(raw):
    rows = read_rows(raw("a.csv", 'q,a,\none,two,\none\na,b,c,d\n"x" y,z,\nlast,row,\n'))
    assert rows[0].value == {"q": "one", "a": "two", "column 3": None}
    assert rows[1].value == {"q": "one"}
    assert (rows[2].reason, rows[2].source, rows[2].seen) == (WRONG_CELLS, "a.csv:4", "a,b,c,d")
    assert (rows[3].reason, rows[3].source, rows[3].seen) == (BROKEN_CSV, "a.csv:5", '"x" y,z,')
    assert rows[4].value["q"] == "last"


@pytest.mark.parametrize(
    ("content", "message", "where"),
    [
        ('q,a\n1,2\n"open,3\n4,5\n', "never closes", "a.csv:3"),
        ("q,q\n1,2\n", "Two columns", "a.csv:1"),
        ('"q"x,a\n1,2\n', "header", "a.csv:1"),
        ("only one column\nhere\n", "No rows", "a.csv"),
    ],
)
def test_csv_that_cannot_be_told_apart_is_refused(raw, content, message, where):
    with pytest.raises(DataError, match=message) as caught:
        read_rows(raw("a.csv", content))
    assert caught.value.where == where


# Parquet


def test_parquet_keeps_types_row_numbers_and_row_groups(raw):
    import pyarrow
    import pyarrow.parquet

    raw("x", "")
    table = pyarrow.table({"messages": [[{"role": "user", "content": str(i)}] for i in range(600)], "n": range(600)})
    pyarrow.parquet.write_table(table, "data.bin", row_group_size=100)
    rows = read_rows("data.bin")
    assert len(rows) == 600
    assert rows[599] == RawRow({"messages": [{"role": "user", "content": "599"}], "n": 599}, "data.bin:600")


def test_a_broken_parquet_file_is_an_error_with_words(raw):
    with pytest.raises(DataError, match="Parquet file cannot be read"):
        read_rows(raw("a.parquet", b"PAR1" + b"\0" * 50 + b"PAR1"))


# Folders, other files


def test_a_folder_is_sorted_hidden_files_skipped_and_others_said(raw):
    raw("data/b.jsonl", [QA, QA])
    raw("data/a.csv", "q,a\n1,2\n")
    raw("data/sub/c.txt", [QA, QA])
    raw("data/.hidden.jsonl", [QA])
    raw("data/.git/x.jsonl", [QA])
    raw("data/README.md", "# What it is\n\n| a | b |\n|---|---|\n| c | d |\n| e | f |\n")
    raw("data/photo.png", b"\x89PNG\r\n\x1a\n\0\0")
    sources, skipped = find_sources(["data", "data/b.jsonl"])
    assert [source.name for source in sources] == ["data/a.csv", "data/b.jsonl", "data/sub/c.txt"]
    assert [name for name, _ in skipped] == ["data/README.md", "data/photo.png", "data/b.jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl.gz", b"\x1f\x8b\x08\0", "gzip"),
        ("a.xlsx", b"PK\x03\x04", "Excel"),
        ("a.txt", "just words\nand more\n", "No rows can be made out"),
    ],
)
def test_files_that_are_not_read_say_what_they_are(raw, name, content, said):
    with pytest.raises(DataError, match=said):
        find_sources([raw(name, content)])


def test_missing_and_empty_places_name_the_sample_and_quick_start(raw):
    raw("empty/.gitkeep", "")
    for place in ("nowhere", "empty"):
        with pytest.raises(DataError) as caught:
            find_sources([place])
        assert "cp data/sample/*.jsonl data/raw/" in caught.value.cure
        assert "quick_start.sh" in caught.value.cure


def test_an_empty_file_has_no_rows(raw):
    assert read_rows(raw("a.jsonl", "")) == read_rows(raw("b.json", "\ufeff \n")) == read_rows(raw("c.csv", "")) == []


# The hub


def test_the_hub_is_streamed(monkeypatch):
    asked = {}

    def load_dataset(name, config, *, split, streaming):
        asked.update(name=name, config=config, split=split, streaming=streaming)
        return iter([QA, {"question": "3+3?", "answer": 6}])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    assert places(read_rows("hf:org/name")) == ["hf:org/name:train:1", "hf:org/name:train:2"]
    assert asked == {"name": "org/name", "config": None, "split": "train", "streaming": True}
    assert places(read_rows("hf:org/name/main:test")) == ["hf:org/name/main:test:1", "hf:org/name/main:test:2"]
    assert asked == {"name": "org/name", "config": "main", "split": "test", "streaming": True}


def test_a_part_of_a_split_of_the_hub(monkeypatch):
    asked = []

    class Streamed(list):
        info = types.SimpleNamespace(splits={"train": types.SimpleNamespace(num_examples=10)})

    def load_dataset(name, config, *, split, streaming):
        asked.append(split)
        return Streamed({"question": str(i)} for i in range(10))

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    (source,), _ = find_sources(["hf:org/name:train[80%:]"])
    assert [row.source for row in source.read(None)] == ["hf:org/name:train:9", "hf:org/name:train:10"]
    assert asked == ["train"]


def test_a_hub_that_does_not_answer_is_a_clear_error(monkeypatch):
    def load_dataset(*_, **__):
        raise ConnectionError("no route to the hub\nand more")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(DataError, match="no route to the hub") as caught:
        read_rows("hf:org/name:test")
    assert caught.value.where == "hf:org/name:test"
    with pytest.raises(DataError, match="no data set of the hub"):
        read_rows("hf:name")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))),
        min_size=2,
    )
)
def test_jsonl_and_csv_give_back_any_text(raw, pairs):
    rows = [{"question": q, "answer": a} for q, a in pairs]
    raw("a.jsonl", "".join(json_text(row) + "\n" for row in rows))
    assert [row.value for row in read_rows("a.jsonl")] == rows
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    writer.writerows([("question", "answer"), *pairs])
    raw("a.csv", stream.getvalue())
    expected = [{name: text or None for name, text in row.items()} for row in rows if any(row.values())]
    assert [row.value for row in read_rows("a.csv")] == expected


@pytest.mark.parametrize("depth", [101, 400, 900])
def test_nesting_that_later_work_could_not_walk_through_is_a_broken_row(raw, depth):
    """Python reads it, and would fail to write it again."""
    rows = read_rows(raw("a.jsonl", f'{{"q": {"[" * (depth - 1)}1{"]" * (depth - 1)}}}\n{{"q": [[1], [2]]}}\n'))
    assert [type(row).__name__ for row in rows] == ["Rejected", "RawRow"]
    assert rows[0].detail == "nested too deeply"
    fitting = read_rows(raw("b.jsonl", f'{{"q": {"[" * 99}1{"]" * 99}}}\n{{"q": 1}}\n'))
    assert [type(row).__name__ for row in fitting] == ["RawRow", "RawRow"]


@pytest.mark.parametrize("codec", ["idna", "punycode", "undefined", "utf-7", "unicode_escape"])
def test_an_encoding_of_another_kind_is_an_error_with_words(raw, codec):
    """The codec of host names knows no way to go on behind a wrong byte."""
    with pytest.raises(DataError, match=codec.upper()):
        read_rows(raw("a.jsonl", b'{"q": "\xff\xff\\x"}\n' * 3), encoding=codec)


def test_a_very_wide_table_is_read_in_linear_time(raw):
    began = time.process_time()
    names = [f"c{number}" for number in range(60_000)]
    rows = read_rows(raw("wide.csv", ",".join(names) + "\n" + "1," * 59_999 + "1\n"))
    assert len(rows[0].value) == 60_000
    assert time.process_time() - began < 5  # comparing each name with each took a minute


def test_two_parquet_columns_of_one_name_are_refused(raw):
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(["1"]), pa.array(["2"])], names=["answer", "answer"]), stream)
    with pytest.raises(DataError, match="Two columns are named 'answer'"):
        read_rows(raw("a.parquet", stream.getvalue()))


@pytest.mark.parametrize("kind", ["year 146138", "no such zone"])
def test_a_time_that_python_does_not_know_is_an_error_with_words(raw, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = (
        pa.array([2**62], pa.timestamp("us")) if "year" in kind else pa.array([1], pa.timestamp("us", "Mars/Olympus"))
    )
    stream = io.BytesIO()
    pq.write_table(pa.table({"question": ["a"], "answer": ["b"], "when": column}), stream)
    with pytest.raises(DataError, match="cannot be read after row 0"):
        read_rows(raw("a.parquet", stream.getvalue()))
