"""Examples come back from the columns as they went in, in any order, and from a file without being read into memory."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftlib.tokens.columns import ROWS, in_columns
from sftlib.tokens.examples import IGNORED, Example
from sftlib.tokens.remarks import Found, Remarks
from sftlib.tokens.table import ExampleTable, open_table, write_table

X = IGNORED


def example(mask: list[bool], row: int) -> Example:
    ids = [100 * row + place for place in range(len(mask))]
    labels = [token if trained else X for token, trained in zip(ids, mask, strict=True)]
    return Example(ids, labels, f"ä:{row}", row % 3 > 0, row % 5, row % 2, row % 4)


def test_columns_by_hand() -> None:
    rows = [
        Example([5, 6, 2], [X, 6, 2], "a:1"),
        Example([], [], "a:2"),
        Example([7, 8, 9, 2], [7, X, 9, X], "a:3", False),
    ]
    table = ExampleTable.of(rows)
    assert list(table) == rows
    assert (table.lengths.tolist(), table.supervised.tolist()) == ([3, 0, 4], [2, 0, 2])
    assert table.supervised_before(table.lengths - 1).tolist() == [1, 0, 2]
    assert [table.source(row) for row in range(3)] == ["a:1", "a:2", "a:3"]
    assert (table[-1], table[:2], table[5:]) == (rows[2], rows[:2], [])
    with pytest.raises(IndexError):
        table[3]


@given(st.lists(st.lists(st.booleans(), max_size=7), max_size=9))
def test_any_mask_comes_back(masks: list[list[bool]]) -> None:
    rows = [example(mask, row) for row, mask in enumerate(masks)]
    table = ExampleTable.of(rows)
    assert list(table) == rows
    assert table.supervised.tolist() == [row.supervised for row in rows]


def test_rows_of_several_record_batches_in_any_order(tmp_path: Path) -> None:
    dice = random.Random(0)
    rows = [example(dice.choices([True, False], k=dice.randrange(9)), row) for row in range(2 * ROWS + 3)]
    remarks = Remarks(rows=7, asked=9, marked=Found(2, ["a:1", "a:5"]))
    with open(tmp_path / "t.arrow", "wb") as stream:
        write_table(stream, in_columns(rows), remarks)
    table = open_table(tmp_path / "t.arrow")
    assert (len(table), table.remarks) == (len(rows), remarks)
    for row in [0, ROWS - 1, ROWS, 2 * ROWS, 2 * ROWS + 2, *dice.choices(range(len(rows)), k=200)]:
        assert table[row] == rows[row]
        assert table.source(row) == rows[row].source
    assert table.straddling.tolist() == [row.straddling for row in rows]
    odd = table.lengths % 2 == 1
    chosen = table.select(odd, table.lengths, table.supervised, lambda one: one)
    assert list(chosen) == [row for row in rows if len(row.input_ids) % 2]
    assert chosen.decoder_at.tolist() == [row.decoder_at for row in chosen]


def test_a_file_is_mapped_and_not_read(tmp_path: Path) -> None:
    ids = list(range(2000))
    with open(tmp_path / "t.arrow", "wb") as stream:
        write_table(stream, in_columns(Example(ids, [X, *ids[1:]], "a:1") for _ in range(500)), Remarks())
    assert (tmp_path / "t.arrow").stat().st_size > 4 * 2000 * 500
    before = pa.total_allocated_bytes()
    table = open_table(tmp_path / "t.arrow")
    assert table[499].input_ids == ids
    assert pa.total_allocated_bytes() - before < 100_000
    assert not any(values.flags.owndata for values, _ in table._ids)


def test_a_label_that_is_another_token_is_not_kept() -> None:
    with pytest.raises(AssertionError, match="another token"):
        ExampleTable.of([Example([1, 2], [X, 3], "a:1")])


def test_the_name_of_a_file_that_is_no_unicode_is_spelt_out() -> None:
    assert ExampleTable.of([Example([1], [X], "a\udc80:1")])[0].source == "a\\udc80:1"
